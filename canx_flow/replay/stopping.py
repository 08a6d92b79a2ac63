"""How a stopping run comes to its end: its body is replayed to find what is to be undone, and that is undone.

The replay lives on the journal alone. Each step on record returns or raises as it did, and registers its undo; at the
first call that would do something new the body is left, for good. Then the undo steps run, the newest result first,
each as a durable step under the key of its own step and `[undo]`. They are put on record before the first of them is
called: so people see what is left, and a later activation whose code misses one of them parks the run.

Used by the executor. `Stopping` is the branch of such a replay, and of each line of execution below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, NoReturn

from ..core.changes import Record, Settle, Undo
from ..core.durations import seconds
from ..core.failures import decision, with_decision
from ..core.naming import undo_key
from ..exceptions import HistoryMismatch, StepFailed, StoredError
from ..retry import Retry
from ..states import ANSWERS, CANCELLED, COMPLETED, DECISIONS, FAILED, PARKED, STOPPING, SUSPENDED, Kind, RecordState
from . import operations
from .activation import Activation, Leave
from .body import left, replay
from .branch import Branch
from .driver import Driver
from .step_options import StepOptions

#: The reason of a run that has ended though not everything is undone.
UNDO_FAILED = "UndoFailed"

_OVER = (RecordState.COMPLETED, RecordState.FAILED)
#: Where these are not on record the history goes on: below branches, which have steps to be undone, and behind answers.
_LOOKED_THROUGH = frozenset((*ANSWERS, *DECISIONS))


@dataclass(frozen=True, slots=True)
class Undoable:
    """A stored result, and what undoes it."""

    record: Record
    function: Callable[[Any], Any]
    options: StepOptions

    @property
    def key(self) -> str:
        return undo_key(self.record.name)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What the replay of a body has come to, in all its branches."""

    #: By the key of the step.
    undoables: dict[str, Undoable] = field(default_factory=dict)
    #: The keys of records.
    met: set[str] = field(default_factory=set)


class Undoing(Activation):
    """An activation of a run whose end is decided."""

    #: Only a worker that leaves keeps an undo from being begun.
    halted_by: ClassVar[tuple[str, ...]] = ()

    def __init__(self, run: Any, policy: Retry | None) -> None:
        super().__init__(run, policy)
        self.timers = True
        self.journal.over.clear()  # Each record is to be met.

    def _described(self, error: BaseException) -> StoredError:
        """Describe why the run is parked, beside how it is to end all the same."""
        standing = self.run.standing
        return with_decision(super()._described(error), standing.reason, standing.error)


class Stopping(Branch):
    """A branch whose body may come to nothing new, and whose steps are to be undone."""

    activation: Undoing

    def __init__(self, activation: Undoing, prefix: str = "") -> None:
        super().__init__(activation, prefix)
        #: While the body is replayed: what that has come to.
        self.rebuild: Rebuild | None = Rebuild()
        self.scope.end = activation.journal.end_of_body(prefix)
        self.scope.is_past = not self.scope.end
        self.scope.replaying = True  # To its end: nothing is logged any more.

    def below(self, prefix: str = "") -> Branch:
        """Return a branch below this one, for the same rebuild."""
        branch = super().below(prefix)
        assert isinstance(branch, Stopping)
        branch.rebuild = self.rebuild
        return branch

    @property
    def rebuilding(self) -> bool:  # type: ignore[override]
        """Whether the body is being replayed."""
        return self.rebuild is not None

    @property
    def _found(self) -> Rebuild:
        assert self.rebuild is not None
        return self.rebuild

    # -- while the body is replayed ---------------------------------------------------------------

    def find(self, key: str, kind: str) -> Record | None:
        """Return the record under this key; leave the body where there is none, or one that is not over."""
        if key not in self.journal.records:
            return None if kind in _LOOKED_THROUGH else self._stand()
        record = super().find(key, kind)
        self.scope.replaying = True
        self._found.met.add(key)
        if record is not None and record.state not in _OVER and kind not in _LOOKED_THROUGH:
            self._stand()
        return record

    def record(self, key: str, kind: str, state: str, started_at: datetime | None = None, **values: Any) -> Record:
        """Make a new record of an undo; leave the body that would make one of anything else than an answer."""
        if self.rebuilding and kind in ANSWERS:
            return Record(0, key, kind, state)  # For this replay alone.
        if self.rebuilding:
            self._stand()
        return super().record(key, kind, state, started_at, **values)

    def update(self, record: Record, state: str, **values: Any) -> Record:
        """Change the record of an undo; leave the body that would change another."""
        if self.rebuilding:
            self._stand()
        return super().update(record, state, **values)

    def note_undo(self, *step: Any) -> None:
        """Note what is to be undone of a step that is over, if it has a result."""
        record, *undo = step
        if record.state == RecordState.COMPLETED:
            self._found.undoables[record.name] = Undoable(record, *self._undo(*undo))

    def _undo(
        self,
        function: Callable[[Any], Any],
        retry: Retry | None,
        timeout: float | timedelta | None,
    ) -> tuple[Callable[[Any], Any], StepOptions]:
        """Return the undo with the options of its step; one that is at-most-once is tried again all the same."""
        limit = None if timeout is None else seconds(timeout, "timeout", positive=True)
        return function, StepOptions(retry or self.activation.policy, limit, kind=Kind.UNDO)

    def _stand(self) -> NoReturn:
        """Leave this branch: what comes now has not happened, and never will."""
        self.left = Leave("nothing more of it is on record", None)
        raise self.left

    # -- afterwards -------------------------------------------------------------------------------

    def rebuilt(self) -> list[Undoable]:
        """Take note that the body was replayed; return what is to be undone, the newest result first."""
        found, self.rebuild = self._found, None
        self.left, self.activation.leaving, self.children = None, None, []
        undoables = sorted(found.undoables.values(), key=lambda undoable: -undoable.record.seq)
        known = {record.name for record in self.journal.records.values() if record.kind == Kind.UNDO}
        self._refuse_lost(found.met)
        self._refuse_missing(known.difference(undoable.key for undoable in undoables))
        for undoable in undoables:
            if undoable.key not in known:
                self.record(undoable.key, Kind.UNDO, RecordState.DUE)
        return undoables

    def _refuse_lost(self, met: set[str]) -> None:
        """Park the run if it has results behind all that today's code comes to: they may have to be undone.

        Those before are of steps that were removed, and are ignored as ever.
        """
        lost = self._lost(met)
        if lost:
            self.activation.park(
                HistoryMismatch(
                    f"run {self.run.id} has gone on to {lost[0].name!r}, which its code does not come to any more: "
                    f"whether that is to be undone is not known. Deploy code that does, or end the run by "
                    f"cancel(undo=False)."
                )
            )

    def _lost(self, met: set[str]) -> list[Record]:
        furthest: dict[str, int] = {}
        for record in map(self.journal.records.__getitem__, met):
            furthest[_scope(record)] = max(record.seq, furthest.get(_scope(record), 0))
        results = (each for each in self.journal.records.values() if each.kind == Kind.STEP and each.name not in met)
        stored = (each for each in results if each.state == RecordState.COMPLETED)
        return [record for record in stored if record.seq > furthest.get(_scope(record), 0)]

    def _refuse_missing(self, keys: set[str]) -> None:
        """Park the run if something was to be undone for which today's code has no undo."""
        missing = sorted(key for key in keys if self.journal.records[key].state not in _OVER)
        if missing:
            self.activation.park(
                HistoryMismatch(
                    f"run {self.run.id} has {missing[0]!r} left to be done, but its code now registers no such undo. "
                    f"Deploy code that does, or end the run by cancel(undo=False)."
                )
            )

    def suspension(self) -> Settle:
        """Return how the run is left for now; while its body is replayed, that it is not."""
        return Settle(STOPPING) if self.rebuilding else super().suspension()

    def _publish(self, settle: Settle | None) -> None:
        """Publish nothing."""

    def _settle(self, settle: Settle) -> None:
        if settle.undo is Undo.FOLLOWS:
            settle.undo = Undo.LEFT
            if settle.state == FAILED and settle.raised is not None:
                # What cannot be stored does not decide how the run ends: a person must look at it.
                parked = self.activation.parked(settle.raised)
                settle.state, settle.reason, settle.error = PARKED, parked.reason, parked.error
        super()._settle(settle)
        if settle.state in SUSPENDED:
            met = {wait.step for wait in settle.suspension.waits}
            settle.suspension = replace(settle.suspension, forsaken=sorted(self.journal.open() - met))


async def stop(driver: Driver, context: Callable[..., Any], workflow: Any) -> Settle | None:
    """Undo what the run has done, then end it as was decided; return how it is left, as `replay` does."""
    branch = driver.branch
    assert isinstance(branch, Stopping)
    if not branch.run.standing.has_undo:
        return _ended(branch)
    settle = await replay(driver, context, workflow)
    # Whether its body has returned, raised, asked to begin anew or stands where it stood: it is rebuilt.
    if settle is None or (settle.state not in (COMPLETED, FAILED, STOPPING) and settle.generation is None):
        return settle
    try:
        return await _undo(driver, branch)
    except Leave:
        return left(branch)


async def _undo(driver: Driver, branch: Stopping) -> Settle:
    """Undo one after the other. One that fails for good keeps none of the others from being undone."""
    begun = False
    for undoable in branch.rebuilt():
        record = branch.journal.records[undoable.key]
        if record.state in _OVER:
            continue
        if begun and not await driver.still_undoes():
            return _ended(branch)
        begun = True
        result = branch.decode(undoable.record)
        try:
            await operations.step(driver, undoable.key, record, undoable.function, (result,), undoable.options)
        except StepFailed:
            continue  # It is on record.
    return _ended(branch)


def _ended(branch: Stopping) -> Settle:
    """Return the end of the run, with the reason and the error with which it was decided."""
    standing = branch.run.standing
    reason, error = decision(standing.reason, standing.error)
    undos = [record for record in branch.journal.records.values() if record.kind == Kind.UNDO]
    if any(record.state == RecordState.FAILED for record in undos):
        reason = UNDO_FAILED
    for name, value in (("reason", reason), ("error", error)):
        if getattr(standing, name) != value:
            branch.set_column(name, value)
    return Settle(standing.ending or CANCELLED, reason=reason, error=error, undo=Undo.DONE)


def _scope(record: Record) -> str:
    return record.name[: record.name.rfind("/") + 1]
