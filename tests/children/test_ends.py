"""What an end means for others: children are cancelled with their parents, retried with them, and kept for them."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from canx_flow import Context, InvalidState, Retry, RunFailed, client, get_run, signals, workflow
from canx_flow.core import clock
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.states import ENDED
from canx_flow.store import children as children_store
from canx_flow.store import pruning, timers
from canx_flow.testing import advance, run_until_idle

from ..kinds import each_kind
from . import shared
from .shared import HOUR, calls, child, children, declared, lost, outcome, record

pytestmark = [pytest.mark.django_db, each_kind]

Kinds = Callable[..., Any]


@workflow("children.between")
def between(ctx: Context, abandons: bool = False) -> Any:
    """A child that has a child of its own."""
    return ctx.call("news", shared.wait.using(on_parent_cancel="abandon") if abandons else shared.wait)


def family(kind: Kinds, *, abandons: bool = False, **options: Any) -> list[UUID]:
    """A parent that waits for a child, which waits for a child: their ids."""

    async def body(ctx: Any) -> Any:
        return await ctx.call("between", between, abandons)

    first = declared(kind, body, **options).start()
    run_until_idle()
    second = child(first).id
    return [first, second, child(second).id]


def states(*run_ids: UUID) -> list[str]:
    """How these runs stand."""
    return [get_run(run_id).state for run_id in run_ids]


class TestCancel:
    """A parent is cancelled."""

    def test_c079_its_descendants_are_cancelled_with_it(self, kind: Kinds) -> None:
        """C079: children and theirs, in the same transaction, for the same reason; nobody is told of what is over."""
        cancelled: list[UUID] = []

        def told(sender: object, run_id: UUID, **_: Any) -> None:
            cancelled.append(run_id)

        signals.run_cancelled.connect(told)
        try:
            ids = family(kind)
            assert client.cancel(ids[0], "withdrawn", by="ada")
            assert states(*ids) == ["cancelled"] * 3
            run_until_idle()
        finally:
            signals.run_cancelled.disconnect(told)
        assert sorted(cancelled) == sorted(ids)
        assert [get_run(run_id).reason for run_id in ids] == ["withdrawn"] * 3
        assert [run.control_by for run in WorkflowRun.objects.all()] == ["ada"] * 3
        assert not Timer.objects.exists()
        assert not Event.objects.exists()

    def test_c079_an_abandoned_child_goes_on(self, kind: Kinds) -> None:
        """C079: it is left alone, its end is told to nobody."""
        ids = family(kind, abandons=True)
        assert client.cancel(ids[0])
        assert states(*ids) == ["cancelled", "cancelled", "waiting"]
        shared.wait.send(ids[2], "news", "late")
        run_until_idle()
        assert shared.wait.result(ids[2], 0) == "late"
        assert not Event.objects.filter(consumed_at=None).exists()

    @pytest.mark.parametrize("later", ["call", "spawn"])
    def test_c079_a_running_parent_that_is_cancelled_starts_no_other(self, kind: Kinds, later: str) -> None:
        """C079: it is cancelled in a step, whose result is stored; the next child comes too late, and is not stored."""

        async def body(ctx: Any) -> Any:
            await ctx.spawn("nap", shared.sleep)
            await ctx.step("cancelled", _cancel, str(ctx.run_id))
            await getattr(ctx, later)("later", shared.sleep)

        run_id = declared(kind, body).start()
        run_until_idle()
        assert states(run_id, child(run_id).id) == ["cancelled", "cancelled"]
        kept = StepRecord.objects.filter(run_id=run_id).order_by("seq")
        assert [(each.name, each.state) for each in kept] == [("nap", "completed"), ("cancelled", "completed")]
        assert not Timer.objects.exists()

    def test_bulk_cancel_counts_what_was_asked_for(self, kind: Kinds) -> None:
        """A child of the queryset is counted once, whether its parent was cancelled before it; others are not."""
        ids = family(kind)
        other = family(kind)
        counts = WorkflowRun.objects.filter(id__in=[*ids, other[0]]).cancel()
        assert counts == {"cancelled": 4, "stopping": 0, "unchanged": 0}
        assert states(*ids, *other) == ["cancelled"] * 6

    def test_a_cancelled_child_does_not_cancel_its_parent(self, kind: Kinds) -> None:
        """The parent may catch it: here it does not, and fails with what became of the child."""
        ids = family(kind)
        client.cancel(ids[2], "no news")
        run_until_idle()
        assert states(*ids) == ["failed", "failed", "cancelled"]
        assert get_run(ids[1]).reason == "RunCancelled"
        assert get_run(ids[0]).reason == "RunFailed"


class TestDeadline:
    """A parent runs into its deadline."""

    def test_c131_children_are_cancelled(self, kind: Kinds) -> None:
        """C131: all generations, once the parent has failed."""
        ids = family(kind, timeout=HOUR)
        advance(HOUR)
        assert states(*ids) == ["failed", "cancelled", "cancelled"]
        assert get_run(ids[0]).reason == "RunTimedOut"
        assert {get_run(run_id).reason for run_id in ids[1:]} == {children_store.PARENT_STOPPED}

    def test_c131_abandoned_children_are_not(self, kind: Kinds) -> None:
        """C131: they go on as after a cancel."""
        ids = family(kind, abandons=True, timeout=HOUR)
        advance(HOUR)
        assert states(*ids) == ["failed", "cancelled", "waiting"]

    def test_c131_children_of_a_run_in_a_step_are_cancelled_at_once(self, kind: Kinds) -> None:
        """C131: the deadline passes in a step: its children need not wait for the end of that."""
        found: list[str] = []

        async def body(ctx: Any) -> None:
            handle = await ctx.spawn("news", shared.wait)

            def late() -> None:
                clock.shift(2 * HOUR)
                contextvars.Context().run(_fire)
                found.append(WorkflowRun.objects.get(id=handle.run_id).state)

            await ctx.step("late", late)

        run_id = declared(kind, body, timeout=HOUR).start()
        run_until_idle()
        assert (found, states(run_id)) == (["cancelled"], ["failed"])

    def test_a_childs_own_deadline_fails_its_call(self, kind: Kinds) -> None:
        """The parent gets the child's `RunTimedOut` in a `RunFailed`."""

        async def body(ctx: Any) -> str:
            try:
                return await ctx.call("nap", shared.sleep.using(timeout=60))
            except RunFailed as error:
                return (error.error or {})["type"]

        parent = declared(kind, body)
        run_id = parent.start()
        advance(timedelta(minutes=1))
        assert parent.result(run_id, 0) == "canx_flow.exceptions.RunTimedOut"

    def test_a_retry_calls_anew_what_the_deadline_has_cancelled(self, kind: Kinds) -> None:
        """A cancelled child never goes on; the parent that is retried calls another one under the same name."""
        ids = family(kind, timeout=HOUR)
        advance(HOUR)
        client.retry(ids[0])
        run_until_idle()
        [first, second] = children(ids[0])
        assert (first.id, first.state, second.state) == (ids[1], "cancelled", "waiting")
        shared.wait.send(child(second.id).id, "news", "late")
        run_until_idle()
        assert (get_run(ids[0]).state, get_run(ids[0]).result) == ("completed", "late")


class TestRetry:
    """A failed parent is retried."""

    def test_a_failed_call_retries_the_same_child(self, kind: Kinds) -> None:
        """Through all generations; finished steps are kept, and no other child begins."""

        async def body(ctx: Any) -> str:
            await ctx.step("before", calls.append, "before")
            await ctx.call("look", shared.fail, "tea")
            return "found"

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        assert states(run_id, child(run_id).id) == ["failed", "failed"]
        parent.retry(run_id)
        run_until_idle()
        assert states(run_id, child(run_id).id) == ["failed", "failed"]
        lost.clear()
        parent.retry(run_id)
        assert states(run_id, child(run_id).id) == ["pending", "pending"]
        run_until_idle()
        assert parent.result(run_id, 0) == "found"
        assert calls == ["before", "look for tea"]
        assert record(run_id, "look").state == "completed"

    def test_the_result_of_a_spawned_child_is_tried_again_likewise(self, kind: Kinds) -> None:
        """The step that ended the parent is that of the result."""

        async def body(ctx: Any) -> str:
            handle = await ctx.spawn("look", shared.fail, "tea")
            await outcome(handle.result())
            return "found"

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        lost.clear()
        parent.retry(run_id)
        run_until_idle()
        assert (parent.result(run_id, 0), len(children(run_id))) == ("found", 1)

    def test_a_child_that_was_retried_by_itself_is_asked_for_its_new_end(self, kind: Kinds) -> None:
        """It completes while its parent has failed: the parent that is retried then goes on with its result."""

        async def body(ctx: Any) -> str:
            await ctx.call("look", shared.fail, "tea")
            return "found"

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        lost.clear()
        shared.fail.retry(child(run_id).id)
        run_until_idle()
        assert states(run_id, child(run_id).id) == ["failed", "completed"]
        parent.retry(run_id)
        run_until_idle()
        assert parent.result(run_id, 0) == "found"

    def test_a_failure_that_nobody_has_read_is_taken_back(self, kind: Kinds) -> None:
        """The child fails, is retried and completes before its parent asks: the parent sees the result alone."""

        async def body(ctx: Any) -> str:
            handle = await ctx.spawn("look", shared.fail, "tea")
            await ctx.sleep("rest", HOUR)
            await outcome(handle.result())
            return "found"

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        assert child(run_id).state == "failed"
        lost.clear()
        shared.fail.retry(child(run_id).id)
        advance(HOUR)
        assert parent.result(run_id, 0) == "found"

    def test_failures_that_were_caught_stay(self, kind: Kinds) -> None:
        """The parent fails by something else: its retry leaves the child that had failed before alone."""
        broken = [True]

        async def body(ctx: Any) -> str:
            try:
                await ctx.call("look", shared.fail, "tea")
            except RunFailed:
                await ctx.step("caught", calls.append, "caught")
            if broken:
                raise ValueError("broken")
            return "done"

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        broken.clear()
        parent.retry(run_id)
        run_until_idle()
        assert (parent.result(run_id, 0), child(run_id).state) == ("done", "failed")
        assert calls == ["look for tea", "caught"]

    def test_a_cancelled_child_is_called_anew(self, kind: Kinds) -> None:
        """It cannot be retried itself, so the retry of its parent makes the call once more."""
        ids = family(kind)
        client.cancel(ids[2])
        run_until_idle()
        with pytest.raises(InvalidState):
            client.retry(ids[2])
        client.retry(ids[0])
        run_until_idle()
        assert states(*ids) == ["waiting", "waiting", "cancelled"]
        [_, anew] = children(ids[1])
        shared.wait.send(anew.id, "news", "now")
        run_until_idle()
        assert get_run(ids[0]).result == "now"

    @pytest.mark.parametrize("how", ["call", "spawn", "gather"])
    def test_a_child_that_was_undone_is_called_anew(self, kind: Kinds, how: str) -> None:
        """It is not retried, as no run is of which something was undone; its parent does not wait for it for ever."""

        async def trip(ctx: Any) -> str:
            await ctx.step("book", calls.append, "book", compensate=lambda _: calls.append("undo"))
            await ctx.step("pay", pay, retry=Retry(max_attempts=1))
            return "paid"

        def pay() -> None:
            if "money" in lost:
                raise shared.Lost

        booked = declared(kind, trip)

        async def body(ctx: Any) -> str:
            if how == "call":
                return await ctx.call("trip", booked)
            if how == "spawn":
                return await outcome((await ctx.spawn("trip", booked)).result())
            return (await ctx.gather(trip=lambda own: own.call("trip", booked)))["trip"]

        lost.add("money")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        assert (calls, states(run_id)) == (["book", "undo"], ["failed"])
        lost.clear()
        assert parent.retry(run_id)
        run_until_idle()
        assert (calls, parent.result(run_id, 0)) == (["book", "undo", "book"], "paid")

    def test_a_child_that_is_not_kept_any_more_is_called_anew(self, kind: Kinds) -> None:
        """Its failure was read; then somebody deleted it."""

        async def body(ctx: Any) -> None:
            await ctx.call("look", shared.fail, "tea")

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        WorkflowRun.objects.filter(id=child(run_id).id).delete()
        lost.clear()
        parent.retry(run_id)
        run_until_idle()
        assert states(run_id, child(run_id).id) == ["completed", "completed"]


class TestPause:
    """A parent, or a child, is held up."""

    def test_a_paused_parent_reads_the_end_when_it_goes_on(self, kind: Kinds) -> None:
        """The child ends meanwhile, and that is kept."""
        ids = family(kind)
        client.pause(ids[0])
        shared.wait.send(ids[2], "news", "rain")
        run_until_idle()
        assert states(*ids) == ["paused", "completed", "completed"]
        client.resume(ids[0])
        run_until_idle()
        assert get_run(ids[0]).result == "rain"

    def test_a_paused_or_parked_child_is_waited_for(self, kind: Kinds) -> None:
        """Neither is an end, and both are cancelled with the parent."""
        first, second = family(kind), family(kind)
        client.pause(first[2])
        WorkflowRun.objects.filter(id=second[2]).update(state="parked")
        run_until_idle()
        assert states(first[0], second[0]) == ["waiting", "waiting"]
        client.cancel(first[0])
        client.cancel(second[0])
        assert states(first[2], second[2]) == ["cancelled", "cancelled"]


def test_pruning_keeps_a_child_as_long_as_its_parent_may_ask(kind: Kinds) -> None:
    """However old it is; once the parent has ended, both go."""

    async def body(ctx: Any) -> str:
        handle = await ctx.spawn("pack", shared.pack, "tea")
        await ctx.sleep("rest", 48 * HOUR)
        return await outcome(handle.result())

    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    advance(24 * HOUR)
    assert child(run_id).state == "completed"
    assert pruning.prune("default", pruning.Old(clock.now(), (), ENDED), 100, lambda _: None) == 0
    advance(24 * HOUR)
    assert parent.result(run_id, 0) == "tea"
    clock.shift(HOUR)
    assert pruning.prune("default", pruning.Old(clock.now(), (), ENDED), 100, lambda _: None) == 2
    assert not Event.objects.exists()
    assert not StepRecord.objects.exists()


def _cancel(run_id: str) -> None:
    client.cancel(run_id, "in a step")


def _fire() -> None:
    """What another worker would do while a step runs."""
    while timers.fire("default").acted:
        pass


def test_forks_of_a_parent_are_told_of_its_childs_end(kind: Kinds) -> None:
    """A fork that was given the start of a child waits for the same child, and so does a fork of that."""

    async def body(ctx: Any) -> Any:
        handle = await ctx.spawn("news", shared.wait)
        await ctx.step("between", calls.append, "between")
        return await outcome(handle.result())

    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    fork = parent.fork(run_id, "between")
    run_until_idle()
    again = parent.fork(fork, "between")
    run_until_idle()
    assert states(run_id, fork, again) == ["waiting"] * 3
    shared.wait.send(child(run_id).id, "news", "rain")
    run_until_idle()
    assert [parent.result(each, 0) for each in (run_id, fork, again)] == ["rain"] * 3
    assert children(fork) == []
