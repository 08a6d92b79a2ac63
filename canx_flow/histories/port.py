"""The world of a replay that only looks: nothing is written, no step is called, and each branch ends with its history.

The third implementation of `replay.port`, beside a worker's and the tests'. What a body calls is looked up in its
branch, so that is where a history ends: at the first call that is not on record, or that is not over there.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from asgiref.sync import sync_to_async

from ..client import starting
from ..core.changes import Change, Outcome, Record, Start, Wait
from ..core.claimed import ClaimedRun
from ..core.definition import Planned
from ..core.delegated import Standing
from ..core.journal import Journal
from ..core.limits import Request
from ..replay.activation import Activation
from ..replay.beside import Beside
from ..replay.branch import Branch
from ..replay.call import Call, Ended, Found, Gate
from ..replay.port import NoSyncCode
from ..states import RUNNING, Kind, RecordState
from .trace import LOOKED_THROUGH, Trace

_OVER = (RecordState.COMPLETED, RecordState.FAILED)
_STORED = Outcome(True, RUNNING)


class FollowedJournal(Journal):
    """The journal of a history, with the trace of its replay."""

    def __init__(self, records: Iterable[Record]) -> None:
        super().__init__(records)
        self.trace = Trace()


class FollowedBranch(Branch):
    """A branch that is left where its history ends, and is silent to the end."""

    journal: FollowedJournal

    def __init__(self, activation: Activation, prefix: str = "") -> None:
        super().__init__(activation, prefix)
        self.journal.trace.begin(self.scope)
        self.scope.end = self.journal.end_of_body(prefix)
        self.scope.is_past = not self.scope.end
        self.scope.replaying = True

    def find(self, key: str, kind: str) -> Record | None:
        """Return the record under this key if it is over; leave the branch if it is not, or if there is none."""
        trace = self.journal.trace
        trace.last = key
        record = super().find(key, kind)
        self.scope.replaying = True  # What is logged behind the last record was logged by the run, or will be.
        if record is None and kind in LOOKED_THROUGH:
            return None
        if record is None:
            trace.miss(key, kind)
            self.block(Wait(key, Kind.WAIT))
        trace.meet(record, over=record.state in _OVER)
        if record.state not in _OVER:
            self.block(Wait(key, Kind.WAIT))
        return record


class _Ticket:
    """Of a change that is written nowhere."""

    def wait(self) -> Outcome:
        return _STORED

    async def wait_async(self) -> Outcome:
        return _STORED

    def then(self, call: Callable[[Outcome], object]) -> None:
        call(_STORED)


class NoDelegations:
    """None is out: what is not over is left."""

    def standing(self, run: ClaimedRun, token: UUID) -> Standing | None:  # noqa: ARG002
        """Return nothing: what is not over is left."""
        return None

    def note_again(self, run: ClaimedRun, token: UUID) -> bool:  # noqa: ARG002
        """Do nothing: nothing is dispatched."""
        return False

    def spare(self, run: ClaimedRun, token: UUID) -> bool:  # noqa: ARG002
        """Do nothing: what is not over is left."""
        return False

    def note_trouble(self, run: ClaimedRun, token: UUID, step: str, executor: str, error: Exception) -> None:
        """Do nothing: nothing is dispatched."""

    def give_up(self, run: ClaimedRun, token: UUID, reason: str, executor: str, task: str) -> bool:  # noqa: ARG002
        """Do nothing: what is not over is left."""
        return False


class NoStore:
    """Takes every change, and writes none."""

    delegations = NoDelegations()

    def hand_in(self, change: Change) -> _Ticket:  # noqa: ARG002
        """Write nothing."""
        return _Ticket()

    def find_event(self, run: ClaimedRun, journal: Journal, event: str, key: str | None) -> Found | None:  # noqa: ARG002
        """Find nothing: what the run has read is on record."""
        return None

    def expire(self, run: ClaimedRun) -> None:
        """Do nothing: it has started."""

    def has_undo(self, run: ClaimedRun) -> bool:  # noqa: ARG002
        """Return False: nothing is undone."""
        return False

    def awaited(self, run: ClaimedRun, steps: Sequence[str]) -> dict[str, tuple[str, str | None]]:  # noqa: ARG002
        """Return nothing: whatever waits is left."""
        return {}

    def ended_at(self, run: ClaimedRun, steps: Sequence[str]) -> dict[str, datetime]:  # noqa: ARG002
        """Return nothing."""
        return {}

    def find_ends(self, run: ClaimedRun, events: Sequence[str]) -> dict[str, Ended]:  # noqa: ARG002
        """Find none: what the run has read of its children is on record."""
        return {}

    def new_child(
        self, run: ClaimedRun, planned: Planned[Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Start:
        """Make the row as it would be, so that what is wrong with it shows; it is not stored."""
        return starting.child(run.id, planned.definition, arguments, keywords, planned.options)

    def call_atomic(self, call: Call, invoke: Callable[[], Any], gate: Gate) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        raise AssertionError(f"a replay of a history calls no step, and came to {call.step.name!r}")

    def expect(self, request: Request) -> None:
        """Do nothing: no step begins, so none is admitted."""

    def admit(self, run: ClaimedRun, request: Request) -> None:  # noqa: ARG002
        """Refuse."""
        raise AssertionError(f"a replay of a history calls no step, and came to {request.step!r}")

    def reload(self, run: ClaimedRun) -> None:
        """Load nothing: a history does not change."""

    def works(self) -> bool:
        """Return True: there is no owner whose connection might not."""
        return True


class NoLease:
    """Holds, and allows no step to begin."""

    def may_start(self) -> bool:
        """Return False."""
        return False

    def is_fresh(self) -> bool:
        """Return True."""
        return True

    def wait_fresh(self) -> bool:
        """Return True."""
        return True


class CallersThread:
    """The caller's own thread: bodies run here, and nothing else is called."""

    def limited(self, call: Callable[[Gate], Any], timeout: float) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        raise AssertionError("a replay of a history calls no step")

    def await_limited(self, make: Callable[[], Coroutine[Any, Any, Any]], timeout: float, step: str) -> NoReturn:  # noqa: ARG002
        """Refuse."""
        raise AssertionError(f"a replay of a history calls no step, and came to {step!r}")

    async def beside(self, call: Callable[[], Any]) -> Any:
        """Call it in the caller's thread."""
        return await sync_to_async(call)()

    ask_beside = beside

    async def beside_limited(self, call: Callable[[Gate], Any], timeout: float | None) -> NoReturn:  # noqa: ARG002, ASYNC109
        """Refuse."""
        raise AssertionError("a replay of a history calls no step")

    def begin(self, call: Callable[[], None]) -> None:
        """Call it here; branches need not be begun, for there is one place."""
        call()

    def own_code(self) -> AbstractContextManager[object]:
        """Give the task nothing."""
        return nullcontext()

    def sync_code(self) -> NoSyncCode:
        """Return that nothing is to be taken back."""
        return NoSyncCode()

    def guard(self) -> None:
        """Hold nothing: no step is called."""

    def interrupted(self, error: BaseException) -> bool:
        """Return whether it is Ctrl-C, which ends the command."""
        return isinstance(error, KeyboardInterrupt)


class LookingPort:
    """Store, lease and threads of a replay that only looks."""

    #: Branches are followed one after another.
    places = 1

    def __init__(self) -> None:
        self.store = NoStore()
        self.lease = NoLease()
        self.threads = CallersThread()

    def entered(self, root: Branch) -> None:
        """Tell nothing of it."""

    def watch(self, run_id: UUID, beside: Beside) -> None:
        """Do nothing: no wait ends meanwhile."""
