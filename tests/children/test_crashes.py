"""The process dies before each write in the life of a family: there is one child for each name, every time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections

from canx_flow import RunFailed
from canx_flow.models import Event, Timer
from canx_flow.store.db.databases import session_for
from canx_flow.testing import run_until_idle

from ..kinds import each_kind
from ..steps.shared import Crash
from . import shared
from .shared import children, declared, lost, outcome

pytestmark = pytest.mark.django_db(transaction=True)

#: What a session sends by another cursor than Django's.
_OWN_WAYS = ("fetch", "prepared", "execute_many", "write_single")


_WRITES = re.compile(r"\b(?:INSERT|DELETE)\b|\bUPDATE\s+\S?canx_")


class Writes:
    """Counts the writes of this process; before one of them it dies."""

    def __init__(self, fatal: int) -> None:
        self.sent = 0
        self.died = False
        self._fatal = fatal

    def __call__(self, execute: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        texts = [text for text in arguments if isinstance(text, str)]
        self.sent += not texts or any(_WRITES.search(text) for text in texts)
        if self.sent == self._fatal and not self.died:
            self.died = True
            raise Crash
        return execute(*arguments, **keywords)


@contextmanager
def dying_before(number: int) -> Iterator[Writes]:
    """Die before the write of this number, whichever way it is sent."""
    writes = Writes(number)
    session = type(session_for("default"))
    with pytest.MonkeyPatch.context() as patch, connections["default"].execute_wrapper(writes):
        for name in _OWN_WAYS:
            if name in vars(session):
                patch.setattr(session, name, _counted(writes, vars(session)[name]))
        yield writes


def _counted(writes: Writes, way: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*arguments: Any, **keywords: Any) -> Any:
        return writes(way, *arguments, **keywords)

    return counted


@each_kind
def test_c076_whatever_dies_in_between_there_is_one_child_for_each_name(kind: Callable[..., Any]) -> None:
    """C076: a call that succeeds, one that fails, and a spawned child; each write is once the first not sent."""

    async def body(ctx: Any) -> list[str]:
        handle = await ctx.spawn("spawned", shared.pack, "cups")
        called = await ctx.call("called", shared.pack, "tea")
        try:
            await ctx.call("failing", shared.fail, "milk")
        except RunFailed as error:
            return [called, await outcome(handle.result()), (error.error or {})["message"]]
        return []

    lost.add("milk")
    parent = declared(kind, body)
    number, goes_on = 0, True
    while goes_on:
        number += 1
        run_id = parent.start()
        with dying_before(number) as writes:
            try:
                run_until_idle()
            except Crash:
                assert writes.died
        goes_on = writes.died
        run_until_idle()
        assert parent.result(run_id, 0) == ["tea", "cups", "milk"], f"it died before write {number}"
        born = sorted((child.workflow, child.state) for child in children(run_id))
        assert born == [("children.fail", "failed"), *[("children.pack", "completed")] * 2]
        assert not Timer.objects.exists()
        assert not Event.objects.filter(consumed_at=None).exists()
    assert number > 25
