"""Runs that ended long ago are forgotten with all that is theirs, and nothing else is."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext

from canx_flow import Context, InvalidState, Retry, RunNotFound, client, send_event, workflow
from canx_flow.core import clock
from canx_flow.core.identity import first_id_at
from canx_flow.models import Event, RunHistory, RunKey, StepRecord, Timer, WorkflowRun
from canx_flow.states import CANCELLED, COMPLETED, ENDED, FAILED, RUNNING, UNFINISHED, Kind
from canx_flow.store import pruning
from canx_flow.store.db import engine
from canx_flow.store.db.databases import session_for
from canx_flow.store.db.postgresql.statements import FORGET
from canx_flow.store.pruning import Old
from canx_flow.testing import run_until_idle

from ..processes import MANAGE, ROOT, environment

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@workflow("pruning.any", retry=Retry(max_attempts=1))
def anything(ctx: Context, what: str = "") -> None:
    """A step, an event, and an end of the kind asked for."""
    ctx.step("first", str)
    ctx.wait_for("answer", "answered", timeout=0, default=None)
    ctx.wait_for("news", "news", timeout=0, default=None)
    if what == "fail":
        ctx.step("broken", lambda: 1 / 0)


_numbers = itertools.count()


def made_at(moment: datetime) -> UUID:
    """An id as one made at this moment; of two of one moment the later has the greater."""
    return UUID(int=first_id_at(moment).int + next(_numbers))


def run(state: str = COMPLETED, days: float = 40, **more: Any) -> UUID:
    """A run in this state, that ended so many days ago, with a key, a record, a timer and an unread event."""
    began = clock.now() - days * DAY
    ended = began + timedelta(seconds=1) if state in ENDED else None
    values = {
        "workflow": "pruning.any",
        "state": state,
        "ready": False,
        "created_at": began,
        "finished_at": ended,
        **more,
    }
    run_id = WorkflowRun.objects.create(id=made_at(began), **values).id
    RunKey.objects.create(run_id=run_id, workflow="pruning.any", key=str(run_id))
    StepRecord.objects.create(
        run_id=run_id, seq=1, name="first", kind=Kind.STEP, state="completed", started_at=clock.now()
    )
    Timer.objects.create(run_id=run_id, kind=Kind.WAIT, step="kept", event="e", held=True)
    Event.objects.create(run_id=run_id, name="unread", delivered=True)
    return run_id


def old(days: float = 30, **more: Any) -> Old:
    """What ended more than so many days ago."""
    return Old(clock.now() - days * DAY, **more)


def prune(chosen: Old, size: int = 100) -> list[int]:
    """The number of each batch."""
    batches: list[int] = []
    total = pruning.prune("default", chosen, size, batches.append)
    assert total == sum(batches)
    return batches


def left() -> set[UUID]:
    """The runs that are still there; each has all of its rows, and no row is without its run."""
    runs = set(WorkflowRun.objects.values_list("id", flat=True))
    for model in (RunKey, StepRecord, Timer, Event):
        rows = model._default_manager.filter(run_id__isnull=False)
        assert set(rows.values_list("run_id", flat=True)) == runs, model.__name__
    return runs


def test_what_ended_long_ago_goes_with_all_its_rows() -> None:
    """Completed, failed and cancelled; what ended lately, or has not ended, stays, whatever its age."""
    gone = [run(state) for state in ENDED]
    kept = {run(COMPLETED, days=29.9), *(run(state) for state in UNFINISHED)}
    assert prune(old()) == [3]
    assert left() == kept
    assert not WorkflowRun.objects.filter(id__in=gone).exists()
    assert prune(old()) == []


def test_events_that_were_read_go_too() -> None:
    """Those sent to the run; a broadcast that it has read is for others, too."""
    run_id = anything.start()
    anything.send(run_id, "answered")
    anything.send(run_id, "unknown")
    send_event("news")
    run_until_idle()
    assert Event.objects.filter(consumed_by="answer").exists()
    assert StepRecord.objects.filter(run_id=run_id, event_id__isnull=False).count() == 2
    assert prune(old(days=0)) == [1]
    assert [event.name for event in Event.objects.all()] == ["news"]
    assert not StepRecord.objects.exists()


def test_the_waits_of_a_failed_run_go_too() -> None:
    """They were kept for a retry, which cannot come any more."""
    run_id = anything.start("fail")
    run_until_idle()
    Timer.objects.create(run_id=run_id, kind=Kind.SLEEP, step="beside", held=True)
    assert prune(old(days=0)) == [1]
    assert not Timer.objects.exists()
    with pytest.raises(RunNotFound):
        anything.retry(run_id)


def test_batch_by_batch() -> None:
    """Of the size asked for, in the order of their ids, each once."""
    for _ in range(7):
        run()
    kept = run(RUNNING)
    assert prune(old(), size=3) == [3, 3, 1]
    assert left() == {kept}


def _with_records(run_id: UUID, number: int) -> None:
    now = clock.now()
    StepRecord.objects.bulk_create(
        StepRecord(run_id=run_id, seq=seq, name=f"s{seq}", kind="step", state="completed", started_at=now)
        for seq in range(2, number + 1)
    )


def _with_history(run_id: UUID, number: int) -> None:
    now = clock.now()
    RunHistory.objects.bulk_create(RunHistory(run_id=run_id, verb="pause", at=now) for _ in range(number))


@pytest.mark.parametrize("give", [_with_records, _with_history], ids=["records", "history"])
def test_a_batch_has_no_more_rows_than_one_transaction_should(monkeypatch: pytest.MonkeyPatch, give: Any) -> None:
    """Runs with many records come in smaller batches; one that has too many by itself comes alone."""
    monkeypatch.setattr(pruning, "_MOST_RECORDS", 4)
    for number in (2, 2, 9, 2):
        give(run(), number)
    assert prune(old()) == [2, 1, 1]


def test_what_stays_makes_no_batch_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records of runs that ended lately lie between those of the batch."""
    monkeypatch.setattr(pruning, "_MOST_RECORDS", 4)
    first, kept, last = run(), run(finished_at=clock.now()), run()
    StepRecord.objects.bulk_create(
        StepRecord(run_id=kept, seq=seq, name=f"s{seq}", kind="step", state="completed", started_at=clock.now())
        for seq in range(2, 12)
    )
    assert prune(old()) == [2]
    assert left() == {kept}
    assert first < kept < last


def test_only_the_workflows_and_states_asked_for() -> None:
    """Everything else stays."""
    chosen = run(FAILED, workflow="chosen")
    kept = {run(FAILED), run(CANCELLED, workflow="chosen")}
    assert pruning.count("default", old(workflows=["chosen"], states=[FAILED])) == [("chosen", FAILED, 1)]
    assert prune(old(workflows=["chosen"], states=[FAILED])) == [1]
    assert left() == kept
    assert chosen not in kept


def test_counting_changes_nothing() -> None:
    """By workflow and state, in one question."""
    for state, workflow_name in ((COMPLETED, "b"), (COMPLETED, "a"), (COMPLETED, "a"), (FAILED, "a"), (RUNNING, "a")):
        run(state, workflow=workflow_name)
    before = left()
    with CaptureQueriesContext(connection) as queries:
        assert pruning.count("default", old()) == [("a", COMPLETED, 2), ("a", FAILED, 1), ("b", COMPLETED, 1)]
    assert len(queries) == 1
    assert left() == before


@pytest.mark.parametrize("state", [*UNFINISHED, FAILED])
def test_a_child_stays_with_a_parent_that_may_go_on(state: str) -> None:
    """Unfinished, or failed lately: a retry would ask for the child."""
    parent = run(state, days=1)
    child = run(parent_id=parent)
    assert pruning.count("default", old()) == []
    assert prune(old()) == [0]
    assert left() == {parent, child}


@pytest.mark.parametrize("state", ENDED)
def test_a_fork_stays_as_long_as_a_child_of_it_goes_on(state: str) -> None:
    """What was forked from it may wait for that child, too. A run that is no fork is not needed for that."""
    origin, alone = run(), run()
    run(RUNNING, parent_id=alone)
    fork = run(state, seed=origin, forked_from_id=origin)
    child = run(RUNNING, parent_id=fork)
    asked = run(parent_id=fork)
    gone = {origin, alone} if state == FAILED else {origin, alone, asked}
    before = left()
    assert sum(number for *_, number in pruning.count("default", old())) == len(gone)
    assert prune(old()) == [len(gone)]
    assert left() == before - gone

    WorkflowRun.objects.filter(id=child).update(state=COMPLETED, finished_at=clock.now())
    prune(old())
    assert fork not in left()


@pytest.mark.parametrize("chosen", [{"workflows": ["child"]}, {"states": [COMPLETED]}])
def test_a_child_stays_with_an_old_failed_parent_that_was_not_chosen(chosen: dict[str, Any]) -> None:
    """That one is kept, so it may still be retried."""
    parent = run(FAILED)
    child = run(parent_id=parent, workflow="child")
    assert pruning.count("default", old(**chosen)) == []
    assert prune(old(**chosen)) == [0]
    assert left() == {parent, child}


@pytest.mark.parametrize("state", [COMPLETED, CANCELLED])
def test_a_child_goes_when_its_parent_will_not_ask_for_it(state: str) -> None:
    """The parent has ended for good, if lately."""
    parent = run(state, days=1)
    run(parent_id=parent)
    assert prune(old()) == [1]
    assert left() == {parent}


def test_a_child_goes_that_its_parent_had_before_it_continued_as_new() -> None:
    """A parent that never ends would keep the children of all its generations; it asks for those of this one only."""
    parent = run(RUNNING, days=90, continued_at=clock.now() - 50 * DAY)
    run(parent_id=parent, days=60)
    lately, skewed = run(parent_id=parent, days=40), run(parent_id=parent, days=50.02)
    assert pruning.count("default", old()) == [("pruning.any", COMPLETED, 1)]
    assert prune(old()) == [1]
    assert left() == {parent, lately, skewed}


def test_a_child_stays_with_a_failed_parent_that_stays_for_its_own_parent() -> None:
    """That one may still be retried, old as it is: the grandparent is under way."""
    grandparent = run(RUNNING, days=60)
    parent = run(FAILED, parent_id=grandparent)
    child, grandchild = run(parent_id=parent), run(FAILED, parent_id=parent)
    lowest = run(parent_id=grandchild)
    assert prune(old()) == [0]
    assert left() == {grandparent, parent, child, grandchild, lowest}


def test_a_family_goes_together() -> None:
    """Parent and child that are both old, in whatever batch; and a child whose parent is gone already."""
    for size in (1, 100):
        parent = run(FAILED)
        run(FAILED, parent_id=parent)
        assert sum(prune(old(), size=size)) == 2
        assert left() == set()
    run(parent_id=UUID(int=1))
    assert prune(old()) == [1]


def test_a_key_is_free_again() -> None:
    """The run that had it is gone, so another one is started."""
    first = anything.using(key="order-7").start()
    run_until_idle()
    assert anything.using(key="order-7").start() == first
    prune(old(days=0))
    assert anything.using(key="order-7").start() != first


def test_events_of_runs_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were sent while their runs were pruned; broadcasts and events of runs that are there stay."""
    monkeypatch.setattr(pruning, "_RECEIVERS", 2)
    kept = []
    for number in range(5):
        kept.append(("unread", run(days=number)))
        Event.objects.create(run_id=made_at(clock.now() - number * DAY), name="late")
    Event.objects.create(name="broadcast")
    assert pruning.forget_orphans("default") == 5
    assert set(Event.objects.values_list("name", "run_id")) == {*kept, ("broadcast", None)}
    assert pruning.forget_orphans("default") == 0


# -- beside others -------------------------------------------------------------------------------------


def _not_on_sqlite(tier: str) -> None:
    if tier == "sqlite":
        pytest.skip("one lock for all writers: nobody is ever beside anybody")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("retried", ["child", "parent"])
def test_a_run_that_is_retried_at_this_moment_keeps_its_rows(tier: str, retried: str) -> None:
    """The retry is not committed yet: neither the run nor its child is touched, and nobody waits."""
    _not_on_sqlite(tier)
    parent = run(FAILED)
    child = run(FAILED, parent_id=parent)
    other = engine.open_connection("default")
    try:
        with engine.transaction(other):
            with engine.current(other):
                client.retry({"child": child, "parent": parent}[retried])
            prune(old())
            expected = {child} if retried == "child" else {parent, child}
            assert left() == expected
    finally:
        engine.reset(other)
    assert left() == expected


@pytest.mark.django_db(transaction=True)
def test_a_run_retried_between_two_looks_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was old when the batch was chosen, and goes on when the batch is locked."""
    goes_on, gone = run(FAILED), run(FAILED)
    lock = pruning._lock

    def retry_first(*args: Any) -> Any:
        # As if just before the transaction began.
        WorkflowRun.objects.filter(id=goes_on).update(state="pending", ready=True, finished_at=None)
        return lock(*args)

    monkeypatch.setattr(pruning, "_lock", retry_first)
    assert prune(old()) == [1]
    assert left() == {goes_on}
    assert not WorkflowRun.objects.filter(id=gone).exists()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_do_not_get_into_each_others_way() -> None:
    """Together they delete every run once, and neither fails."""
    for _ in range(60):
        run()
    kept = run(RUNNING)
    totals: list[int] = []

    def work() -> None:
        with engine.use_engine_connection("default"):
            totals.append(pruning.prune("default", old(), 7, lambda _: None))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(totals) == 3
    # What one had locked the others have passed by.
    assert sum(totals) == 60
    assert left() == {kept}


@pytest.mark.django_db(transaction=True)
def test_a_retry_after_the_pruning_finds_no_run() -> None:
    """Whoever comes second is told so; there is no run without its records."""
    run_id = run(FAILED)
    prune(old())
    with pytest.raises((RunNotFound, InvalidState)):
        client.retry(run_id)
    assert not StepRecord.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_deadlock_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that lost is repeated as a whole; an outage is not ours to sit out."""
    run()
    session = session_for("default")
    forget, failures = session.forget, [1213, 1205]

    def unlucky(run_ids: Any) -> None:
        forget(run_ids)
        if failures:
            number = failures.pop()
            raise OperationalError(number, "lost") from OperationalError(number, "lost")

    monkeypatch.setattr(session, "forget", unlucky)
    assert prune(old()) == [1]
    run()
    failures.append(2006)
    with pytest.raises(OperationalError):
        prune(old())
    connections["default"].ensure_connection()
    assert len(left()) == 1


@pytest.mark.django_db(transaction=True)
def test_killed_in_the_middle_it_leaves_only_whole_runs() -> None:
    """What a batch has deleted is gone with all that is its run's; the next one to prune does the rest."""
    kept = {run(RUNNING)}
    for _ in range(400):
        run()
    command = [sys.executable, str(MANAGE), "pruneflows", "--older-than", "30", "--batch-size", "3", "-v", "2"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert b"in this batch" in process.stdout.readline()
        process.kill()
    assert kept < left()
    assert sum(prune(old())) < 400
    assert left() == kept


# -- what it costs -------------------------------------------------------------------------------------


def test_no_statement_looks_at_more_runs_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk goes on over what is kept, however much of it lies between what is old."""
    monkeypatch.setattr(pruning, "_MOST_RUNS", 3)
    kept = set()
    for number in range(20):
        if number % 7:
            kept.add(run(RUNNING))
        else:
            run()
    assert prune(old()) == [1, 1, 1]
    assert left() == kept


def test_the_walk_ends_where_no_run_can_be_old() -> None:
    """A run made after the moment cannot have ended before it: of the young nothing is read, however many there are."""
    kept = {run(RUNNING, days=days) for days in (40, 29, 20, 10, 0)}
    with CaptureQueriesContext(connection) as queries:
        assert prune(old()) == []
    assert len(queries) == 2
    assert left() == kept


def test_a_batch_costs_the_same_statements_however_many_runs_it_has() -> None:
    """Two that find it, and those of its transaction."""

    def statements(runs: int) -> int:
        for _ in range(runs):
            run()
        with CaptureQueriesContext(connection) as queries:
            assert prune(old()) == [runs]
        return len(queries)

    assert statements(2) == statements(80)


@pytest.mark.parametrize("ids", [2, 1000])
def test_postgresql_reads_no_table_whole_without_statistics(tier: str, ids: int) -> None:
    """The one statement that deletes a batch reaches its rows by an index, though nothing was analysed."""
    if tier != "postgresql":
        pytest.skip("PostgreSQL's own statement")
    made = clock.now()
    first = first_id_at(made).int
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE canx_flow_steprecord")  # And what was known of it.
        cursor.execute(
            """INSERT INTO canx_flow_steprecord (run_id, seq, name, kind, state, attempts, epoch, started_at, result)
            SELECT gen_random_uuid(), 1, 'n', 'step', 'completed', 1, 1, now(), repeat('x', 700)
            FROM generate_series(1, 100000)"""  # So many pages that they are worth an index a thousand times.
        )
        chosen = [UUID(int=first + number) for number in range(ids)]
        given = {"ids": chosen, "first": chosen[0], "last": chosen[-1]}
        cursor.execute(f"EXPLAIN {FORGET}", given)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan on canx_flow_steprecord" not in plan, plan
