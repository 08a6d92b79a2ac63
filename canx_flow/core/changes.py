"""What an activation asks the store to write: plain data, made by `replay`, written by `store`.

A `Change` is written whole or not at all, and only while the activation still owns its run.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ..states import ENDED
from .delegated import Delegated

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
    #: When it has ended; of a wait that is due, when it was due.
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
    """What has ended this wait of a run that still runs: its record is in this `state` now, or an event has come.

    `at`: when that was, if it is known.
    """

    wait: Wait
    state: str | None = None
    event_id: int | None = None
    at: datetime | None = None


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


@dataclass(frozen=True, slots=True)
class Waits:
    """What a change does to its run's waits: which it opens and closes, and what those have come to that are over."""

    opens: tuple[Wait, ...] = ()
    closes: tuple[Wait, ...] = ()
    #: Events addressed to this run: (event id, key of the wait).
    reads: tuple[tuple[int, str], ...] = ()
    #: Places in limits that are given back: the bucket of each, and the step that has had it.
    releases: tuple[tuple[tuple[str, str], str], ...] = ()
    #: Attempts that begin elsewhere; and the tokens of those that are given up.
    delegates: tuple[Delegated, ...] = ()
    gives_up: tuple[UUID, ...] = ()

    def __add__(self, more: Waits) -> Waits:
        return Waits(
            self.opens + more.opens, self.closes + more.closes, self.reads + more.reads,
            self.releases + more.releases, self.delegates + more.delegates, self.gives_up + more.gives_up,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Children:
    """What a change does to its run's children: which begin with it, and which are to be cancelled."""

    starts: tuple[Start, ...] = ()
    stops: tuple[UUID, ...] = ()

    def __add__(self, more: Children) -> Children:
        return Children(self.starts + more.starts, self.stops + more.stops)


#: Most changes have neither.
NO_WAITS, NO_CHILDREN = Waits(), Children()


@dataclass(frozen=True, slots=True)
class Suspension:
    """What a run is suspended on: its waits, and what the look for their ends must know."""

    waits: Sequence[Wait] = ()
    #: Steps whose waits are open, and which the replay has not reached: no branch waits for them now.
    forsaken: Sequence[str] = ()
    #: Broadcasts this run has already read.
    events_read: Set[int] = frozenset()


NOT_SUSPENDED = Suspension()


class Awaited(NamedTuple):
    """Whether something but a parent may wait for a run's end."""

    #: It has start policies: its end does more. Then its `timers` are set, too.
    policies: bool = False
    #: A tick of a schedule has started it: the next one may wait.
    scheduled: bool = False
    #: It holds the name of a singleton: a run may have waited for that.
    named: bool = False


NOBODY = Awaited()


@dataclass(slots=True)
class Settle:
    """The state in which an activation leaves its run."""

    state: str
    result: str | None = None
    error: str | None = None
    reason: str = ""
    suspension: Suspension = NOT_SUSPENDED
    #: A stored record of which nothing but its number in the order of records has changed.
    renumbered: Record | None = None
    #: Rows of `timers` may exist: they go when the run ends, and are held when it is parked.
    timers: bool = False
    #: Who may wait for its end, but for a parent.
    awaited: Awaited = NOBODY
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
    """The changes of one activation, in order: once one of them is not stored, none that builds on it may be."""

    #: What became of the first that was not: so it is of all after it, whichever branch learns of its own first.
    refused: Outcome | None = None


@dataclass(slots=True)
class Change:
    """Everything of one run that must be stored together."""

    run_id: UUID
    epoch: int
    inserts: list[Record] = field(default_factory=list)
    # Most changes have none of the next three: nothing is made for them.
    updates: Sequence[Record] = ()
    waits: Waits = NO_WAITS
    children: Children = NO_CHILDREN
    #: Columns of the run to set beside.
    columns: dict[str, Any] = field(default_factory=dict)
    settle: Settle | None = None
    #: Failed attempts: not stored by themselves, but announced once this change is stored.
    failed: Sequence[FailedAttempt] = ()
    chain: Chain = field(default_factory=Chain)
    #: It has been written, and the answer was lost: it may be stored.
    unclear: bool = False
    #: The run and epoch that the write is for: two activations of one run may meet in a batch.
    lease: tuple[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # It is the key of several dicts for each change, and the hash of a UUID itself is a call of Python code.
        self.lease = self.run_id.int, self.epoch

    def absorb(self, theirs: Change) -> None:
        """Take over what has come together in another change of this run, which is not written by itself."""
        self.inserts += theirs.inserts
        self.updates = [*self.updates, *theirs.updates]
        self.failed = [*self.failed, *theirs.failed]
        self.waits = self.waits + theirs.waits if theirs.waits is not NO_WAITS else self.waits
        if theirs.children is not NO_CHILDREN:
            self.children += theirs.children
        self.columns.update(theirs.columns)

    @property
    def plain(self) -> bool:
        """Whether it has only new records and perhaps the run's completion: the hand-written statements store those.

        Nothing else hangs on that end but that a parent may have to be told.
        """
        return not (
            self.updates or self.waits is not NO_WAITS or self.children is not NO_CHILDREN or self.columns
        ) and (self.settle is None or (self.settle.state == "completed" and not self.settle.timers))

    @property
    def ends_child(self) -> bool:
        """Whether a parent is to be told of the end with it."""
        return self.settle is not None and self.settle.parent is not None and self.settle.state in ENDED

    @property
    def leads_to_more(self) -> bool:
        """Whether a worker may have something to do once it is stored: for a timer, a limit, a child, an end."""
        waits = self.waits
        awaited = self.settle is not None and any(self.settle.awaited)
        return bool(waits.opens or waits.releases) or self.children is not NO_CHILDREN or self.ends_child or awaited

    def lets_go(self, outcome: Outcome) -> bool:
        """Return whether another run may have waited for the end that this has led to, to have its name alone."""
        return self.settle is not None and self.settle.awaited.named and outcome.state in ENDED

    def ends_tick(self, outcome: Outcome) -> bool:
        """Return whether a run of a schedule has ended with it."""
        return self.settle is not None and self.settle.awaited.scheduled and outcome.state in ENDED

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
    #: Of a child that has ended: all that read of its end have been told, and nothing is left to be delivered.
    heard: bool = False
    #: Runs that were made pending in the same transaction, which says so of one of its changes.
    woke: int = 0


class NotTaken(Exception):  # noqa: N818 - a finding; its cause is the error
    """An atomic step's record could not be stored, through no fault of the step; its writes were rolled back, too."""
