"""One line of execution of an activation: its keys, what it has to store, the step it calls, what it is blocked on.

The body is the root branch. No Django, no I/O: what is to be stored is collected here, and the branch's driver takes
it. Used by operations, contexts and drivers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, NoReturn

from ..core import clock, codec
from ..core.changes import Change, Children, FailedAttempt, Record, Settle, Suspension, Wait, Waits
from ..core.delegations import tokens_of, wait_of
from ..core.limits import Bucket
from ..core.naming import started_by
from ..exceptions import HistoryMismatch, NotDecodable
from ..states import ENDED, SUSPENDED, Kind, RecordState
from .activation import Activation, Leave
from .call import Call
from .scope import Scope
from .suspended import suspended_on

_OVER = (RecordState.COMPLETED, RecordState.FAILED)


class Branch:
    """The run itself, or one of several lines of execution below it."""

    #: Whether it is replayed only to find what is to be undone.
    rebuilding = False

    def __init__(self, activation: Activation, prefix: str = "") -> None:
        self.activation = activation
        self.run = activation.run
        self.journal = activation.journal
        self.scope = Scope(activation.journal, prefix)
        self.children: list[Branch] = []
        #: The step being called now: for the worker's heartbeat to tell.
        self.call: Call | None = None
        #: The wait that this branch cannot go on before.
        self.blocked_on: Wait | None = None
        #: Why this branch alone was left.
        self.left: Leave | None = None
        #: The waits of items of a map that it has begun, by step.
        self.items: dict[str, Wait] = {}
        #: Whether what it was begun for is decided without it.
        self.lost = False
        #: What has come together since the last change was taken, if anything has.
        self.change: Change | None = None

    def below(self, prefix: str = "") -> Branch:
        """Return a new branch below this one; without a prefix of its own, for the items of a map."""
        self.children.append(branch := type(self)(self.activation, prefix))
        return branch

    @property
    def leaving(self) -> Leave | None:
        """What every further context call raises, once this branch or its whole activation was left."""
        return self.activation.leaving or self.left

    def all(self) -> Iterator[Branch]:
        """Return this branch and all below it."""
        yield self
        for child in list(self.children):
            yield from child.all()

    def calls(self) -> Iterator[Call]:
        """Return the steps being called now, in this branch and below it."""
        # Read once: the heartbeat asks while a slot ends the call.
        return (call for branch in self.all() if (call := branch.call) is not None)

    # -- reading ------------------------------------------------------------------------------

    def find(self, key: str, kind: str) -> Record | None:
        """Return the record under this key. One of another kind parks the run: its history is another code's."""
        record = self.journal.records.get(key)
        scope = self.scope
        if record is None:
            scope.met(None)
            return None
        if record.seq == scope.end or not scope.replaying:  # Of those before it there is nothing to note.
            scope.met(record)
        activation = self.activation
        if activation.unmet:
            activation.unmet.discard(key)
        if record.kind != kind:
            activation.park(
                HistoryMismatch(
                    f"run {self.run.id} has a {record.kind} recorded under {key!r}, but its code now makes a {kind} of "
                    f"that name. Give the new one another name, or deploy the old code again."
                )
            )
        return record

    def decode(self, record: Record) -> Any:
        """Return the value a record holds; one that no longer decodes parks the run."""
        if record.result is None:
            return None
        try:
            return codec.loads(record.result)
        except NotDecodable as error:
            what = f"the stored result of {record.name!r} in run {self.run.id} cannot be read"
            unreadable = NotDecodable(f"{what}: {error}")
            unreadable.__cause__ = error
            self.activation.park(unreadable)

    # -- writing ------------------------------------------------------------------------------

    def record(self, key: str, kind: str, state: str, started_at: datetime | None = None, **values: Any) -> Record:
        """Make a new record, to be stored with the next change."""
        journal, run = self.journal, self.run
        record = Record(
            journal.next_seq(), key, kind, state, epoch=run.epoch, started_at=started_at or clock.now(), **values
        )
        journal.put(record)
        self.collected().inserts.append(record)
        if run.standing.recoveries or run.standing.outages:
            self._note_progress()
        return record

    def update(self, record: Record, state: str, **values: Any) -> Record:
        """Change a record that is stored already. One that ends gets a new number: they stand in the order of ends."""
        record.state, record.epoch = state, self.run.epoch
        for name, value in values.items():
            setattr(record, name, value)
        if state in _OVER and record.seq != self.journal.last_seq:
            record.seq = self.journal.next_seq()
        self.journal.put(record)
        change = self.collected()
        change.updates = [*change.updates, record]
        if self.run.standing.recoveries or self.run.standing.outages:
            self._note_progress()
        return record

    def write(self, record: Record | None, key: str, kind: str, state: str, **values: Any) -> Record:
        """Make a new record, or change the one that there is."""
        if record is None:
            return self.record(key, kind, state, **values)
        return self.update(record, state, **values)

    def draft(self, record: Record | None, key: str, kind: str, state: str, **values: Any) -> Change:
        """Return a change with this one record, for a transaction that may still roll back: `keep` it afterwards."""
        change = Change(self.run.id, self.run.epoch)
        # In the thread of the step, while other branches go on.
        seq = self.journal.next_seq()
        if record is None:
            draft = Record(seq, key, kind, state, epoch=self.run.epoch)
            change.inserts.append(draft)
        else:
            draft = replace(record, seq=seq, state=state, epoch=self.run.epoch)
            change.updates = [draft]
        for name, value in values.items():
            setattr(draft, name, value)
        if self.run.standing.recoveries or self.run.standing.outages:
            change.columns.update(recoveries=0, outages=0)
        return change

    def keep(self, change: Change) -> None:
        """Make a draft that was stored part of the journal."""
        for record in (*change.inserts, *change.updates):
            self.journal.put(record)
        self.run.standing.recoveries = self.run.standing.outages = 0

    def open(self, wait: Wait) -> None:
        """Have a timer row written for this wait."""
        self.collected().waits += Waits(opens=(wait,))
        self.activation.timers = True
        if self.activation.beside is not None:
            self.activation.beside.opens(wait)

    def close(self, wait: Wait) -> None:
        """Have this wait's timer row deleted."""
        self.collected().waits += Waits(closes=(wait,))

    def consume(self, event_id: int, step: str) -> None:
        """Have an event marked as read by this wait."""
        self.collected().waits += Waits(reads=((event_id, step),))

    def release(self, bucket: Bucket, step: str) -> None:
        """Have the place given back that a step has had in its limit."""
        self.collected().waits += Waits(releases=((bucket, step),))

    def note_failed(self, attempt: FailedAttempt) -> None:
        """Have a failed attempt told once what has come together is stored."""
        change = self.collected()
        change.failed = [*change.failed, attempt]

    def note_undo(self, *_step: Any) -> None:
        """Have stored that this run may have something to undo. What a step did, and how, only a rebuild notes."""
        if not self.run.standing.has_undo:
            self.set_column("has_undo", True)

    def set_column(self, name: str, value: Any) -> None:
        """Have a column of the run written with the next change."""
        self.collected().columns[name] = value

    def take_change(self, settle: Settle | None = None) -> Change | None:
        """Return what has come together since the last call, with what the body published, to be stored now."""
        if self.activation.published.used:
            self._publish(settle)
        if settle is not None:
            self._settle(settle)
        change, self.change = self.change, None
        if change is not None:
            change.chain = self.activation.chain  # Another branch may have begun a new one meanwhile.
        return change

    def _publish(self, settle: Settle | None) -> None:
        """Add what the body has published."""
        # At its end nothing is left to replay, though the code may have passed by records of steps that were removed.
        replaying = self.scope.replaying and (settle is None or not _ends_body(settle))
        columns = self.activation.published.columns(replaying=replaying, leaving=settle is not None)
        if columns:
            self.collected().columns.update(columns)

    def _settle(self, settle: Settle) -> None:
        settle.timers = self.activation.timers
        settle.awaited = self.run.standing.origin.awaited
        settle.parent = self.run.standing.origin.parent_id
        change = self.collected()
        change.settle = settle
        if not _ends_body(settle):
            settle.renumbered = self.scope.renumbered()
        if settle.state in SUSPENDED:
            settle.suspension = replace(settle.suspension, forsaken=sorted(self.activation.unmet))

    def absorb(self, branch: Branch) -> None:
        """Take over what has come together in a branch below this one, which is blocked."""
        if branch.change is None:
            return
        theirs, branch.change = branch.change, None
        self.collected().absorb(theirs)

    def start_over(self) -> None:
        """Forget what has come together: a change before it was not stored."""
        self.change = None

    def empty_change(self) -> Change:
        """Return a change that stores nothing: its outcome tells how the run stands."""
        return Change(self.run.id, self.run.epoch, chain=self.activation.chain)

    def collected(self) -> Change:
        if self.change is None:
            self.change = Change(self.run.id, self.run.epoch, chain=self.activation.chain)
        return self.change

    def _note_progress(self) -> None:
        """Forget the recoveries and outages of a run that has got on since."""
        self.run.standing.recoveries = self.run.standing.outages = 0
        self.collected().columns.update(recoveries=0, outages=0)

    # -- leaving ------------------------------------------------------------------------------

    def block(self, wait: Wait) -> NoReturn:
        """Leave this branch until the wait has ended. Once all branches are blocked, the run is suspended."""
        self.blocked_on = wait
        self.left = Leave("blocked", None)
        raise self.left

    def lose(self) -> None:
        """Leave this branch and all below it: it is decided without them. Steps in flight come to their end."""
        for branch in self.all():
            branch.lost, branch.blocked_on = True, None
            branch.items.clear()
            branch.left = branch.left or Leave("lost", None)

    @property
    def is_blocked(self) -> bool:
        """Whether it was left, and nothing but waits keeps it from going on."""
        return self.leaving is self.left is not None and not self.lost and next(self.waits(), None) is not None

    def waits(self) -> Iterator[Wait]:
        """Return the waits that block it, and the branches below it."""
        for branch in self.all():
            if branch.blocked_on is not None:
                yield branch.blocked_on
            yield from branch.items.values()

    def close_open(self, prefix: str) -> None:
        """Have every wait below this prefix closed, its record and child with it: it is decided without them."""
        for record in self.journal.waits_below(prefix, but={call.step.name for call in self.calls()}):
            key = record.name
            self.collected().waits += Waits(closes=(wait_of(record),), gives_up=tokens_of(record))
            if record.kind == Kind.CALL and record.result is not None and started_by(key) == key:
                self.collected().children += Children(stops=(codec.loads(record.result),))
            self.update(record, RecordState.CLOSED)
            self.activation.unmet.discard(key)

    def suspension(self) -> Settle:
        """Return the suspension on every wait that blocks a branch; the state is that of the one due first."""
        waits = list(self.waits())
        return Settle(suspended_on(waits), suspension=Suspension(waits, events_read=self.journal.events))


def _ends_body(settle: Settle) -> bool:
    """Return whether no replay of this body follows: the run has ended, or begins with an empty history."""
    return settle.state in ENDED or settle.generation is not None
