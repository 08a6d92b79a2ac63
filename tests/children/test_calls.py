"""A run calls another one, or spawns it: one child for each name, its result, its failure, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow import NotSerializable, RunCancelled, RunFailed, client, get_run
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.states import Kind
from canx_flow.testing import advance, run_until_idle

from ..kinds import each_kind
from . import shared
from .shared import HOUR, Lost, calls, child, children, declared, lost, outcome, record

pytestmark = [pytest.mark.django_db, each_kind]

Kinds = Callable[..., Any]


def test_a_call_returns_what_its_child_returns(kind: Kinds) -> None:
    """The child is a run of its own, which its parent waits for."""

    async def body(ctx: Any, item: str) -> str:
        return "sent " + await ctx.call("pack", shared.pack, item, twice=True)

    parent = declared(kind, body)
    run_id = parent.start("tea")
    run_until_idle()
    assert parent.result(run_id, 0) == "sent tea tea"
    packed = child(run_id)
    assert (packed.workflow, packed.state, packed.version) == ("children.pack", "completed", "")
    assert get_run(packed.id).parent_id == run_id
    assert (get_run(packed.id).result, calls) == ("tea tea", ["tea"])
    assert not Timer.objects.exists()


def test_while_it_waits_its_status_names_the_child(kind: Kinds) -> None:
    """The parent is waiting, on a `call` of this child, which no moment ends."""

    async def body(ctx: Any) -> str:
        return await ctx.call("news", shared.wait)

    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    status = parent.status(run_id)
    assert (status.state, status.step, status.resume_at) == ("waiting", "news", None)
    [open_wait] = status.waits
    assert (open_wait.kind, open_wait.event, open_wait.child_id) == ("call", None, child(run_id).id)
    assert parent.wake(run_id) is False
    shared.wait.send(child(run_id).id, "news", "rain")
    run_until_idle()
    assert parent.result(run_id, 0) == "rain"


def test_c076_a_replay_starts_no_second_child(kind: Kinds) -> None:
    """C076: a parent that is replayed again and again has one child for each name, and a loop one for each time."""

    async def body(ctx: Any) -> list[str]:
        found = []
        for item in ("tea", "cups"):
            found.append(await ctx.call("pack", shared.pack, item))
            await ctx.sleep("rest", HOUR)
        return found

    parent = declared(kind, body)
    run_id = parent.start()
    advance(3 * HOUR)
    assert parent.result(run_id, 0) == ["tea", "cups"]
    assert (len(children(run_id)), calls) == (2, ["tea", "cups"])
    kept = StepRecord.objects.filter(run_id=run_id, kind=Kind.CALL).order_by("seq")
    assert [(each.name, each.state) for each in kept] == [("pack", "completed"), ("pack#2", "completed")]


class TestFailure:
    """A child fails, or is cancelled."""

    def test_c077_it_is_raised_with_the_childs_id_and_replays(self, kind: Kinds) -> None:
        """C077: `RunFailed` carries the child's id, its error and the call's key; caught, it replays the same."""
        seen: list[tuple[Any, ...]] = []

        async def body(ctx: Any) -> str:
            try:
                await ctx.call("look", shared.fail, "tea")
            except RunFailed as error:
                seen.append((error.run_id, error.step, error.is_a(Lost), error.is_a(KeyError), str(error)))
            await ctx.sleep("rest", HOUR)
            return "none"

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        advance(2 * HOUR)
        assert parent.result(run_id, 0) == "none"
        failed = child(run_id)
        told = (failed.id, "look", True, False, f"run {failed.id} failed: tests.children.shared.Lost: tea")
        assert seen == [told, told]
        assert (record(run_id, "look").state, calls) == ("failed", ["look for tea"])

    def test_c077_uncaught_it_fails_the_parent(self, kind: Kinds) -> None:
        """C077: the parent's own error names the call, and the child's error is in its message."""

        async def body(ctx: Any) -> None:
            await ctx.call("look", shared.fail, "tea")

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        status = parent.status(run_id)
        assert (status.state, status.reason) == ("failed", "RunFailed")
        assert (status.error or {})["step"] == "look"
        assert f"run {child(run_id).id} failed: tests.children.shared.Lost: tea" in (status.error or {})["message"]

    def test_a_child_that_is_cancelled_raises_run_cancelled(self, kind: Kinds) -> None:
        """With the child's id and the reason that was given; caught, it replays the same."""
        seen: list[tuple[Any, ...]] = []

        async def body(ctx: Any) -> str:
            try:
                await ctx.call("news", shared.wait)
            except RunCancelled as error:
                seen.append((error.run_id, error.reason, error.step))
            await ctx.sleep("rest", HOUR)
            return "none"

        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        cancelled = child(run_id).id
        assert client.cancel(cancelled, "no news today")
        advance(HOUR)
        assert parent.result(run_id, 0) == "none"
        assert seen == [(cancelled, "no news today", "news")] * 2


class TestSpawn:
    """A child that goes on beside its parent."""

    def test_its_handle_waits_for_its_result(self, kind: Kinds) -> None:
        """The parent goes on at once; `result()` suspends, and returns the same each time it is asked."""

        async def body(ctx: Any) -> Any:
            handle = await ctx.spawn("news", shared.wait)
            await ctx.step("beside", calls.append, str(handle.run_id))
            first = await outcome(handle.result())
            return [first, await outcome(handle.result())]

        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        assert calls == [str(child(run_id).id)]
        assert [wait.step for wait in parent.status(run_id).waits] == ["news[result]"]
        shared.wait.send(child(run_id).id, "news", {"rain": 7})
        run_until_idle()
        assert parent.result(run_id, 0) == [{"rain": 7}] * 2
        assert len(children(run_id)) == 1

    def test_an_end_before_the_question_is_kept(self, kind: Kinds) -> None:
        """The child has long ended when its parent asks for the result: it need not suspend for that."""

        async def body(ctx: Any) -> str:
            handle = await ctx.spawn("pack", shared.pack, "tea")
            await ctx.sleep("rest", HOUR)
            return await outcome(handle.result())

        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        assert child(run_id).state == "completed"
        advance(HOUR)
        assert parent.result(run_id, 0) == "tea"

    def test_its_failure_is_raised_by_result(self, kind: Kinds) -> None:
        """As that of a call; the key is that of the result."""

        async def body(ctx: Any) -> str | None:
            handle = await ctx.spawn("look", shared.fail, "tea")
            try:
                await outcome(handle.result())
            except RunFailed as error:
                return f"{error.step}: {error.is_a(Lost)}"
            return None

        lost.add("tea")
        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        assert parent.result(run_id, 0) == "look[result]: True"

    def test_what_has_ended_is_found_by_one_question(self, kind: Kinds) -> None:
        """Ends that are there are read together, and asked for anew only where one is missing."""

        async def body(ctx: Any) -> list[str]:
            handles = [await ctx.spawn(f"pack {n}", shared.pack, str(n)) for n in range(20)]
            return [await outcome(handle.result()) for handle in handles]

        parent = declared(kind, body)
        run_id = parent.start()
        with CaptureQueriesContext(connection) as queries:
            run_until_idle()
        assert parent.result(run_id, 0) == [str(n) for n in range(20)]
        asked = [query["sql"] for query in queries if "payload" in query["sql"] and "#end:" in query["sql"]]
        assert len([sql for sql in asked if sql.startswith("SELECT")]) <= 2

    def test_a_parent_that_never_asks_ends_without_it(self, kind: Kinds) -> None:
        """The child goes on, and nothing is left behind for a parent that reads no more."""

        async def body(ctx: Any) -> str:
            handle = await ctx.spawn("nap", shared.sleep, "tea")
            return str(handle.run_id)

        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        slept = child(run_id)
        assert (parent.result(run_id, 0), slept.state) == (str(slept.id), "sleeping")
        advance(HOUR)
        assert shared.sleep.result(slept.id, 0) == "tea"
        assert not Event.objects.exists()


class TestOptions:
    """What `using` sets for a child."""

    def test_they_are_those_of_a_start(self, kind: Kinds) -> None:
        """Queue, priority, subject, attributes, timeout; and a later start, which the parent waits for."""
        user = User.objects.create(username="ada")
        later = shared.pack.using(
            queue="slow", priority=7, subject=user, attributes={"for": "ada"}, timeout=HOUR, delay=timedelta(minutes=5)
        )

        async def body(ctx: Any) -> str:
            return await ctx.call("pack", later, "tea")

        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        delayed = child(run_id)
        assert (delayed.queue, delayed.priority, delayed.subject, delayed.state) == ("slow", 7, user, "sleeping")
        assert (delayed.attributes, delayed.timeout, delayed.abandoned) == ({"for": "ada"}, 3600.0, False)
        assert list(WorkflowRun.objects.with_attributes(**{"for": "ada"})) == [delayed]
        advance(timedelta(minutes=5))
        assert parent.result(run_id, 0) == "tea"

    @pytest.mark.parametrize(
        ("callee", "arguments", "error"),
        [
            (shared.pack, (), TypeError("the arguments do not fit workflow 'children.pack'")),
            (shared.pack, ("tea", "cups"), TypeError("the arguments do not fit workflow 'children.pack'")),
            (shared.pack, (object(),), NotSerializable("the arguments of workflow 'children.pack' cannot be stored")),
            (shared.pack.using(key="order-7"), ("tea",), ValueError("a child takes no key")),
            (shared.pack.using(on_parent_cancel="stay"), ("tea",), ValueError("on_parent_cancel must be 'cancel' or")),  # type: ignore[arg-type]
            (shared.pack.using(priority=1000), ("tea",), ValueError("priority must be between")),
            (shared.pack.function, ("tea",), TypeError("ctx.{} takes a workflow, or what its using(…) returns")),
        ],
        ids=["missing", "too many", "unstorable", "key", "on_parent_cancel", "priority", "no workflow"],
    )
    @pytest.mark.parametrize("call", ["call", "spawn"])
    def test_what_no_start_takes_is_refused_at_the_call(
        self, kind: Kinds, call: str, callee: Any, arguments: tuple[Any, ...], error: Exception
    ) -> None:
        """Nothing is stored, and the body may go on to something else."""
        refused: list[BaseException] = []

        async def body(ctx: Any) -> str:
            try:
                await getattr(ctx, call)("pack", callee, *arguments)
            except Exception as raised:  # noqa: BLE001 - what it is, is compared
                refused.append(raised)
            return "went on"

        parent = declared(kind, body)
        run_id = parent.start()
        run_until_idle()
        assert parent.result(run_id, 0) == "went on"
        [raised] = refused
        assert type(raised) is type(error)
        said = error.args[0]
        assert said.format(call) in str(raised)
        assert not children(run_id)
        assert not StepRecord.objects.filter(run_id=run_id).exists()


def test_on_parent_cancel_is_for_children_alone(kind: Kinds) -> None:
    """A run that no other has called has no parent that could be cancelled."""
    with pytest.raises(ValueError, match="this run has no parent"):
        shared.pack.using(on_parent_cancel="abandon").start("tea")


def test_no_message_is_taken_for_an_end(kind: Kinds) -> None:
    """Names that begin as those of ends are refused to everybody else."""

    async def body(ctx: Any) -> None:
        await ctx.call("news", shared.wait)

    run_id = declared(kind, body).start()
    run_until_idle()
    forged = f"#end:{child(run_id).id}"
    with pytest.raises(ValueError, match="must not begin with #end:"):
        client.send(run_id, forged, "no")
    with pytest.raises(ValueError, match="must not begin with #end:"):
        client.send_event(forged)


def test_a_name_of_another_kind_parks_the_run(kind: Kinds) -> None:
    """What is recorded as a call is never read as a step."""
    makes_a_step: list[bool] = []

    async def body(ctx: Any) -> None:
        if makes_a_step:
            await ctx.step("news", calls.append, "wrong")
        await ctx.call("news", shared.wait)

    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    makes_a_step.append(True)
    shared.wait.send(child(run_id).id, "news", None)
    run_until_idle()
    status = parent.status(run_id)
    assert (status.state, calls) == ("parked", [])
    assert "has a call recorded under 'news', but its code now makes a step" in status.reason
