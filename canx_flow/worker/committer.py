"""Group commit: what the activations of a worker want stored at this moment, in one fenced transaction.

While one batch commits, the next gathers; `Pace` decides how much it takes. A thread leads, which is to say that it
writes what has gathered and wakes what waits for it. A `def` workflow that waits for the only change there is leads
itself, so that the steps of a run alone in its worker wait for no other thread; otherwise the background thread leads.
No change waits for a batch to grow; but on SQLite, where there is one lock, other processes get their turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from ..core.changes import NO_CHILDREN, NO_WAITS, Change, Outcome
from ..observe import announce, facts
from ..store.db import engine
from ..store.db.databases import session_of
from .bell import Bell
from .gathering import TICK, Gathering, Pace
from .outages import OutageLog
from .ticket import Call, Ticket, go_on
from .unanswered import Unanswered
from .writer import Writer

_QUIET_TICKS = 10  # without a change, after which the background thread sleeps: a hundred cost more than a short run
_PAUSE_AFTER_DEFECT = 0.1  # seconds


class Committer:
    """One connection, one transaction at a time, for any number of runs in flight.

    `on_stored` is told, with its outcome, each change that opens a timer, or has to do with children: the worker has
    more to do then.
    """

    def __init__(
        self,
        alias: str,
        owner: UUID,
        *,
        on_stored: Callable[[Change, Outcome], object] | None = None,
        on_ready: Callable[[], object] | None = None,
        outages: OutageLog | None = None,
    ) -> None:
        self._writer = Writer(alias, owner, outages or OutageLog())
        self._on_stored = on_stored
        self._on_ready = on_ready
        #: Guards which thread leads, and what becomes of each ticket.
        self._mutex = threading.Lock()
        self._gathering = Gathering(self._mutex)
        self._pace = Pace(one_writer=session_of(self._writer.connection).has_one_writer)
        self._bell = Bell()
        self._leading = False
        #: The writer has had a connection that answers; asked again once the database was away.
        self._ready = False
        self._stopped = False
        self._thread = self._new_thread()
        self._writer.connection.watch.on_slow = Unanswered(self._gathering.unstored)  # type: ignore[attr-defined]

    # -- its life: called by the worker's main thread --------------------------------------------------

    def start(self) -> None:
        """Start the background thread, which connects before the first change comes."""
        self._thread.start()
        self._bell.ring()

    def revive(self) -> bool:
        """Start the background thread anew if it is dead though it was not stopped; return whether it was."""
        if self._stopped or self._thread.ident is None or self._thread.is_alive():
            return False
        self._thread = self._new_thread()
        self.start()
        return True

    def doubt(self) -> None:
        """Ask whether there still is a connection, before slots take what there are: the database was away."""
        self._ready = False
        self._bell.ring()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to write on, as far as is known. Asked before anything is claimed."""
        return self._ready and not self._writer.away

    @property
    def failing(self) -> bool:
        """Whether the database is away, as far as this connection knows."""
        return self._writer.failing

    def complain(self, fact: facts.Outage) -> None:
        """Announce an outage, unless one was announced less than a minute ago."""
        self._writer.outages.warn(fact)

    def abandon(self) -> None:
        """Write nothing more: whatever waits is refused. For a worker that was found dead, or must leave now."""
        self._writer.abandoned = True
        self._bell.ring()

    def stop(self) -> None:
        """Store what has been handed in, then end; at once if it was abandoned."""
        self._stopped = True
        self._bell.ring()
        if self._thread.ident is not None and not self._writer.abandoned:
            self._thread.join()

    # -- handing in, and waiting: called by slots and tasks ---------------------------------------------

    def store(self, change: Change) -> Ticket:
        """Hand in a change; it is stored at the latest when its outcome is waited for, or a tick later."""
        ticket = Ticket(change, self)
        self._gathering.queue.append(ticket)
        if not self._bell.armed:
            self._bell.arm()
        return ticket

    def wait(self, ticket: Ticket) -> None:
        """Lead, if no thread does and there is nothing else to write; or sleep until the outcome is there."""
        with self._mutex:
            if self._is_answered(ticket):
                return
            led = self._leading
            # Of many threads none leads, not even by turns: glibc keeps freed memory for each that writes batches.
            alone = not led and not ticket.held and len(self._gathering.queue) == 1
            if alone:
                self._leading = True
            else:
                ticket.prepare()
        if alone:
            self._lead(ticket)
            return
        if not led:
            self._bell.ask()
        ticket.block()

    def call_later(self, ticket: Ticket, call: Call) -> bool:
        """Have this called with the outcome; return False, and call nothing, if that is there already."""
        with self._mutex:
            if self._is_answered(ticket):
                return False
            ticket.remember(call)
            led = self._leading
        if not led:
            self._bell.ask()
        return True

    def is_answered(self, ticket: Ticket) -> bool:
        """Return whether its outcome is there; a ticket of an abandoned committer is refused by that."""
        with self._mutex:
            return self._is_answered(ticket)

    def _is_answered(self, ticket: Ticket) -> bool:
        if ticket.outcome is None and self._writer.abandoned:
            ticket.refuse()  # There may be no background thread any more.
        return ticket.outcome is not None

    def lead_in_background(self) -> None:
        """Have the background thread lead, unless it was asked to already."""
        self._bell.ask()

    # -- leading: one thread at a time --------------------------------------------------------------------

    def _take_lead(self) -> bool:
        with self._mutex:
            if self._leading:
                return False
            self._leading = True
            return True

    def _lead(self, own: Ticket | None) -> None:
        """Write batches until our own change is stored; the background thread, until there is nothing to write."""
        try:
            while self._gathering.queue and (own is None or (own.outcome is None and not own.held)):
                if own is None and not self._must_hurry():
                    self._pace.wait()
                self._write_gathered()
                self._gathering.release(self._may_go)
        finally:
            self._leave_lead()

    def _leave_lead(self) -> None:
        with self._mutex:
            self._leading = False
            awaited = self._gathering.is_awaited()
        if awaited:
            self._bell.ask()

    def _must_hurry(self) -> bool:
        return self._stopped or self._writer.abandoned

    def _may_go(self, run_id: UUID, now: float) -> bool:
        return self._writer.abandoned or self._writer.delays.is_due(run_id, now)

    def _write_gathered(self) -> None:
        began = time.monotonic()
        # Other threads of this process that write are waited for before, not after: what is handed in meanwhile goes
        # along.
        with engine.turn(self._writer.connection):
            batch = self._gathering.take(self._pace.most)
        if not batch:
            return
        try:
            outcomes = self._writer.write([ticket.change for ticket in batch])
        except BaseException:
            self._gathering.give_back(batch)
            raise
        self._gathering.written()
        self._pace.written(began)
        try:
            self._tell_of_stored(batch, outcomes)
        finally:
            self._answer(batch, outcomes)

    def _tell_of_stored(self, batch: Sequence[Ticket], outcomes: Sequence[Outcome]) -> None:
        """Tell the worker of timers and children before the runs go on that have opened or begun them."""
        if self._on_stored is not None:
            for ticket, outcome in zip(batch, outcomes, strict=True):
                change = ticket.change
                if change.settle is None and change.waits is NO_WAITS and change.children is NO_CHILDREN:
                    continue  # As of most steps.
                if outcome.stored and change.leads_to_more:
                    self._on_stored(change, outcome)

    def _answer(self, batch: Sequence[Ticket], outcomes: Sequence[Outcome]) -> None:
        """Give each ticket its outcome, and let what waits for it go on."""
        answered: list[Ticket] = []
        with self._mutex:
            for ticket, outcome in zip(batch, outcomes, strict=True):
                if outcome.busy and not self._writer.abandoned:
                    self._gathering.hold(ticket)
                else:
                    ticket.answer(outcome)
                    answered.append(ticket)
        go_on(answered)
        # The background thread may have found nothing to do while this batch was being written.
        if self._gathering.held:
            self._bell.arm()

    # -- the background thread -----------------------------------------------------------------------------

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._background, name="canx_flow committer", daemon=True)

    def _background(self) -> None:
        quiet = 0
        while True:
            self._bell.wait(TICK if self._bell.armed or self._stopped or not self._ready else None)
            if not (self._ready or self._must_hurry()) and self._take_lead():
                self._connect()
            asked = self._bell.answer()
            self._gathering.release(self._may_go)
            if self._gathering.queue and self._take_lead():
                self._lead_unharmed()
                quiet = 0
            elif not self._gathering.queue and not asked:
                quiet += 1
            # Not while a slot's thread still writes: to close a connection under it may end the process.
            if self._stopped and self._gathering.is_empty() and self._take_lead():
                engine.reset(self._writer.connection)
                if self._leave_for_good():
                    return
            if quiet > _QUIET_TICKS and self._gathering.is_empty():
                quiet = 0
                self._sleep_until_armed()

    def _connect(self) -> None:
        """Connect before the first change comes, and again after an outage."""
        try:
            self._ready = self._writer.assure()
        finally:
            self._leave_lead()
        if self._ready and self._on_ready is not None:
            self._on_ready()

    def _lead_unharmed(self) -> None:
        """Lead, and go on whatever breaks: every run waits for this thread."""
        try:
            self._lead(None)
        except Exception as error:  # noqa: BLE001 - an error of the database has been seen to by the writer
            announce(facts.CommitterBroke(error))
            time.sleep(_PAUSE_AFTER_DEFECT)

    def _leave_for_good(self) -> bool:
        """Leave the lead, and return True, unless a change has come that relies on it."""
        with self._mutex:
            self._leading = not self._gathering.is_empty()
            if not self._leading:
                return True
        self._lead_unharmed()
        return False

    def _sleep_until_armed(self) -> None:
        """Wake no more each tick. A change that is handed in at this moment has found the bell armed: asked again."""
        self._bell.disarm()
        if not self._gathering.is_empty():
            self._bell.armed = True
