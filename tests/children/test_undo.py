"""Children that have something to undo: each family member undoes its own, whoever stops it, and in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from canx_flow import Retry, RunFailed, get_run
from canx_flow.models import Event, Timer
from canx_flow.testing import advance, run_until_idle
from canx_flow.workflows import Workflow

from ..kinds import each_kind
from ..steps.shared import Crash, crash
from .shared import HOUR, child, declared, record

pytestmark = [pytest.mark.django_db, each_kind]

Kinds = Callable[..., Any]

SOON = Retry(max_attempts=3, initial=60, factor=1, jitter=0)


class Family:
    """A parent and its child: each books one thing that can be undone, and waits."""

    def __init__(self, kind: Kinds) -> None:
        self.undone: list[str] = []
        #: How often the undo of a thing fails before it works; what it raises.
        self.fails: dict[str, int] = {}
        self.error: type[BaseException] = ValueError
        self.child_ends = False
        self.options: dict[str, Any] = {}
        self.child = declared(kind, self._child)
        self.parent = declared(kind, self._parent)

    async def _child(self, ctx: Any) -> str:
        await ctx.step("cot", str, "cot", compensate=self._undo, retry=SOON)
        if not self.child_ends:
            await ctx.wait_for("word", "word")
        return "child"

    async def _parent(self, ctx: Any) -> str:
        await ctx.step("room", str, "room", compensate=self._undo, retry=SOON)
        called: Workflow[..., Any] | Any = self.child.using(**self.options) if self.options else self.child
        await ctx.call("child", called)
        await ctx.step("bill", str, "bill", compensate=self._undo, retry=SOON)
        raise ValueError("too dear")

    def _undo(self, thing: str) -> None:
        self.undone.append(thing)
        if self.fails.get(thing):
            self.fails[thing] -= 1
            raise self.error

    def started(self) -> Any:
        run_id = self.parent.start()
        run_until_idle()
        return run_id


@pytest.fixture
def family(kind: Kinds) -> Family:
    """A family of this test's own."""
    return Family(kind)


def test_c079_c085_a_cancelled_parent_has_its_child_undo_what_it_did(family: Family) -> None:
    """Both end cancelled, each after its own undo, once; nothing is left open."""
    run_id = family.started()
    assert family.parent.cancel(run_id)
    run_until_idle()
    assert sorted(family.undone) == ["cot", "room"]
    assert (get_run(run_id).state, child(run_id).state) == ("cancelled", "cancelled")
    assert not Timer.objects.exists()
    assert not Event.objects.filter(run_id=run_id, consumed_at=None).exists()


@pytest.mark.parametrize(("first", "second"), [("cot", "room"), ("room", "cot")])
def test_a_parent_and_its_child_stop_beside_each_other(family: Family, first: str, second: str) -> None:
    """While the undo of one waits for its next attempt, the other one's ends; neither waits for the other."""
    family.fails = {first: 2}
    run_id = family.started()
    family.parent.cancel(run_id)
    run_until_idle()
    states = {"room": get_run(run_id).state, "cot": child(run_id).state}
    assert states == {first: "stopping", second: "cancelled"}
    advance(HOUR)
    assert sorted(family.undone) == sorted([first] * 3 + [second])
    assert (get_run(run_id).state, child(run_id).state) == ("cancelled", "cancelled")


def test_a_crash_while_both_stop_undoes_each_once_more_at_most(family: Family) -> None:
    """The undo that was cut off is called again, what was undone is not."""
    run_id = family.started()
    family.fails, family.error = {"cot": 1, "room": 1}, Crash
    family.parent.cancel(run_id)
    crash()
    crash()
    run_until_idle()
    assert sorted(family.undone) == ["cot", "cot", "room", "room"]
    assert (get_run(run_id).state, child(run_id).state) == ("cancelled", "cancelled")
    run_until_idle()
    assert len(family.undone) == 4


def test_a_child_whose_undo_fails_for_good_says_so_and_keeps_no_parent(family: Family) -> None:
    """The child has ended with UndoFailed; its parent is cancelled all the same."""
    family.fails = {"cot": 3}
    run_id = family.started()
    family.parent.cancel(run_id)
    advance(HOUR)
    assert (get_run(run_id).state, get_run(run_id).reason) == ("cancelled", "")
    assert (child(run_id).state, child(run_id).reason) == ("cancelled", "UndoFailed")
    assert record(child(run_id).id, "cot[undo]").state == "failed"


def test_c079_an_abandoned_child_keeps_what_it_did(family: Family) -> None:
    """It goes on as if there were no parent; its own cancel undoes it."""
    family.options = {"on_parent_cancel": "abandon"}
    run_id = family.started()
    family.parent.cancel(run_id)
    run_until_idle()
    assert (get_run(run_id).state, child(run_id).state) == ("cancelled", "waiting")
    assert family.undone == ["room"]
    family.child.cancel(child(run_id).id)
    run_until_idle()
    assert (child(run_id).state, family.undone) == ("cancelled", ["room", "cot"])


def test_a_child_that_has_completed_is_not_undone_with_its_parent(family: Family) -> None:
    """What it did belongs to a run that has ended: the parent undoes its own steps, newest first."""
    family.child_ends = True
    run_id = family.started()
    assert (get_run(run_id).state, child(run_id).state) == ("failed", "completed")
    assert family.undone == ["bill", "room"]


def test_a_parent_hears_that_its_child_was_cancelled_once_that_is_undone(family: Family) -> None:
    """Not before: until then the child has not ended."""
    family.fails = {"cot": 1}
    run_id = family.started()
    family.child.cancel(child(run_id).id)
    run_until_idle()
    assert (get_run(run_id).state, child(run_id).state) == ("waiting", "stopping")
    advance(60)
    assert child(run_id).state == "cancelled"
    assert (get_run(run_id).state, get_run(run_id).reason) == ("failed", "RunCancelled")
    assert family.undone == ["cot", "cot", "room"]


def test_a_failing_child_is_undone_before_its_parent_hears_of_it(kind: Kinds) -> None:
    """Its failure is raised in the parent, which undoes its own after that."""
    undone: list[str] = []

    async def fails(ctx: Any) -> None:
        await ctx.step("cot", str, "cot", compensate=undone.append)
        raise ValueError("no cot")

    called = declared(kind, fails)

    async def body(ctx: Any) -> None:
        await ctx.step("room", str, "room", compensate=undone.append)
        await ctx.call("child", called)

    parent = declared(kind, body)
    run_id = parent.start()
    run_until_idle()
    assert undone == ["cot", "room"]
    assert (get_run(run_id).state, get_run(run_id).reason) == ("failed", RunFailed.__name__)
