"""Writes batches of changes on one connection, whatever the database answers, or does not.

Called by the committer's leading thread. After a lost connection the same is written again. What only one run's own
data causes fails that run. Anything else passes: the session is reset, and a change that cannot be written alone is put
off, so that its neighbours go on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from django.db.utils import Error

from ..core.backoff import Backoff
from ..core.changes import Change, Outcome
from ..observe import announce, facts
from ..store import unclear, writes
from ..store.db import engine, errors, packets
from ..store.db.errors import Verdict
from .outages import OutageLog
from .write_delays import Delays

_FIRST_PAUSE, _MOST_PAUSE = 0.005, 0.5  # seconds until the victim of a deadlock tries again
_FIRST_BACKOFF, _MOST_BACKOFF = 0.1, 3.0
_LARGE = 1_000_000  # characters of a batch that may be too much for a server at once
_TRIED_ALONE = 3  # changes that fail alone, one after another, before the others of their batch are spared
_BUG_TRIES = 5  # times that a change meets a defect of ours before its run fails by that
_REFUSED, _BUSY = Outcome(False), Outcome(False, busy=True)


class Writer:
    """The writer of one worker; used by one thread at a time, the one that leads the committer."""

    def __init__(self, alias: str, owner: UUID, outages: OutageLog) -> None:
        self.connection = engine.open_connection(alias)
        #: The last time something was written, it could not be.
        self.failing = False
        #: That was for want of a connection that answers, as far as is known.
        self.away = False
        #: Write nothing more.
        self.abandoned = False
        #: Which runs are not to be tried again yet.
        self.delays = Delays(_FIRST_BACKOFF, _MOST_BACKOFF)
        self._owner = owner
        self.outages = outages
        #: An answer has been lost: what is refused may be stored.
        self._lost = False
        self._connecting = Backoff(_FIRST_BACKOFF, _MOST_BACKOFF)

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write them; return what became of each. `busy` ones are to be handed in again, once `delays` says so."""
        if any(change.chain.refused is not None for change in changes):
            return self._one_by_one(changes)
        tries: _Tries | None = None  # Made only when something fails: most batches are written at once.
        while not self.abandoned:
            try:
                return self._write(changes)
            except Exception as error:  # noqa: BLE001 - its verdict says what to do
                tries = tries or _Tries()
                told = errors.verdict(error)
                # Not every batch is one transaction: on PostgreSQL the first part of this one may be stored.
                self._doubt(changes)
                if told is Verdict.AGAIN:
                    self._rest(error, tries.deadlocks)
                elif told is Verdict.AWAY:
                    self._lose(error, changes)
                    self._wait(tries.outages)
                    if _is_large(changes):  # The server may have hung up because of its size.
                        return self._one_by_one(changes)
                elif told is Verdict.OTHER and not tries.mended:
                    tries.mended = True  # A new session knows the schema as it is now.
                    self._lose(error, changes, loud=False)
                else:
                    announce(facts.BatchSplit(len(changes), error))
                    return self._one_by_one(changes)
        return [_REFUSED] * len(changes)

    def _write(self, changes: Sequence[Change]) -> list[Outcome]:
        outcomes = writes.write(self.connection, self._owner, changes)
        if self._lost:
            for n, (change, outcome) in enumerate(zip(changes, outcomes, strict=True)):
                outcomes[n] = self._true_outcome(change, outcome)
        if self.failing or self.delays:
            self._recover(changes)
        return outcomes

    def _true_outcome(self, change: Change, outcome: Outcome) -> Outcome:
        """Return what became of a change whose first answer was lost: refused, it may be stored already."""
        if not change.unclear or outcome.stored or outcome.busy or outcome.awake or outcome.error is not None:
            return outcome
        return unclear.find_outcome(self.connection, change)

    # -- one by one --------------------------------------------------------------------------------

    def _one_by_one(self, changes: Sequence[Change]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        busy: set[UUID] = set()
        failed = 0
        for change in changes:
            if (refused := writes.refused(change)) is not None:
                outcome = refused
            elif change.run_id in busy:  # Its row may be free by now: what comes later must still not be first.
                outcome = _BUSY
            elif failed >= _TRIED_ALONE:  # What fails is not theirs: to try hundreds would only take time.
                self.delays.spare(change.run_id)
                outcome = _BUSY
            else:
                before = self.delays.failures
                outcome = self._alone(change)
                failed = failed + 1 if self.delays.failures > before else 0
            if outcome.busy:
                busy.add(change.run_id)
            else:
                self.delays.forget(change.run_id)
                if not outcome.stored:
                    change.chain.refused = change.chain.refused or outcome
            outcomes.append(outcome)
        return outcomes

    def _alone(self, change: Change) -> Outcome:
        tries = _Tries()
        while not self.abandoned:
            try:
                outcome = self._write_alone(change)
            except Exception as error:  # noqa: BLE001 - the table tells them apart
                told = errors.verdict(error)
                if told is Verdict.AGAIN:
                    self._rest(error, tries.deadlocks)
                elif told is Verdict.AWAY:
                    self._lose(error, [change])
                    self._wait(tries.outages)
                    if (excess := self._excess(change)) is not None:
                        return Outcome(False, error=excess)
                elif told is Verdict.OTHER:
                    return self._put_off(change, error)
                else:
                    return Outcome(False, error=error)
            else:
                return outcome
        return _REFUSED

    def _write_alone(self, change: Change) -> Outcome:
        outcome = self._true_outcome(change, unclear.write_alone(self.connection, self._owner, change))
        if self.failing:
            self._recover([])
        return outcome

    def _put_off(self, change: Change, error: Exception) -> Outcome:
        """Try it again later. What is no database's error is a defect: the run fails by it, if all else works."""
        has_session = self.connection.connection is not None
        self._lose(error, [change])
        self.away = not has_session  # What one run cannot store is no reason to claim no other.
        tries = self.delays.put_off(change.run_id)
        if isinstance(error, (Error, MemoryError)) or tries < _BUG_TRIES or not self._works_for(change):
            return _BUSY
        announce(facts.ChangeNotWritable(change.run_id, tries, error))
        return Outcome(False, error=error)

    def _works_for(self, change: Change) -> bool:
        """Return whether an empty change of the same run can be written now."""
        try:
            writes.write(self.connection, self._owner, [Change(change.run_id, change.epoch)])
        except Exception:  # noqa: BLE001 - whatever it is, it is no fault of this change
            engine.reset(self.connection)
            return False
        return True

    def _excess(self, change: Change) -> Exception | None:
        """Return why the change is too large for the server, which then hangs up; `None` if it is not."""
        try:
            return packets.excess(self.connection, change)
        except Exception:  # noqa: BLE001 - the server is not back yet
            engine.reset(self.connection)
            return None

    # -- errors ------------------------------------------------------------------------------------

    def _lose(self, error: Exception, changes: Sequence[Change], *, loud: bool = True) -> None:
        """Begin anew with another session; whether the last one has stored these is not known."""
        self.failing = self.away = True
        if not errors.is_busy(error):
            self._doubt(changes)
            engine.reset(self.connection)
        if loud:
            self._warn(error)

    def _doubt(self, changes: Sequence[Change]) -> None:
        self._lost = True
        for change in changes:
            change.unclear = True

    def _recover(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.delays.forget(change.run_id)
        if self.failing:
            self.failing = self.away = False
            self.outages.end("committer")

    def _rest(self, error: Exception, backoff: Backoff) -> None:
        if backoff.is_longest:
            self._warn(error)
        time.sleep(backoff.failed())

    def _wait(self, backoff: Backoff) -> None:
        """Wait for the database: until another of the worker's connections has an answer, at the longest one pause."""
        if self.outages.wait(backoff.failed()):
            backoff.reset()

    def assure(self) -> bool:
        """Have a connection that answers; False if there is none yet, after a pause. For the thread that leads."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except Exception as error:  # noqa: BLE001 - whatever it is: there is no connection to write on
            self._lose(error, [])
            self._wait(self._connecting)
            return False
        self._connecting.reset()
        if self.failing:
            self._recover([])
        return True

    def _warn(self, error: Exception) -> None:
        self.outages.warn(facts.StoreFailed(error))


class _Tries:
    """How long to pause before the next try of a batch, or of one change, by what has failed."""

    def __init__(self) -> None:
        self.deadlocks = Backoff(_FIRST_PAUSE, _MOST_PAUSE)
        self.outages = Backoff(_FIRST_BACKOFF, _MOST_BACKOFF)
        #: Whether a new session was tried.
        self.mended = False


def _is_large(changes: Sequence[Change]) -> bool:
    return len(changes) > 1 and sum(packets.size(change) for change in changes) >= _LARGE
