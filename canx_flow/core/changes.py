"""What an activation asks the store to write: plain data, made by `replay`, written by `store`.

A `Change` is written whole or not at all, and only while the activation still owns its run.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..states import ENDED

if TYPE_CHECKING:
    from ..exceptions import StoredError


@dataclass(slots=True)
class Record:
    """One row of a run's journal, in memory. `result` and `errors` stay text until a replay reads them."""

    seq: int
    name: str
    kind: str
    state: str
    attempts: int = 0
    epoch: int = 0
    result: str | None = None
    errors: str | None = None
    event_id: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(slots=True)
class Wait:
    """A wait that blocks a run: what its timer row says."""

    step: str
    kind: str
    due_at: datetime | None = None
    event: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """What a run's next generation begins with, as it is stored: arguments, attributes, and which code it is."""

    arguments: str
    first_attributes: str | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class WaitEnd:
    """What has ended this wait of a run that still runs: its record is in this `state` now, or an event has come."""

    wait: Wait
    state: str | None = None
    event_id: int | None = None


class Undo(Enum):
    """What becomes of the undo of a run that is found stopping as it is left, or that has failed."""

    #: The activation that leaves it goes on with that at once, still its owner.
    FOLLOWS = auto()
    #: It is left to a later activation: this is one already, or there is none any more.
    LEFT = auto()
    #: Nothing is left to be undone: the run ends.
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Start:
    """A child to be started with its parent's change. `run`: its new row; `run_at`: when it is claimed at the earliest.

    Children that are `alike` differ in nothing but their ids and arguments.
    """

    run: Any
    run_at: datetime | None
    alike: tuple[Any, ...]


@dataclass(slots=True)
class Settle:
    """The state in which an activation leaves its run. `blocked`: the waits it is suspended on."""

    state: str
    result: str | None = None
    error: str | None = None
    reason: str = ""
    blocked: Sequence[Wait] = ()
    #: Steps whose waits are open, and which the replay has not reached: no branch waits for them now.
    forsaken: Sequence[str] = ()
    #: Broadcasts this run has already read.
    consumed: Set[int] = frozenset()
    #: A stored record of which nothing but its number in the order of records has changed.
    renumbered: Record | None = None
    #: Rows of `timers` may exist: they go when the run ends, and are held when it is parked.
    timers: bool = False
    #: Its body is to be called anew, without a history: what that begins with.
    generation: Generation | None = None
    undo: Undo = Undo.FOLLOWS
    #: The run that is told of this run's end.
    parent: UUID | None = None
    #: The exception that ended the run, not stored: dropped once it is announced, because its traceback holds frames.
    raised: BaseException | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt of a step, to be announced once it is stored. `error`: as it is stored.

    `most`: attempts in all, `None` without limit. `due_at`: when the next one is due, `None` if there is none.
    """

    step: str
    attempt: int
    most: int | None
    error: StoredError
    due_at: datetime | None


@dataclass(slots=True)
class Chain:
    """The changes of one activation, in order: once one of them is not stored, none after it may be."""

    broken: bool = False


@dataclass(slots=True)
class Change:
    """Everything of one run that must be stored together."""

    run_id: UUID
    epoch: int
    inserts: list[Record] = field(default_factory=list)
    # Most changes have none of the next six: a tuple is there already, a list would be made each time.
    updates: Sequence[Record] = ()
    opens: Sequence[Wait] = ()
    closes: Sequence[Wait] = ()
    #: Events addressed to this run that were read: (event id, key of the wait).
    consumes: Sequence[tuple[int, str]] = ()
    #: Children that begin with it.
    starts: Sequence[Start] = ()
    #: Children to be cancelled.
    stops: Sequence[UUID] = ()
    #: Columns of the run to set beside.
    columns: dict[str, Any] = field(default_factory=dict)
    settle: Settle | None = None
    #: Failed attempts: not stored by themselves, but announced once this change is stored.
    failed: Sequence[FailedAttempt] = ()
    chain: Chain = field(default_factory=Chain)
    #: It has been written, and the answer was lost: it may be stored.
    unclear: bool = False

    @property
    def lease(self) -> tuple[int, int]:
        """The run and epoch that the write is for: two activations of one run may meet in a batch."""
        # It is the key of several dicts for each change, and the hash of a UUID itself is a call of Python code.
        return self.run_id.int, self.epoch

    @property
    def plain(self) -> bool:
        """Whether it has only new records and perhaps the run's completion: the hand-written statements store those.

        Nothing else hangs on that end but that a parent may have to be told.
        """
        return not (
            self.updates or self.opens or self.closes or self.consumes or self.starts or self.stops or self.columns
        ) and (self.settle is None or (self.settle.state == "completed" and not self.settle.timers))

    @property
    def ends_child(self) -> bool:
        """Whether a parent is to be told of the end with it."""
        return self.settle is not None and self.settle.parent is not None and self.settle.state in ENDED

    @property
    def single(self) -> bool:
        """Whether it is one new record and nothing else, as from a run that is alone in its worker."""
        return self.settle is None and len(self.inserts) == 1 and self.plain


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change. `state` is the run's state as the store found or left it."""

    stored: bool
    state: str = ""
    #: The run's row is locked by another transaction: try again later.
    busy: bool = False
    #: Load the journal and replay: the run was not suspended because a timer fired or an event waits, or a record
    #: was not written because another attempt's result stands there.
    awake: bool = False
    #: The change can never be stored: a bad row, of this run alone.
    error: Exception | None = None
    #: It is stored, as was found out after its answer was lost; by then the run was another owner's.
    lost: bool = False


class NotTaken(Exception):  # noqa: N818 - a finding; its cause is the error
    """An atomic step's record could not be stored, through no fault of the step; its writes were rolled back, too."""
