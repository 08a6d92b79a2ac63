"""The state of one activation: one replay of one run by one worker. Shared by its operations, driver and executor.

No Django, no I/O: what must be stored is collected in `change` and taken from there by the driver.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import Any, NoReturn

from ..conf import get as settings
from ..core import clock, codec
from ..core.changes import Chain, Change, ClaimedRun, FailedAttempt, Record, Settle, Wait
from ..core.failures import describe
from ..core.options import Progress
from ..exceptions import HistoryMismatch, NotDecodable
from ..retry import Retry
from ..states import ENDED, PARKED, PENDING, SUSPENDED, RecordState
from .journal import Branch, Journal

_PROGRESS_EVERY = 1.0  # seconds between two writes of a run's progress


#: Not an end: load the journal again and replay, for something in the database has overtaken this activation.
RELOAD = Settle("")


class Leave(BaseException):
    """Raised through a workflow function to end this activation; no `except Exception` swallows it.

    `settle` says how the run is left; `None`: not at all, for it belongs to somebody else now.
    """

    def __init__(self, why: str, settle: Settle | None) -> None:
        super().__init__(why)
        self.settle = settle


class Activation:
    """One replay of one run. `told` is the run's state as the store last reported it to its owner."""

    def __init__(self, run: ClaimedRun, policy: Retry | None) -> None:
        self.run = run
        self.policy = policy or settings().retry
        self.journal = Journal(run.records)
        self.root = Branch(self.journal)
        self.told = run.state
        self.leaving: Leave | None = None
        #: The worker leaves now and cancels what is still running.
        self.abandoned = False
        self.attributes: dict[str, Any] = dict(run.attributes)
        self.progress: Progress | None = None
        #: Waits that are open, and that the body has not come to yet.
        self._open = {record.name for record in run.records if record.state == RecordState.OPEN}
        #: Rows of `timers` may exist for this run.
        self.timers = run.deadline_at is not None or bool(self._open)
        #: The step being called now, for the worker's heartbeat to tell.
        self.step: str | None = None
        self.attempt = 1
        self.timeout: float | None = None
        self._chain = Chain()
        #: What has come together since the last change was taken, if anything has.
        self.change: Change | None = None
        self._stored_attributes = run.attributes
        #: The body has set attributes or its progress.
        self.publishes = False
        self._progress_due: float | None = None

    # -- reading ------------------------------------------------------------------------------

    def find(self, branch: Branch, key: str, kind: str) -> Record | None:
        """The record under this key. One of another kind parks the run: its history is another code's."""
        record = self.journal.records.get(key)
        branch.met(record)
        self._open.discard(key)
        if record is not None and record.kind != kind:
            self.park(
                HistoryMismatch(
                    f"run {self.run.id} has a {record.kind} recorded under {key!r}, but its code now makes a {kind} of "
                    f"that name. Give the new one another name, or deploy the old code again."
                )
            )
        return record

    def decode(self, record: Record) -> Any:
        """The value a record holds; one that no longer decodes parks the run."""
        try:
            return codec.loads(record.result or "null")
        except NotDecodable as error:
            what = f"the stored result of {record.name!r} in run {self.run.id} cannot be read"
            unreadable = NotDecodable(f"{what}: {error}")
            unreadable.__cause__ = error
            self.park(unreadable)

    # -- writing ------------------------------------------------------------------------------

    def record(self, key: str, kind: str, state: str, started_at: datetime | None = None, **values: Any) -> Record:
        """A new record, to be stored with the next change."""
        journal, run = self.journal, self.run
        journal.last_seq += 1
        started_at = started_at or clock.now()
        record = Record(journal.last_seq, key, kind, state, epoch=run.epoch, started_at=started_at, **values)
        journal.records[key] = record
        self._collected().inserts.append(record)
        if run.recoveries or run.outages:
            self._made_progress()
        return record

    def update(self, record: Record, state: str, **values: Any) -> Record:
        """Change a record that is stored already."""
        record.state, record.epoch = state, self.run.epoch
        for name, value in values.items():
            setattr(record, name, value)
        change = self._collected()
        change.updates = [*change.updates, record]
        self._made_progress()
        return record

    def draft(self, record: Record | None, key: str, kind: str, state: str, **values: Any) -> Change:
        """A change of its own with this one record, for a transaction that may still roll back: `keep` it after."""
        change = Change(self.run.id, self.run.epoch)
        if record is None:
            draft = Record(self.journal.last_seq + 1, key, kind, state, epoch=self.run.epoch)
            change.inserts.append(draft)
        else:
            draft = replace(record, state=state, epoch=self.run.epoch)
            change.updates = [draft]
        for name, value in values.items():
            setattr(draft, name, value)
        if self.run.recoveries or self.run.outages:
            change.columns.update(recoveries=0, outages=0)
        return change

    def keep(self, change: Change) -> None:
        """The draft is stored: from now on it is part of the journal."""
        for record in (*change.inserts, *change.updates):
            self.journal.records[record.name] = record
            self.journal.last_seq = max(self.journal.last_seq, record.seq)
        self.run.recoveries = self.run.outages = 0

    def open(self, wait: Wait) -> None:
        change = self._collected()
        change.opens = [*change.opens, wait]
        self.timers = True

    def close(self, wait: Wait) -> None:
        change = self._collected()
        change.closes = [*change.closes, wait]

    def consume(self, event_id: int, step: str) -> None:
        change = self._collected()
        change.consumes = [*change.consumes, (event_id, step)]

    def has_failed(self, attempt: FailedAttempt) -> None:
        """Have this told once what has come together is stored."""
        change = self._collected()
        change.failed = [*change.failed, attempt]

    def set_column(self, name: str, value: Any) -> None:
        self._collected().columns[name] = value

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        self.publishes = True
        self.attributes.update(attributes)

    def set_progress(self, progress: Progress) -> None:
        self.publishes = True
        self.progress = progress
        if self._progress_due is None:
            self._progress_due = time.monotonic()

    def take_change(self, settle: Settle | None = None) -> Change | None:
        """What has come together since the last call, with what the body published, to be stored now."""
        if self.publishes:
            self._publish(settle)
        if settle is not None:
            settle.timers = self.timers
            collected = self._collected()
            collected.settle = settle
            if settle.state not in ENDED:
                collected.renumbered = self.root.overtaken()
            if settle.state in SUSPENDED:
                settle.forsaken = sorted(self._open)
        change, self.change = self.change, None
        return change

    def empty_change(self) -> Change:
        """Nothing, to be stored: its outcome tells how the run stands."""
        return Change(self.run.id, self.run.epoch, chain=self._chain)

    def _publish(self, settle: Settle | None) -> None:
        """Add the attributes and the progress that the body has set."""
        # At its end nothing is left to replay, though the code may have passed by records of steps that were removed.
        replaying = self.root.replaying and (settle is None or settle.state not in ENDED)
        if not replaying and self.attributes != self._stored_attributes:
            self._stored_attributes = dict(self.attributes)
            self.set_column("attributes", self._stored_attributes)
        if self.progress is not None and self._progress_due is not None:
            now = time.monotonic()
            if settle is not None or now >= self._progress_due:
                self.set_column("progress", codec.dumps(self.progress, "progress"))
                self._progress_due = None if settle is not None else now + _PROGRESS_EVERY

    def start_over(self) -> None:
        """A change was not stored, and so none that was handed in after it: what comes now does not build on them."""
        self._chain = Chain()
        self.change = None

    def _collected(self) -> Change:
        if self.change is None:
            self.change = self.empty_change()
        return self.change

    def _made_progress(self) -> None:
        if self.run.recoveries or self.run.outages:
            self.run.recoveries = self.run.outages = 0
            self._collected().columns.update(recoveries=0, outages=0)

    # -- leaving ------------------------------------------------------------------------------

    def leave(self, why: str, settle: Settle | None) -> NoReturn:
        """End this activation. Should the body swallow the exception, every further context call raises it again."""
        self.leaving = Leave(why, settle)
        raise self.leaving

    def park(self, error: Exception) -> NoReturn:
        """Leave the run to people. What the error says is the reason, so it quotes no stored value."""
        reason = f"{type(error).__name__}: {error}"
        stored = codec.dumps_plain(describe(error, clock.now()))
        self.leave(reason, Settle(PARKED, reason=reason, error=stored, raised=error))

    def hand_back(self, why: str) -> NoReturn:
        self.leave(why, Settle(PENDING))

    def lost(self, why: str) -> NoReturn:
        self.leave(why, None)
