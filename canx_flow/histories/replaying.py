"""A history replayed by today's code, and where the two part. Called by `flowreplay` and `canx_flow.testing`.

The body is called as a worker calls it, by the same operations; only the world around it is another one.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextvars import copy_context
from typing import Any

from asgiref.sync import async_to_sync

from ..core import codec, registry
from ..core.changes import Settle
from ..core.claimed import ClaimedRun, Origin, Standing
from ..core.definition import Definition
from ..exceptions import ArgumentsMismatch, CanxFlowError, HistoryMismatch, NotDecodable
from ..insight import display
from ..insight.redaction import Names
from ..insight.speech import in_english
from ..replay.activation import Activation
from ..replay.async_driver import AsyncDriver
from ..replay.body import replay as replay_body
from ..replay.context import AsyncContext, Context
from ..replay.sync_driver import SyncDriver
from ..states import COMPLETED, FAILED, RETRYING, RUNNING
from .history import History
from .mismatches import Mismatch, Why
from .port import FollowedBranch, FollowedJournal, LookingPort
from .trace import Left, Missed, scope_of

_SHOWN = 100  # characters of a result
_PARKING: dict[type[Exception], Why] = {
    ArgumentsMismatch: "arguments", NotDecodable: "decoding", HistoryMismatch: "kind",
}  # fmt: skip


def mismatches(history: History) -> list[Mismatch]:
    """Replay a history with today's code; return where they part, nothing if they do not."""
    workflow = registry.get(history.workflow, history.version)
    if workflow is None:
        text = (
            f"no workflow {history.label!r} is registered, so its runs are parked: keep the old function as that "
            f"version until no run of it is left"
        )
        return [Mismatch(str(history.run_id), history.label, "unknown", "", text)]
    journal = FollowedJournal(history.records)
    settle = _replayed(history, workflow, journal)
    return list(_Comparison(history, journal, settle).found())


def _replayed(history: History, workflow: Definition, journal: FollowedJournal) -> Settle | None:
    """Replay the body once; return how a run would be left by it."""
    run = ClaimedRun(
        history.run_id, history.workflow, history.version, "", RUNNING, 2, history.generation, history.arguments, {},
        Standing(origin=Origin(seed=history.seed, scheduled_for=history.scheduled_for)), journal=journal,
    )  # fmt: skip
    branch, port = FollowedBranch(Activation(run, workflow.retry_policy)), LookingPort()
    if workflow.is_async:
        return copy_context().run(async_to_sync(_awaited), AsyncDriver(branch, port), workflow)
    driver = SyncDriver(branch, port)
    settle = _finished(driver.isolated(replay_body(driver, Context, workflow)))
    if workflow.is_async:  # As it has turned out: it looked plain, and returned an awaitable.
        return _replayed(history, workflow, journal)
    return settle


async def _awaited(driver: AsyncDriver, workflow: Definition) -> Settle | None:
    return await driver.isolated(replay_body(driver, AsyncContext, workflow))


def _finished(coroutine: Coroutine[Any, Any, Settle | None]) -> Settle | None:
    """Run what never suspends to its end."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        settle: Settle | None = end.value
        return settle
    raise AssertionError("the driver of a plain body never suspends")


class _Comparison:
    """What a history says, beside what today's code has made of it."""

    def __init__(self, history: History, journal: FollowedJournal, settle: Settle | None) -> None:
        self.history = history
        self.journal = journal
        self.settle = settle

    def found(self) -> Iterator[Mismatch]:
        """Yield the mismatches. What a replay has not come to is not missing if it ended before."""
        parted = [*self._raised(), *self._new()]
        yield from parted
        if not parted:
            yield from self._missing()
            yield from self._returned()

    def _mismatch(self, why: Why, step: str, message: str) -> Mismatch:
        return Mismatch(str(self.history.run_id), self.history.label, why, step, message)

    # -- what was raised --------------------------------------------------------------------------

    def _raised(self) -> Iterator[Mismatch]:
        settle = self.settle
        if settle is None or settle.raised is None:
            if settle is not None and settle.state == RETRYING and settle.reason:
                yield self._mismatch("raised", "", f"the body met the database: {settle.reason}")
            return
        error, settle.raised = settle.raised, None
        why = next((why for kind, why in _PARKING.items() if isinstance(error, kind)), None)
        if why is not None:
            yield self._mismatch(why, self.journal.trace.last, str(error))
        elif not self._would_have(error):
            with in_english():
                said = display.run_error(settle.error, self.history.workflow)
            told = said.summary_in_brief if said is not None else type(error).__name__
            ended = "completed" if self.history.completed else f"is {self.history.state}"
            way_out = "keep the old code as a version of its own, or mend the new one for such runs"
            yield self._mismatch("raised", "", f"the body raises {told}, but the run {ended}: {way_out}")

    def _would_have(self, error: BaseException) -> bool:
        """Return whether the run has failed with this, or was about to: failures on record are raised again."""
        if self.history.failed:
            return self.history.reason == type(error).__name__
        return not self.history.completed and isinstance(error, CanxFlowError)

    # -- what was called --------------------------------------------------------------------------

    def _new(self) -> Iterator[Mismatch]:
        for missed in self.journal.trace.missed:
            if self.history.completed or not missed.is_past:
                yield self._mismatch("new", missed.key, self._why_new(missed))

    def _why_new(self, missed: Missed) -> str:
        scope = scope_of(missed.key)
        left = [each for each in self._left_behind() if scope_of(each.key) == scope]
        behind = f"the run has gone on to {left[0]}" if left else f"the run is {self.history.state}"
        same = next((each.key for each in left if each.kind == missed.kind), None)
        renamed = f" If it is {same!r} renamed, give it its old name." if same is not None else ""
        return (
            f"a {missed.kind} of this name is not on record, though {behind}: it would be done now.{renamed} Ask "
            f"`ctx.patched(…)` before it, or keep the old code as a version of its own."
        )

    def _missing(self) -> Iterator[Mismatch]:
        for left in self._left_behind():
            told = f"a {left.kind} of this name is on record, and no call comes to it: what came of it is ignored"
            again = "If it was renamed, it will be done again under the new name."
            yield self._mismatch("missing", left.key, f"{told}. {again}")

    def _left_behind(self) -> list[Left]:
        return self.journal.trace.left_behind(self.journal.records.values())

    # -- what was returned ------------------------------------------------------------------------

    def _returned(self) -> Iterator[Mismatch]:
        settle, history = self.settle, self.history
        if not history.completed or settle is None or settle.state == FAILED:
            return
        if settle.state != COMPLETED:
            yield self._mismatch("result", "", "the run completed, and the replay did not come to an end")
            return
        stored, returned = (text or "null" for text in (history.result, settle.result))
        if codec.canonical(stored) != codec.canonical(returned):
            with in_english():
                names = Names("result", history.workflow)
                was, now = (str(display.shown(text, names, limit=_SHOWN)) for text in (stored, returned))
            yield self._mismatch("result", "", f"the body returns {now}, the run returned {was}")
