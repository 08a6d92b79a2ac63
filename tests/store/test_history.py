"""What was done to a run is noted with it: by whom, from where, and why; and its ordinary way costs no row."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from canx_flow import Context, client, workflow
from canx_flow.core import clock, registry
from canx_flow.core.changes import Change, Settle
from canx_flow.insight import timeline
from canx_flow.insight.history import Entry
from canx_flow.models import RunHistory, Worker, WorkflowRun
from canx_flow.store import claims, history, leases, writes
from canx_flow.testing import run_until_idle

from ..admin import runs
from ..admin.runs import HOUR, at_rest

pytestmark = pytest.mark.django_db(transaction=True)

#: A statement that reads or writes the history, or reads a worker.
NOTING = re.compile(r"\b(FROM|INTO) .?(canx_flow_runhistory|canx_flow_worker)\b")


def told(run_id: UUID) -> list[tuple[str, str, str, str]]:
    """Whose it was, by whom, what and why: oldest first."""
    return [(e.actor, e.by, e.verb, e.reason) for e in reversed(timeline.load(run_id).history)]


def last(run_id: UUID) -> Entry:
    """What was done to it last."""
    return timeline.load(run_id).history[0]


def test_what_every_run_does_has_no_row() -> None:
    """To be claimed, to sleep, to wake, to fail once and be tried again, and to complete."""
    for what in ("", "sleep", "wait", "retry"):
        run_id = at_rest(what)
        if what == "wait":
            client.send(run_id, "answered")
        clock.shift(HOUR)
        run_until_idle()
        assert WorkflowRun.objects.get(id=run_id).state in ("completed", "retrying")
    assert not RunHistory.objects.exists()


def test_no_statement_of_the_ordinary_way_names_the_table() -> None:
    """The hot path does not even look at it."""
    with CaptureQueriesContext(connection) as captured:
        at_rest("sleep")
        clock.shift(2 * HOUR)
        run_until_idle()
    assert captured.captured_queries
    assert not [query["sql"] for query in captured if "runhistory" in query["sql"]]


CALLS: list[tuple[str, str, Callable[[UUID], object]]] = [
    ("cancel", "sleep", lambda run_id: client.cancel(run_id, "why", by="ada")),
    ("pause", "sleep", lambda run_id: client.pause(run_id, "why", by="ada")),
    ("wake", "sleep", lambda run_id: client.wake(run_id, "why", by="ada")),
    ("retry", "fail", lambda run_id: client.retry(run_id, "why", by="ada")),
    ("rerun", "fail", lambda run_id: client.rerun(run_id, "why", by="ada")),
    ("fork", "fail", lambda run_id: client.fork(run_id, "hopeless", "why", by="ada")),
    ("send", "wait", lambda run_id: client.send(run_id, "answered", 1, reason="why", by="ada")),
]


@pytest.mark.parametrize(("verb", "what", "call"), CALLS, ids=[verb for verb, _what, _call in CALLS])
def test_a_control_call_is_noted(verb: str, what: str, call: Callable[[UUID], object]) -> None:
    """With who made it, from where, and why."""
    run_id = at_rest(what)
    call(run_id)
    entry = next(entry for entry in timeline.load(run_id).history if entry.verb == verb)
    assert (entry.actor, entry.by, entry.channel, entry.reason) == ("people", "ada", "code", "why")


def test_resume_is_noted_and_a_second_pause_is_not() -> None:
    """What changed nothing is no entry."""
    run_id = runs.paused()
    client.pause(run_id)
    client.resume(run_id, "go", by="bob")
    assert told(run_id) == [("people", "ada", "pause", "lunch"), ("people", "bob", "resume", "go")]


@pytest.mark.parametrize("verb", ["rerun", "fork"])
def test_both_runs_tell_of_a_fork_or_rerun(verb: str) -> None:
    """The old one names the new one, and the other way round."""
    run_id = at_rest("fail")
    new = client.rerun(run_id) if verb == "rerun" else client.fork(run_id, "hopeless")
    assert (last(run_id).verb, last(run_id).other) == (verb, new)
    assert (last(new).verb, last(new).other) == ("start", run_id)


def test_a_call_that_is_rolled_back_leaves_no_entry() -> None:
    """It stands or falls with what it tells of."""
    run_id = at_rest("sleep")
    with transaction.atomic():
        client.cancel(run_id)
        assert RunHistory.objects.exists()
        transaction.set_rollback(True)
    assert not RunHistory.objects.exists()


def test_the_terminal_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Who sat there, and `flow show` prints it."""
    run_id = at_rest("sleep")
    call_command("flow", "pause", str(run_id), "--reason", "lunch")
    assert (last(run_id).channel, last(run_id).by.partition(":")[0]) == ("terminal", "terminal")
    capsys.readouterr()
    call_command("flow", "show", str(run_id))
    printed = capsys.readouterr().out
    assert "history" in printed
    assert "pause -> paused: lunch" in printed


def test_a_recovery_names_the_worker_and_its_number() -> None:
    """Its owner has died: the engine took the run back."""
    run_id = runs.running()
    worker = Worker.objects.get()
    Worker.objects.update(name="shop-1")
    leases.declare_dead(worker.id)
    leases.recover(worker.id)
    entry = last(run_id)
    assert (entry.actor, entry.by, entry.verb, entry.detail) == ("engine", "shop-1", "recover", "1")


def test_parking_unparking_and_a_deadline_are_noted() -> None:
    """What the engine does beyond a run's ordinary way."""
    parked = runs.parked()
    assert [(actor, verb) for actor, _by, verb, _why in told(parked)] == [("engine", "park")]
    assert told(parked)[0][3].startswith("UnknownWorkflow")
    WorkflowRun.objects.filter(id=parked).update(version="")
    run_until_idle()
    assert [verb for _actor, _by, verb, _why in told(parked)] == ["park", "unpark"]
    late = runs.out_of_time()
    assert told(late) == [("engine", "", "time out", "RunTimedOut")]


def test_a_new_generation_and_a_failure_are_noted() -> None:
    """Both take something from the run's own columns that is told nowhere else."""

    @workflow("history.again")
    def again(ctx: Context, left: int) -> None:
        if left:
            ctx.continue_as_new(left - 1)
        raise ValueError("no luck")

    run_id = again.start(2)
    run_until_idle()
    assert [verb for _actor, _by, verb, _why in told(run_id)] == ["continue as new", "continue as new", "fail"]


def test_runs_that_fail_in_one_batch_are_noted_together() -> None:
    """However many they are, and though each has an error of its own; for the worker's name it is asked once."""
    ours = connections["default"]
    worker = leases.register(host="here", pid=7, workflows=registry.identities())
    asked = []
    for number in (3, 9):
        for _ in range(number):
            runs.anything.start()
        changes = [
            Change(run.id, run.epoch, settle=Settle("failed", error=f'{{"message": "{run.id}"}}', reason=str(run.id)))
            for run in claims.claim(ours, worker.id, number, registry.identities())
        ]
        with CaptureQueriesContext(ours) as captured:
            assert [outcome.stored for outcome in writes.write(ours, worker.id, changes)] == [True] * number
        asked.append(sum(bool(NOTING.search(query["sql"])) for query in captured))
    assert RunHistory.objects.filter(verb="fail", by=str(worker)).count() == 12
    assert asked == [3, 2]


def test_children_that_are_cancelled_with_their_parent_tell_by_whom() -> None:
    """One call, an entry on each run that it has ended."""
    parent, child = at_rest("sleep"), at_rest("sleep")
    WorkflowRun.objects.filter(id=child).update(parent_id=parent)
    client.cancel(parent, "why", by="ada")
    assert told(child) == [("people", "ada", "cancel", "why")]


def test_what_code_sends_is_told_from_the_event_itself() -> None:
    """No row for it; and what people send is told once."""
    run_id = at_rest("sleep")
    client.send(run_id, "from-code", 1)
    client.send(run_id, "from-ada", 1, by="ada")
    assert RunHistory.objects.count() == 1
    assert told(run_id) == [("people", "", "send", ""), ("people", "ada", "send", "")]


def test_a_run_keeps_a_bounded_number_of_rows() -> None:
    """The oldest go, some at a time."""
    run_id = at_rest("sleep")
    RunHistory.objects.bulk_create(
        RunHistory(run_id=run_id, at=clock.now() - timedelta(days=1), actor="engine", verb="park", detail=str(number))
        for number in range(history.MOST + history._SLACK)
    )
    client.pause(run_id, by="ada")
    kept = list(RunHistory.objects.filter(run_id=run_id).order_by("-id"))
    assert len(kept) == history.MOST
    assert kept[0].by == "ada"
    assert kept[-1].detail == str(history._SLACK + 1)


def test_a_long_reason_is_cut() -> None:
    """The run itself keeps all of the last one."""
    run_id = at_rest("sleep")
    client.pause(run_id, "x" * 10_000)
    assert len(last(run_id).reason) == history.MOST_REASON
