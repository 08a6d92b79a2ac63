"""`result`: waiting for the end of a run, and what comes of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connections

from canx_flow import (
    Context,
    InvalidState,
    OutsideStep,
    Retry,
    RunCancelled,
    RunFailed,
    RunNotFound,
    client,
    workflow,
)
from canx_flow.client import polling
from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle

from ..waiting import wait_until

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@workflow("results.any")
def anything(ctx: Context, what: str = "") -> Any:
    """Ends at once, or gets stuck where `what` says."""
    match what:
        case "sleep":
            ctx.sleep("nap", HOUR)
        case "fail":
            raise ValueError("no")
    return {"ended": (what,)}


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

    @workflow("results.in-step", retry=Retry(max_attempts=1))
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

    @workflow("results.in-body")
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
@pytest.mark.parametrize("was_open", [False, True])
def test_a_thread_that_waits_holds_no_connection_that_it_did_not_have(was_open: bool) -> None:
    """Fifty threads that wait would hold fifty. The caller's own stays: its session may hold a lock, say."""
    run_id = anything.start()
    mine: list[Any] = []
    results: list[Any] = []

    def ask() -> None:
        try:
            mine.append(connections["default"])
            if was_open:
                mine[0].ensure_connection()
            results.append(anything.result(run_id, timeout=60))
        finally:
            connections.close_all()

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: polling.poller._waiting)
    assert (mine[0].connection is not None) is was_open
    run_until_idle()
    thread.join(60)
    assert results == [{"ended": ("",)}]
    wait_until(lambda: not pollers())


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
