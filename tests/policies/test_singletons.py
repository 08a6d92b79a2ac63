"""`using(singleton=…)`: at most one run that has not ended holds a name, whatever happens at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from canx_flow import AlreadyStarted, Context, InvalidState, send_event, workflow
from canx_flow.models import RunKey, RunSingleton, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

from ..elsewhere import elsewhere
from ..models import Effect
from .shared import undone, work

pytestmark = pytest.mark.django_db(transaction=True)

RIVALS = 8
one = work.using(singleton="sync:7")


def holder() -> UUID | None:
    """The run that holds the name."""
    return RunSingleton.objects.filter(workflow="policies.work", key="sync:7").values_list("run_id", flat=True).first()


def all_at_once(call: Callable[[int], Any], number: int = RIVALS) -> list[Any]:
    """What each of so many threads gets from `call`, begun together: an exception, where it raised one."""
    barrier = threading.Barrier(number, timeout=60)

    def one(mine: int) -> Any:
        barrier.wait()
        try:
            return call(mine)
        except AlreadyStarted as error:
            return error

    calls = [elsewhere(lambda mine=mine: one(mine)) for mine in range(number)]
    return [each.result(90) for each in calls]


# -- C114 ------------------------------------------------------------------------------------------


def test_c114_a_second_start_gets_the_run_that_holds_the_name() -> None:
    """While the first has not ended, a second start returns its id; after the end the name is free."""
    first = one.start("wait")
    run_until_idle()
    assert one.start("wait") == first
    assert WorkflowRun.objects.count() == 1
    work.send(first, "answered")
    run_until_idle()
    assert work.status(first).state == "completed"
    assert holder() is None
    assert one.start("wait") != first


def test_c114_a_second_start_is_rejected_with_the_holder_named() -> None:
    """`on_conflict="reject"` raises AlreadyStarted with the run, its state and the name; after the end it starts."""
    first = one.start("wait")
    with pytest.raises(AlreadyStarted, match=f"run {first} holds the singleton 'sync:7'; it is pending") as caught:
        one.using(on_conflict="reject").start("wait")
    assert (caught.value.run_id, caught.value.state, caught.value.singleton) == (first, "pending", "sync:7")
    work.cancel(first)
    assert one.using(on_conflict="reject").start("wait") != first


def test_c114_another_workflow_and_another_name_are_free() -> None:
    """The name is unique within its workflow."""
    assert len({one.start(), work.using(singleton="sync:8").start(), undone.using(singleton="sync:7").start("a")}) == 3
    assert RunSingleton.objects.count() == 3


# -- at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False], ids=["in transactions", "outside"])
def test_c114_of_eight_starts_at_once_one_starts(inside: bool) -> None:
    """All get the id of the same run, and the transactions of the others are not broken."""

    def start(number: int) -> UUID:
        if not inside:
            return one.start("wait")
        with transaction.atomic():
            Effect.objects.create(name=f"before {number}")
            run_id = one.start("wait")
            Effect.objects.create(name=f"after {number}")
        return run_id

    ids = all_at_once(start)
    assert set(ids) == {WorkflowRun.objects.get().id}
    assert Effect.objects.count() == (2 * RIVALS if inside else 0)


def test_of_eight_rejecting_starts_at_once_one_starts() -> None:
    """Seven get AlreadyStarted that names the run of the eighth."""
    answers = all_at_once(lambda _: one.using(on_conflict="reject").start("wait"))
    run_id = WorkflowRun.objects.get().id
    assert answers.count(run_id) == 1
    assert {answer.run_id for answer in answers if answer != run_id} == {run_id}


def test_of_eight_cancelling_starts_at_once_one_is_left() -> None:
    """Each starts, and all but the one that holds the name then are cancelled."""
    ids = all_at_once(lambda _: one.using(on_conflict="cancel_other").start("wait"))
    assert len(set(ids)) == RIVALS
    left = WorkflowRun.objects.exclude(state="cancelled").values_list("id", flat=True)
    assert list(left) == [holder()]
    run_until_idle()
    assert work.status(left[0]).state == "waiting"


def test_a_start_that_is_rolled_back_holds_nothing() -> None:
    """The name is stored with the run, in the caller's transaction."""
    with transaction.atomic():
        one.start()
        transaction.set_rollback(True)
    assert holder() is None
    assert one.start() == holder()


def test_a_start_waits_for_a_rival_that_rolls_back(tier: str) -> None:
    """Of two at once the second has the name, if the first one's transaction comes to nothing."""
    if tier == "sqlite":
        pytest.skip("one transaction at a time writes")
    begun, ends = threading.Event(), threading.Event()

    def first() -> None:
        with transaction.atomic():
            one.start("wait")
            begun.set()
            ends.wait(30)
            transaction.set_rollback(True)

    rival = elsewhere(first)
    assert begun.wait(30)
    second = elsewhere(lambda: one.start("wait"))
    ends.set()
    rival.result(30)
    assert second.result(30) == holder()
    assert WorkflowRun.objects.count() == 1


# -- until its end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "waiting", "sleeping", "paused", "parked"])
def test_a_run_holds_its_name_in_every_state_but_an_end(state: str) -> None:
    """Paused and parked ones, too."""
    run_id = one.start({"waiting": "wait", "sleeping": "sleep"}.get(state, 1))
    if state in ("waiting", "sleeping"):
        run_until_idle()
    elif state == "paused":
        work.pause(run_id)
    elif state == "parked":
        WorkflowRun.objects.filter(id=run_id).update(version="of-nobody")
        run_until_idle()
    assert work.status(run_id).state == state
    assert one.start() == run_id


ENDS: dict[str, Callable[[UUID], Any]] = {
    "completed": lambda run_id: (work.send(run_id, "answered"), run_until_idle()),
    "cancelled": work.cancel,
    "cancelled in bulk": lambda _: work.runs.cancel(),
    "cancelled while paused": lambda run_id: (work.pause(run_id), work.cancel(run_id)),
    "timed out": lambda _: advance(7200),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_end_frees_the_name(end: str) -> None:
    """Whoever makes it."""
    run_id = one.using(timeout=3600).start("wait")
    run_until_idle()
    ENDS[end](run_id)
    assert work.status(run_id).finished_at
    assert holder() is None


def test_a_failure_frees_the_name_and_a_retry_takes_it_again() -> None:
    """A failed run has ended."""
    run_id = one.start("fail")
    run_until_idle()
    assert work.status(run_id).state == "failed"
    assert holder() is None
    assert work.retry(run_id)
    assert holder() == run_id
    run_until_idle()
    assert holder() is None


def test_a_run_whose_name_another_holds_is_not_retried() -> None:
    """InvalidState names the holder; in bulk it is left unchanged; once that has ended, it goes on."""
    run_id = one.start("fail")
    run_until_idle()
    other = one.start("wait")
    with pytest.raises(InvalidState, match=f"run {other} holds its singleton 'sync:7' by now"):
        work.retry(run_id)
    assert work.runs.filter(id=run_id).retry() == {"retried": 0, "unchanged": 1}
    assert work.status(run_id).state == "failed"
    work.cancel(other)
    assert work.retry(run_id)
    assert holder() == run_id


def test_a_rerun_and_a_fork_hold_no_name() -> None:
    """They are started beside the run that may still hold it; a new start may be given the name."""
    run_id = one.start("wait")
    run_until_idle()
    again, fork = work.rerun(run_id), work.fork(run_id, "answer")
    assert holder() == run_id
    assert {work.status(again).state, work.status(fork).state} == {"pending"}


@workflow("policies.renewed")
def renewed(ctx: Context, left: int) -> None:
    """Begins anew as often as it is told, and then waits."""
    if left:
        ctx.continue_as_new(left - 1)
    ctx.wait_for("answer", "answered")


def test_a_run_that_continues_as_new_keeps_its_name_and_its_event() -> None:
    """It is the same run."""

    named = renewed.using(singleton="a", cancel_on="gone")
    run_id = named.start(2)
    run_until_idle()
    assert named.start(0) == run_id
    assert renewed.status(run_id).generation == 2
    send_event("gone")
    run_until_idle()
    assert renewed.status(run_id).state == "cancelled"
    assert not RunSingleton.objects.exists()


# -- the other one is cancelled --------------------------------------------------------------------


def test_cancel_other_cancels_the_holder_and_starts() -> None:
    """A run that has nothing in flight ends at once, and says which run took its place."""
    first = one.start("wait")
    run_until_idle()
    second = one.using(on_conflict="cancel_other").start("wait")
    assert work.status(first).state == "cancelled"
    assert str(second) in work.status(first).reason
    assert holder() == second
    run_until_idle()
    assert work.status(second).state == "waiting"


def test_cancel_other_waits_for_a_holder_that_is_undone_first(effects: Any) -> None:
    """The new run has the name at once, and starts when the other one has ended; a third replaces it meanwhile."""
    effects.release("a")
    replace = undone.using(singleton="u", on_conflict="cancel_other")
    first = replace.start("a")
    run_until_idle()
    second = replace.start("b")
    assert undone.status(first).state == "stopping"
    waiting = undone.status(second)
    assert (waiting.state, waiting.step, waiting.resume_at) == ("sleeping", None, None)
    assert str(first) in waiting.why
    assert not undone.wake(second)
    undone.pause(second)
    undone.resume(second)
    assert undone.status(second).state == "sleeping"
    third = replace.start("c")
    assert undone.status(second).state == "cancelled"
    assert str(first) in undone.status(third).why
    run_until_idle()
    assert undone.status(first).state == "cancelled"
    assert undone.status(third).state == "waiting"


def test_a_key_and_a_name_are_both_looked_at() -> None:
    """The key's run is returned first; a start that meets the name stores no key."""
    first = one.using(key="k1").start("wait")
    assert one.using(key="k1").start() == first
    assert one.using(key="k2").start() == first
    assert list(RunKey.objects.values_list("key", flat=True)) == ["k1"]
    with pytest.raises(AlreadyStarted) as caught:
        one.using(key="k1", on_conflict="reject").start()
    assert caught.value.singleton is None


def test_start_many_of_one_name_starts_one() -> None:
    """Each tuple is started in turn, in one transaction: all or none."""
    ids = one.start_many([("wait",), (2,), (3,)])
    assert len(set(ids)) == 1
    with pytest.raises(AlreadyStarted):
        work.using(singleton="b", on_conflict="reject").start_many([(1,), (2,)])
    assert WorkflowRun.objects.count() == 1


def test_an_ordinary_start_is_one_insert() -> None:
    """What has no policies costs what it did: no look, no savepoint, no row more."""
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        work.start()
    assert [query["sql"].split()[0] for query in queries] == ["INSERT"]
    assert not Timer.objects.exists()
