"""Asking about runs: `status`, `result`, and the queryset of runs."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, User
from django.db import DatabaseError, connections, transaction
from freezegun import freeze_time

from canx_flow import (
    Context,
    InvalidState,
    NotDecodable,
    OutsideStep,
    Retry,
    RunCancelled,
    RunFailed,
    RunNotFound,
    client,
    get_run,
    workflow,
)
from canx_flow.client import polling
from canx_flow.core import clock, registry
from canx_flow.models import Timer, WorkflowRun
from canx_flow.store import claims, leases
from canx_flow.testing import advance, run_until_idle

from ..models import Effect
from ..waiting import wait_until

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fail() -> None:
    """A step that never succeeds."""
    raise ValueError("no")


@workflow("status.any", retry=Retry(max_attempts=3, initial=60, factor=2, jitter=0))
def anything(ctx: Context, what: str = "") -> Any:
    """Ends at once, or gets stuck where `what` says."""
    match what:
        case "sleep":
            ctx.sleep("nap", HOUR)
        case "wait":
            ctx.wait_for("answer", "answered", key="order-7", timeout=HOUR)
        case "step":
            ctx.step("flaky", fail)
        case "fail":
            raise ValueError("no")
    return {"ended": (what,)}


#: What a run's status says where nothing else is known.
PLAIN: dict[str, Any] = {
    "workflow": "status.any",
    "version": "",
    "reason": "",
    "step": None,
    "resume_at": None,
    "waits": (),
    "attempt": 1,
    "generation": 0,
    "attributes": {},
    "progress": None,
    "result": None,
    "error": None,
    "parent_id": None,
    "created_at": START,
    "started_at": START,
    "finished_at": None,
}


def assert_status(run_id: UUID, **expected: Any) -> None:
    """Every field of the run's status: those given, all others as in PLAIN."""
    assert dataclasses.asdict(anything.status(run_id)) == {"id": run_id, **PLAIN, **expected}


def claim(run_id: UUID) -> UUID:
    """Have a live worker claim this one run; the worker's id."""
    worker = leases.register(host="elsewhere", pid=1)
    claimed = claims.claim(connections["default"], worker.id, 1, registry.identities())
    assert [run.id for run in claimed] == [run_id]
    return worker.id


# -- status, state by state ------------------------------------------------------------------------------


@freeze_time(START)
def test_status_of_a_pending_run() -> None:
    """Nobody has claimed it, so it has not started."""
    assert_status(anything.start(), state="pending", started_at=None)


@freeze_time(START)
def test_status_of_a_delayed_start() -> None:
    """It sleeps with no step, until its time."""
    run_id = anything.using(delay=HOUR).start()
    wait = {"step": None, "kind": "start", "event": None, "key": None, "resume_at": START + HOUR}
    assert_status(run_id, state="sleeping", started_at=None, resume_at=START + HOUR, waits=(wait,))


@freeze_time(START)
def test_status_of_a_running_run() -> None:
    """Its step, attempt and progress are what its worker last reported: nothing yet, or the last heartbeat."""
    run_id = anything.start()
    worker = claim(run_id)
    assert_status(run_id, state="running")
    said = {"step": "charge", "attempt": 3, "progress": {"done": 1, "total": 2, "message": "half"}}
    leases.beat(worker, activity=json.dumps({str(run_id): said}))
    assert_status(run_id, state="running", **said)


@freeze_time(START)
def test_status_of_a_sleeping_run() -> None:
    """The step is the sleep, the time its end."""
    run_id = anything.start("sleep")
    run_until_idle()
    wait = {"step": "nap", "kind": "sleep", "event": None, "key": None, "resume_at": START + HOUR}
    assert_status(run_id, state="sleeping", step="nap", resume_at=START + HOUR, waits=(wait,))


@freeze_time(START)
def test_status_of_a_waiting_run() -> None:
    """The step is the wait, with its event and key, and the time is its timeout."""
    run_id = anything.start("wait")
    run_until_idle()
    wait = {"step": "answer", "kind": "wait", "event": "answered", "key": "order-7", "resume_at": START + HOUR}
    assert_status(run_id, state="waiting", step="answer", resume_at=START + HOUR, waits=(wait,))


def test_status_of_a_retrying_run() -> None:
    """The step is the one that failed, the attempt the one to come, the time when it comes."""
    with freeze_time(START):
        run_id = anything.start("step")
        run_until_idle()
        for attempt, seconds in ((2, 60), (3, 60 + 120)):
            moment = START + timedelta(seconds=seconds)
            wait = {"step": "flaky", "kind": "retry", "event": None, "key": None, "resume_at": moment}
            assert_status(run_id, state="retrying", step="flaky", attempt=attempt, resume_at=moment, waits=(wait,))
            advance(moment - clock.now())


@freeze_time(START)
def test_status_of_a_paused_run() -> None:
    """It shows what it was waiting for, and until when."""
    run_id = anything.start("sleep")
    run_until_idle()
    anything.pause(run_id, "wait a minute")
    wait = {"step": "nap", "kind": "sleep", "event": None, "key": None, "resume_at": START + HOUR}
    assert_status(run_id, state="paused", step="nap", resume_at=START + HOUR, waits=(wait,))


@freeze_time(START)
def test_status_of_a_parked_run() -> None:
    """Its reason says what somebody must do."""
    run_id = anything.start()
    WorkflowRun.objects.filter(id=run_id).update(version="gone")
    run_until_idle()
    reason = anything.status(run_id).reason
    assert reason.startswith("UnknownWorkflow")
    assert "'status.any@gone'" in reason
    assert_status(run_id, state="parked", version="gone", reason=reason, started_at=None)


@freeze_time(START)
def test_status_of_a_stopping_run() -> None:
    """Its reason is the one given to cancel, its step what the worker still does."""
    run_id = anything.start()
    worker = claim(run_id)
    leases.beat(worker, activity=json.dumps({str(run_id): {"step": "charge", "attempt": 1, "progress": None}}))
    anything.cancel(run_id, "enough")
    assert_status(run_id, state="stopping", reason="enough", step="charge")


def test_status_of_a_completed_run() -> None:
    """The result is decoded, with its types."""
    with freeze_time(START):
        run_id = anything.start("sleep")
        advance(HOUR)
        assert_status(run_id, state="completed", result={"ended": ("sleep",)}, finished_at=START + HOUR)


def test_status_of_a_failed_run() -> None:
    """The error holds type, message, traceback and time; and the step, where one ended the run."""
    with freeze_time(START):
        run_id = anything.start("fail")
        run_until_idle()
        error = anything.status(run_id).error
        assert error is not None
        assert_status(run_id, state="failed", reason="ValueError", error=error, finished_at=START)
        assert (error["type"], error["message"], error["at"]) == ("builtins.ValueError", "no", START.isoformat())
        assert 'raise ValueError("no")' in error["traceback"]
        assert "step" not in error
        by_step = anything.start("step")
        advance(HOUR)
        error = anything.status(by_step).error
        assert error is not None
        assert (error["type"], error["step"]) == ("canx_flow.exceptions.StepFailed", "flaky")
        assert anything.status(by_step).reason == "StepFailed"


@freeze_time(START)
def test_status_of_a_cancelled_run() -> None:
    """The reason is the one given."""
    run_id = anything.start("sleep")
    run_until_idle()
    anything.cancel(run_id, "no longer needed")
    assert_status(run_id, state="cancelled", reason="no longer needed", finished_at=START)


# -- status, field by field --------------------------------------------------------------------------------


@pytest.mark.once
def test_a_status_is_a_frozen_value() -> None:
    """It is what was true when it was asked for, and cannot be changed."""
    status = anything.status(anything.start())
    run_until_idle()
    assert (status.state, status.ended) == ("pending", False)
    assert anything.status(status.id).ended
    with pytest.raises(dataclasses.FrozenInstanceError):
        status.state = "completed"  # type: ignore[misc]


def test_ids_may_be_text() -> None:
    """Every way to write a UUID finds the run."""
    run_id = anything.start()
    assert {anything.status(text).id for text in (str(run_id), run_id.hex, str(run_id).upper(), run_id)} == {run_id}
    assert get_run(str(run_id)) == anything.status(run_id) == async_to_sync(anything.astatus)(run_id)


def test_waits_are_listed_with_the_one_due_first_at_the_front() -> None:
    """State, step and time are those of the wait due first; waits without a time come last, and a deadline is none."""
    with freeze_time(START):
        run_id = anything.using(timeout=60).start("sleep")
        run_until_idle()
        # What branches will leave, once a run can have them.
        for step, minutes in (("c", 90), ("d", None), ("a", 30), ("b", 45)):
            due_at = None if minutes is None else START + timedelta(minutes=minutes)
            Timer.objects.create(run_id=run_id, step=step, kind="wait", due_at=due_at, event=f"{step}-came")
        status = anything.status(run_id)
    assert [wait.step for wait in status.waits] == ["a", "b", "nap", "c", "d"]
    assert [wait.event for wait in status.waits] == ["a-came", "b-came", None, "c-came", "d-came"]
    assert (status.step, status.resume_at) == ("a", START + timedelta(minutes=30))


def test_attributes_and_progress_are_shown() -> None:
    """What the body published stands on the run with its next commit, over what it was started with."""

    @workflow("status.published")
    def publishing(ctx: Context) -> None:
        ctx.set_attributes(stage="new", count=1)
        ctx.progress(1, 3, "reading")
        ctx.sleep("nap", HOUR)
        ctx.set_attributes(stage="old", tags=["a", {"b": None}])
        ctx.progress(3.0, message="done")

    run_id = publishing.using(attributes={"customer": "ada", "stage": "none"}).start()
    assert publishing.status(run_id).attributes == {"customer": "ada", "stage": "none"}
    run_until_idle()
    status = publishing.status(run_id)
    assert status.attributes == {"customer": "ada", "stage": "new", "count": 1}
    assert status.progress == {"done": 1, "total": 3, "message": "reading"}
    advance(HOUR)
    status = publishing.status(run_id)
    assert status.attributes == {"customer": "ada", "stage": "old", "count": 1, "tags": ["a", {"b": None}]}
    assert status.progress == {"done": 3.0, "total": None, "message": "done"}


def test_a_status_is_shown_even_where_the_results_class_is_gone() -> None:
    """A result that no longer decodes is left out of the status; asking for it says why it cannot be had."""
    run_id = anything.start()
    run_until_idle()
    WorkflowRun.objects.filter(id=run_id).update(result='{"$dataclass":["tests.gone:Class",{"x":1}]}')
    status = anything.status(run_id)
    assert (status.state, status.result) == ("completed", None)
    with pytest.raises(NotDecodable, match=r"tests\.gone"):
        anything.result(run_id)


# -- result ------------------------------------------------------------------------------------------------


def test_the_result_of_an_ended_run_is_there_at_once() -> None:
    """Completed: what the body returned. Failed and cancelled: an error that says so. Also inside a transaction."""
    completed, failed, cancelled = anything.start(), anything.start("fail"), anything.start("sleep")
    run_until_idle()
    anything.cancel(cancelled, "no longer needed")
    assert anything.result(completed) == {"ended": ("",)}
    assert async_to_sync(anything.aresult)(str(completed)) == {"ended": ("",)}
    with pytest.raises(RunFailed, match="ValueError: no") as failure:
        anything.result(failed)
    assert failure.value.run_id == failed
    assert failure.value.error == anything.status(failed).error
    with pytest.raises(RunCancelled, match="no longer needed") as cancellation:
        async_to_sync(anything.aresult)(cancelled)
    assert (cancellation.value.run_id, cancellation.value.reason) == (cancelled, "no longer needed")


@pytest.mark.parametrize("state", ["pending", "sleeping", "paused", "parked"])
def test_the_result_of_a_run_under_way_is_refused_in_a_transaction(state: str) -> None:
    """Inside a transaction nobody would ever see it end: InvalidState instead of a wait without end."""
    run_id = anything.start("sleep")
    if state != "pending":
        run_until_idle()
        WorkflowRun.objects.filter(id=run_id).update(state=state)
    with pytest.raises(InvalidState, match="transaction"):
        anything.result(run_id, timeout=60)
    with pytest.raises(InvalidState, match="transaction"):
        async_to_sync(anything.aresult)(run_id, timeout=60)


@pytest.mark.once
def test_result_inside_a_step_is_refused() -> None:
    """A step that waits for another run would hold its slot: InvalidState, also for a run that has ended."""
    done = anything.start()
    run_until_idle()

    @workflow("status.in-step", retry=Retry(max_attempts=1))
    def asking(ctx: Context) -> None:
        ctx.step("ask", anything.result, done)

    run_id = asking.start()
    run_until_idle()
    error = asking.status(run_id).error
    assert error is not None
    assert "InvalidState" in error["message"]


@pytest.mark.once
@pytest.mark.parametrize("call", ["status", "result", "runs"])
def test_asking_in_the_body_outside_a_step_is_refused(call: str) -> None:
    """A read in the body would differ from replay to replay: OutsideStep."""
    met: list[Exception] = []

    @workflow("status.in-body")
    def asking(ctx: Context) -> None:
        try:
            client.runs() if call == "runs" else getattr(anything, call)(ctx.run_id)
        except OutsideStep as error:
            met.append(error)

    asking.start()
    run_until_idle()
    assert len(met) == 1
    assert call in str(met[0])


@contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run `function` beside the test, with connections of its own that are closed with it."""

    def run() -> None:
        try:
            function()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive()


def pollers() -> list[threading.Thread]:
    """The threads of this process that look for ends."""
    return [thread for thread in threading.enumerate() if thread.name == "canx_flow results"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("twin", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "deleted"])
def test_result_waits_until_somebody_ends_the_run(end: str, twin: bool) -> None:
    """Another thread ends the run: the waiter gets its result, or the error that says how it ended."""
    run_id = anything.start("fail" if end == "failed" else "")
    ask = async_to_sync(anything.aresult) if twin else anything.result

    def finish() -> None:
        wait_until(pollers)
        match end:
            case "cancelled":
                anything.cancel(run_id, "elsewhere")
            case "deleted":
                WorkflowRun.objects.filter(id=run_id).delete()
            case _:
                run_until_idle()

    with in_thread(finish):
        if end == "completed":
            assert ask(run_id) == {"ended": ("",)}
        else:
            error = {"failed": RunFailed, "cancelled": RunCancelled, "deleted": RunNotFound}[end]
            with pytest.raises(error, match=str(run_id)):
                ask(run_id, timeout=60)
    wait_until(lambda: not pollers())


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
def test_result_without_a_thread_is_an_error_and_leaves_no_waiter() -> None:
    """Where no thread is to be had, the caller is told; the next one is served, and nobody is waited for any more."""
    run_id, other = anything.using(delay=3600).start(), anything.start()
    wait_until(lambda: not pollers())
    before = threading.stack_size(1 << 46)
    try:
        with pytest.raises((RuntimeError, MemoryError)):
            anything.result(run_id, timeout=60)
    finally:
        threading.stack_size(before)
    with in_thread(run_until_idle):
        assert anything.result(other, timeout=60) == {"ended": ("",)}
    wait_until(lambda: not pollers())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("twin", [False, True], ids=["plain", "async"])
def test_result_tells_what_the_database_refuses(twin: bool) -> None:
    """A table that is gone is no run to wait for: each waiter's caller is told, and later ones are served."""
    run_id = anything.start()
    ask = async_to_sync(anything.aresult) if twin else anything.result
    renamed = "ALTER TABLE {} RENAME TO {}"

    def take_away() -> None:
        wait_until(pollers)
        with connections["default"].cursor() as cursor:
            cursor.execute(renamed.format("canx_flow_workflowrun", "canx_flow_elsewhere"))

    try:
        with in_thread(take_away), pytest.raises(DatabaseError, match="canx_flow_workflowrun"):
            ask(run_id, timeout=60)
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute(renamed.format("canx_flow_elsewhere", "canx_flow_workflowrun"))
    with in_thread(run_until_idle):
        assert ask(run_id, timeout=60) == {"ended": ("",)}
    wait_until(lambda: not pollers())


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_waits_for_nobody_of_its_parent() -> None:
    """A process that is forked while its parent waits for a result has neither its thread nor its waiters."""
    run_id = anything.start()

    def fork() -> None:
        wait_until(pollers)
        child = os.fork()
        if child == 0:
            os._exit(bool(polling.poller._waiting) or polling.poller._mutex.locked())
        left.append(os.waitpid(child, 0)[1])
        run_until_idle()

    left: list[int] = []
    with in_thread(fork):
        assert anything.result(run_id, timeout=60) == {"ended": ("",)}
    assert left == [0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("twin", [False, True], ids=["plain", "async"])
def test_result_gives_up_after_its_timeout(twin: bool) -> None:
    """The builtin TimeoutError, naming the run and the time; the run is none the worse for it."""
    run_id = anything.start()
    ask = async_to_sync(anything.aresult) if twin else anything.result
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError, match=str(run_id)) as gave_up:
            ask(run_id, timeout=timeout)
        assert type(gave_up.value) is TimeoutError
        assert f"{timeout:g} s" in str(gave_up.value)
    wait_until(lambda: not pollers())
    run_until_idle()
    assert ask(run_id, timeout=0) == {"ended": ("",)}


@pytest.mark.once
@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1"])
def test_a_bad_timeout_of_result_is_refused_at_the_call(timeout: Any) -> None:
    """Negative, endless or no number: refused, naming the argument."""
    run_id = anything.start()
    run_until_idle()
    for ask in (anything.result, async_to_sync(anything.aresult)):
        with pytest.raises((TypeError, ValueError), match="timeout"):
            ask(run_id, timeout=timeout)


@pytest.mark.django_db(transaction=True)
def test_one_poller_serves_every_waiter() -> None:
    """Eight threads wait for eight runs, some with others: one thread looks for all of them, and then is gone."""
    run_ids = [anything.start() for _ in range(4)]
    results: list[Any] = []

    def ask(run_id: UUID) -> None:
        try:
            results.append(anything.result(run_id, timeout=timedelta(seconds=60)))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask, args=(run_id,)) for run_id in run_ids * 2]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(map(len, polling.poller._waiting.values())) == len(threads))
    assert len(pollers()) == 1
    run_until_idle()
    for thread in threads:
        thread.join(60)
    assert results == [{"ended": ("",)}] * 8
    wait_until(lambda: not pollers())


# -- the queryset of runs ------------------------------------------------------------------------------------


def test_runs_are_those_of_every_version_of_the_workflow() -> None:
    """`wf.runs` spans the versions of its name, and no other workflow's."""

    @workflow("status.versions", version="1")
    def first(ctx: Context) -> None: ...

    @workflow("status.versions", version="2")
    def second(ctx: Context) -> None: ...

    ids = {first.start(), second.start()}
    other = anything.start()
    assert set(first.runs.values_list("id", flat=True)) == set(second.runs.values_list("id", flat=True)) == ids
    assert set(client.runs().values_list("id", flat=True)) == {*ids, other}


def test_runs_are_filtered_by_state() -> None:
    """`states` takes one or several."""
    asleep, done, failed = anything.start("sleep"), anything.start(), anything.start("fail")
    run_until_idle()
    assert anything.runs.states("failed").get().id == failed
    assert set(anything.runs.states("sleeping", "completed").values_list("id", flat=True)) == {asleep, done}
    assert not anything.runs.states("paused").exists()


def test_runs_are_found_by_their_subject() -> None:
    """Any saved object may be one; two models with equal keys are two subjects, and a deleted one leaves its run."""
    ada, grace = User.objects.create(username="ada"), User.objects.create(username="grace")
    group = Group.objects.create(id=ada.pk, name="programmers")
    effect = Effect.objects.create(name="e")
    ids = {str(subject): anything.using(subject=subject).start() for subject in (ada, grace, group, effect)}
    for subject in (ada, grace, group, effect):
        run_id = ids[str(subject)]
        run = WorkflowRun.objects.for_subject(subject).get()
        assert (run.id, run.subject) == (run_id, subject)
    assert anything.runs.for_subject(ada).states("pending").count() == 1
    proxy = User.objects.only("username").get(id=ada.pk)
    assert WorkflowRun.objects.for_subject(proxy).get().id == ids["ada"]
    label, key = WorkflowRun.objects.filter(id=ids["ada"]).values_list("subject_type", "subject_id").get()
    assert (label, key) == ("auth.User", str(ada.pk))
    ada.delete()
    assert WorkflowRun.objects.get(id=ids["ada"]).subject is None
    run_until_idle()
    assert anything.status(ids["ada"]).state == "completed"


@pytest.mark.once
@pytest.mark.parametrize(
    ("subject", "error"), [(User(username="new"), ValueError), (User, TypeError), ("ada", TypeError), (7, TypeError)]
)
def test_a_subject_that_is_not_saved_is_refused(subject: Any, error: type[Exception]) -> None:
    """An object without a row, or no object at all: refused, naming the argument."""
    with pytest.raises(error, match="subject"):
        anything.using(subject=subject).start()
    with pytest.raises(error, match="subject"):
        WorkflowRun.objects.for_subject(subject)
    assert not WorkflowRun.objects.exists()


ATTRIBUTES: list[dict[str, Any]] = [
    {"city": "Zürich", "size": 1},
    {"city": "zürich", "size": 1.5},
    {"city": "Zurich", "size": True},
    {"city": None, "size": None},
    {"city": "", "size": "1"},
    {"tags": ["a", "b"], "place": {"city": "Bern", "zip": 3000}},
    {"order__state": "odd", "contains": "odd", "in": 1, "a.b": 1, 'quo"te': 1, "$": 1},
    {"order": {"state": "odd"}},
    {},
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"city": "Zürich"}, [0]),
        ({"city": "zürich"}, [1]),
        ({"city": "Zurich"}, [2]),
        ({"city": "ZURICH"}, []),
        ({"city": None}, [3]),
        ({"city": ""}, [4]),
        ({"size": 1}, [0]),
        ({"size": True}, [2]),
        ({"size": False}, []),
        ({"size": "1"}, [4]),
        ({"size": 1.5}, [1]),
        ({"city": "Zürich", "size": 1}, [0]),
        ({"city": "Zürich", "size": 2}, []),
        ({"tags": ["a", "b"]}, [5]),
        ({"tags": ["a"]}, []),
        ({"tags": ["b", "a"]}, []),
        ({"tags": "a"}, []),
        ({"place": {"zip": 3000, "city": "Bern"}}, [5]),
        ({"place": {"city": "Bern"}}, []),
        ({"order__state": "odd"}, [6]),
        ({"contains": "odd"}, [6]),
        ({"in": 1}, [6]),
        ({"a.b": 1}, [6]),
        ({'quo"te': 1}, [6]),
        ({"$": 1}, [6]),
        ({"unknown": 1}, []),
        ({"unknown": None}, []),
        ({}, list(range(9))),
    ],
    ids=str,
)
def test_runs_are_found_by_their_attributes(wanted: dict[str, Any], found: list[int]) -> None:
    """A run matches if it has every attribute with exactly that value, whatever the name; the same on each database."""
    ids = [anything.using(attributes=attributes).start() for attributes in ATTRIBUTES]
    matched = set(anything.runs.with_attributes(**wanted).values_list("id", flat=True))
    assert [number for number, run_id in enumerate(ids) if run_id in matched] == found


def test_runs_are_found_by_attributes_that_the_body_set() -> None:
    """What the run published is found as what it was started with."""

    @workflow("status.attributes")
    def publishing(ctx: Context) -> None:
        ctx.set_attributes(stage="packed")
        ctx.sleep("nap", HOUR)
        ctx.set_attributes(stage="sent")

    run_id = publishing.using(attributes={"stage": "new"}).start()
    for stage in ("new", "packed", "sent"):
        assert publishing.runs.with_attributes(stage=stage).get().id == run_id
        assert publishing.runs.with_attributes(stage=stage).states(publishing.status(run_id).state).exists()
        advance(HOUR if stage == "packed" else 0)


def test_a_rolled_back_start_leaves_nothing_to_ask_about() -> None:
    """The run existed for its transaction only."""
    with transaction.atomic():
        run_id = anything.start()
        assert anything.status(run_id).state == "pending"
        transaction.set_rollback(True)
    with pytest.raises(RunNotFound):
        anything.status(run_id)
