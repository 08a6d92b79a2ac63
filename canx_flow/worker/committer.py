"""Group commit: what the activations of a worker want stored at this moment, in one fenced transaction.

While one batch commits, the next gathers; `_note_busy` decides how much it takes. A thread leads, which is to say that
it writes what has gathered and wakes who waits for it. A `def` workflow that waits for the only change there is leads
itself, so that the steps of a run alone in its worker wait for no other thread; for everybody else the background
thread leads. Nobody waits for a batch to grow; but on SQLite, where there is one lock, other processes get their turn.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from math import ceil, exp
from queue import Empty, SimpleQueue
from uuid import UUID

from django.db import connections

from ..core.changes import Change, Outcome
from ..observe import announce, facts
from ..store.db import engine
from ..store.db.databases import session_of
from .outages import SECONDS_BETWEEN_WARNINGS, OutageLog
from .writer import Writer

_MOST = 500  # changes in one transaction
_FEW = 16  # changes in one transaction while the connection is idle otherwise
_REMEMBERED = 0.1  # seconds that count for how busy the connection is
_PATIENCE = 1.0  # seconds that a thread waits for its change before it gives back what it keeps
_TICK = 0.01  # seconds that a change may lie while its body is busy
_LEFT_TO_OTHERS = 0.5  # of the time that a batch took, before the background thread takes SQLite's lock again
_MOST_LEFT = 0.12  # seconds: who waits for that lock looks again by then
_PAUSE_AFTER_DEFECT = 0.1  # seconds


class Pending:
    """A change handed in. Its outcome comes once, to a thread or to the event loop."""

    outcome: Outcome | None = None
    waiting = False
    #: Its row is locked by somebody's transaction: it is in no queue until the next tick.
    held = False
    #: Who is to be woken next, once this one is awake.
    after: Pending | None = None
    loop: asyncio.AbstractEventLoop | None = None
    _lock: threading.Lock | None = None
    _future: asyncio.Future[Outcome] | None = None
    #: Who is to be told, where nobody waits.
    call: Callable[[Outcome], object] | None = None

    def __init__(self, change: Change, committer: Committer) -> None:
        self.change = change
        self._committer = committer

    def wait(self) -> Outcome:
        """Block until it is stored or refused; lead the commit if there is no other change."""
        while self.outcome is None:
            self._committer.wait(self)
        return self.outcome

    async def wait_async(self) -> Outcome:
        """The same in the event loop."""
        if not self._committer.is_answered(self):
            self.loop = asyncio.get_running_loop()
            future = self._future = self.loop.create_future()
            self._committer.lead_in_background()
            # Looked at again: it may have come between the look and the future.
            if self.outcome is None:
                outcome: Outcome = await future
                return outcome
        assert self.outcome is not None
        return self.outcome

    def then(self, call: Callable[[Outcome], object]) -> None:
        """Wait for nothing: the thread that writes it calls this, even in the midst of another run. Be short."""
        if not self._committer.note(self, call):
            assert self.outcome is not None
            call(self.outcome)

    def block(self) -> None:
        """Sleep until the outcome is there, then wake who comes after us."""
        assert self._lock is not None
        while not self._lock.acquire(timeout=_PATIENCE):
            self._committer.release_connections()
        after, self.after = self.after, None
        if after is not None:
            after.rouse()

    def prepare(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.waiting = True

    def rouse(self) -> None:
        assert self._lock is not None
        self._lock.release()

    def resolve(self) -> None:
        """In the event loop: let the task go on."""
        if self._future is not None and not self._future.done() and self.outcome is not None:
            self._future.set_result(self.outcome)


class Committer:
    """One connection, one transaction at a time, for any number of runs in flight.

    `on_wait` is told each change that opens a timer: the worker must know when the next one is due.
    """

    def __init__(
        self,
        alias: str,
        owner: UUID,
        *,
        on_wait: Callable[[Change], object] | None = None,
        on_ready: Callable[[], object] | None = None,
        outages: OutageLog | None = None,
    ) -> None:
        self._outages = outages or OutageLog()
        self._writer = Writer(alias, owner, self._outages)
        self._connection = self._writer.connection
        self._on_wait = on_wait
        self._on_ready = on_ready
        self._ready = False
        self._writing = 0
        self._told_slow_at = float("-inf")
        self._connection.watch.on_slow = self._tell_slow  # type: ignore[attr-defined]
        self._queue: deque[Pending] = deque()
        self._held: list[Pending] = []
        self._released_at = 0.0
        self._mutex = threading.Lock()
        self._leading = False
        #: Wakes the background thread. Of the means for that it takes the fewest turns at the interpreter.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._armed = False
        self._asked = False
        self._stopped = False
        #: Which part of the time, lately, has gone into writing, from 0 to 1; how many changes the next batch may have.
        self._busy = 0.0
        self._most = _FEW
        #: The end of the last batch, and of the time after it in which SQLite's lock is left to other processes.
        self._free_until = time.monotonic()
        self._thread = self._new_thread()
        #: Counted for people and tests.
        self.commits = 0
        self.changes = 0

    def start(self) -> None:
        self._thread.start()
        self._bell.put(None)

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._background, name="canx_flow committer", daemon=True)

    def revive(self) -> bool:
        """Start the background thread anew if it is dead though it was not stopped; whether it was."""
        if self._stopped or self._thread.ident is None or self._thread.is_alive():
            return False
        self._thread = self._new_thread()
        self.start()
        return True

    def doubt(self) -> None:
        """The database was away: look whether there still is a connection, before slots take what there are."""
        self._ready = False
        self._bell.put(None)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to write on, as far as is known. Asked before anything is claimed."""
        return self._ready and not self._writer.away

    def _assure(self) -> None:
        """Connect before the first change comes, and again after an outage."""
        self._writing = 0
        try:
            self._ready = self._writer.assure()
        finally:
            self._leave_lead()
        if self._ready and self._on_ready is not None:
            self._on_ready()

    def release_connections(self) -> None:
        """Called by a thread that has waited for a while: while we have no connection, it keeps none of its own."""
        if self.failing:
            for connection in connections.all(initialized_only=True):
                if not (connection.in_atomic_block or engine.is_own(connection)):
                    connection.close()

    def _tell_slow(self, seconds: float) -> None:
        moment = time.monotonic()
        if moment - self._told_slow_at >= SECONDS_BETWEEN_WARNINGS:
            self._told_slow_at = moment
            waiting = self._writing + len(self._queue)
            announce(facts.WriteUnanswered(seconds, waiting))

    def stop(self) -> None:
        """Store what has been handed in, then end; at once if it was abandoned."""
        self._stopped = True
        self._bell.put(None)
        if self._thread.ident is not None and not self._writer.abandoned:
            self._thread.join()

    def abandon(self) -> None:
        """Write nothing more: whatever waits is refused. For a worker that was found dead, or must leave now."""
        self._writer.abandoned = True
        self._bell.put(None)

    @property
    def failing(self) -> bool:
        """Whether the database is away, as far as this connection knows."""
        return self._writer.failing

    def complain(self, fact: facts.Outage) -> None:
        """Announce an outage, unless one was announced less than a minute ago."""
        self._outages.warn(fact)

    def store(self, change: Change) -> Pending:
        """Hand in a change; it is stored at the latest when somebody waits for it, or a tick later."""
        pending = Pending(change, self)
        self._queue.append(pending)
        if not self._armed:
            self._armed = True
            self._bell.put(None)
        return pending

    def wait(self, pending: Pending) -> None:
        """Lead, if nobody does and there is nothing else to write; or sleep until the outcome is there."""
        with self._mutex:
            if self._is_answered(pending):
                return
            led = self._leading
            # Of many threads none leads, not even by turns: glibc keeps freed memory for each that writes batches.
            alone = not led and not pending.held and len(self._queue) == 1
            if alone:
                self._leading = True
            else:
                pending.prepare()
        if alone:
            self._lead(pending)
            return
        if not led:
            self.lead_in_background()
        pending.block()

    def note(self, pending: Pending, call: Callable[[Outcome], object]) -> bool:
        """Have this called with the outcome; False if that is there already, and then it is not called."""
        with self._mutex:
            if self._is_answered(pending):
                return False
            pending.call = call
            led = self._leading
        if not led:
            self.lead_in_background()
        return True

    def is_answered(self, pending: Pending) -> bool:
        """Whether its outcome is there; whoever asks an abandoned committer is refused by that."""
        with self._mutex:
            return self._is_answered(pending)

    def _is_answered(self, pending: Pending) -> bool:
        if pending.outcome is None and self._writer.abandoned:
            pending.outcome = Outcome(False)  # There may be no background thread any more.
        return pending.outcome is not None

    def lead_in_background(self) -> None:
        # Once: hundreds of tasks ask in a row, while that thread tries to get the interpreter.
        if not self._asked:
            self._asked = True
            self._bell.put(None)

    def _lead(self, own: Pending | None) -> None:
        """Write batches until our own change is stored; the background thread, until there is nothing to write."""
        try:
            while self._queue and (own is None or (own.outcome is None and not own.held)):
                if own is None:
                    self._let_others_go_first()
                self._write_gathered()
                self._release_held_in_time()
        finally:
            self._leave_lead()

    def _leave_lead(self) -> None:
        with self._mutex:
            self._leading = False
            # A copy: others go on handing in. What nobody waits for yet may lie for a tick.
            awaited = any(p.waiting or p.loop is not None or p.call is not None for p in list(self._queue))
        if awaited:
            self.lead_in_background()

    def _let_others_go_first(self) -> None:
        """Threads that were just woken hand in their next changes, and these go along.

        And SQLite has no queue for its lock: who finds it taken looks again after up to 100 ms. Were it taken again as
        soon as it is free, a web process beside a busy worker would never see it so, and fail with "database is
        locked" after its timeout.
        """
        pause = self._free_until - time.monotonic()
        if not (self._stopped or self._writer.abandoned):
            time.sleep(max(pause, 0.0))

    def _write_gathered(self) -> None:
        began = time.monotonic()
        # Whoever else of this process writes is waited for before, not after: what is handed in meanwhile goes along.
        with engine.turn(self._connection):
            batch = self._gather()
        self._writing = len(batch)
        if not batch:
            return
        try:
            outcomes = self._writer.write([pending.change for pending in batch])
        except BaseException:
            with self._mutex:  # Whatever it was: nobody may wait for ever for what is in no queue.
                self._queue.extendleft(reversed(batch))
            raise
        self._note_busy(began)
        self.commits += 1
        self.changes += len(batch)
        try:
            self._tell_of_waits(batch, outcomes)
        finally:
            self._resolve(batch, outcomes)

    def _tell_of_waits(self, batch: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
        if self._on_wait is not None:
            for pending, outcome in zip(batch, outcomes, strict=True):
                if outcome.stored and pending.change.opens:
                    self._on_wait(pending.change)

    def _resolve(self, batch: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
        """Tell everybody what became of his change."""
        sleeping, resolved, calls = [], [], []
        with self._mutex:
            for pending, outcome in zip(batch, outcomes, strict=True):
                if outcome.busy and not self._writer.abandoned:
                    # Locked by somebody's transaction: into a later batch, so that its neighbours go on now. All
                    # changes of that run are, and keep their order.
                    pending.held = True
                    self._held.append(pending)
                    continue
                pending.outcome = outcome
                if pending.waiting:
                    sleeping.append(pending)
                elif pending.loop is not None:
                    resolved.append(pending)
                elif pending.call is not None:
                    calls.append((pending.call, outcome))
                    pending.call = None  # It knows what this belongs to: nothing of a run may outlive its end.
        _wake(sleeping)
        if resolved:
            _tell(resolved)
        for call, outcome in calls:
            try:
                call(outcome)
            except Exception as error:  # noqa: BLE001 - the thread that wrote it and the rest of its batch go on
                announce(facts.AfterStoreFailed(error))
        # The background thread may have found nothing to do while this batch was being written.
        if self._held and not self._armed:
            self._armed = True
            self._bell.put(None)

    def _gather(self) -> list[Pending]:
        batch: list[Pending] = []
        with self._mutex:
            held = {pending.change.run_id for pending in self._held} if self._held else ()
            while self._queue and len(batch) < self._most:
                pending = self._queue.popleft()
                if held and pending.change.run_id in held:  # Not before what was handed in earlier.
                    pending.held = True
                    self._held.append(pending)
                else:
                    batch.append(pending)
        return batch

    def _note_busy(self, began: float) -> None:
        """A batch was written: how many changes may the next one have?

        Few while there is time for many commits, all there are when there is none. Runs that are committed together go
        on together, and hand in their next changes together. Were a batch always all that waits, such groups would only
        ever grow, and each would wait longer for the one before it.
        """
        ended = time.monotonic()
        passed = max(ended - self._free_until, 1e-9)  # What was left to others was no time for a commit.
        forgotten = exp(-passed / _REMEMBERED)
        self._busy = self._busy * forgotten + min(1.0, (ended - began) / passed) * (1.0 - forgotten)
        self._free_until = ended
        if session_of(self._connection).has_one_writer:
            self._free_until += min((ended - began) * _LEFT_TO_OTHERS, _MOST_LEFT)
        self._most = min(_MOST, ceil(_FEW / max(1.0 - self._busy, _FEW / _MOST)))

    def _release_held_in_time(self) -> None:
        """Try again, once a tick, what stands behind somebody's transaction: each try costs its neighbours time."""
        if not self._held or time.monotonic() - self._released_at < _TICK:
            return
        with self._mutex:
            now = self._released_at = time.monotonic()
            everything, self._held = self._held, []
            held: list[Pending] = []
            for pending in everything:
                pending.held = not (self._writer.abandoned or self._writer.delays.is_due(pending.change.run_id, now))
                (self._held if pending.held else held).append(pending)
            self._queue.extendleft(reversed(held))

    # -- background --------------------------------------------------------------------------------

    def _background(self) -> None:
        quiet = 0
        while True:
            with suppress(Empty):
                self._bell.get(timeout=_TICK if self._armed or self._stopped or not self._ready else None)
            if not (self._ready or self._stopped or self._writer.abandoned) and self._take_lead():
                self._assure()
            asked, self._asked = self._asked, False
            self._release_held_in_time()
            if self._queue and self._take_lead():
                self._lead_unharmed()
                quiet = 0
            elif not self._queue and not asked:
                quiet += 1
            # Not while a slot's thread still writes: to close a connection under it may end the process.
            if self._stopped and not self._queue and not self._held and self._take_lead():
                engine.reset(self._connection)
                if self._is_forsaken():
                    return
            if quiet > 100 and not self._queue and not self._held:
                # Nothing for a second: sleep until the next change arms us again.
                self._armed, quiet = False, 0
                if self._queue or self._held:
                    self._armed = True

    def _lead_unharmed(self) -> None:
        """Should something break that is no matter of the database, every run waits for this thread to go on."""
        try:
            self._lead(None)
        except Exception as error:  # noqa: BLE001 - see above
            announce(facts.CommitterBroke(error))
            time.sleep(_PAUSE_AFTER_DEFECT)

    def _is_forsaken(self) -> bool:
        """Leave the lead for good, unless somebody has come who relies on it."""
        with self._mutex:
            self._leading = bool(self._queue or self._held)
            if not self._leading:
                return True
        self._lead_unharmed()
        return False

    def _take_lead(self) -> bool:
        with self._mutex:
            if self._leading:
                return False
            self._leading = True
            return True


def _wake(sleeping: Sequence[Pending]) -> None:
    """Wake threads in a chain, each by the one before it: all at once they would only fight for the interpreter."""
    for pending, after in pairwise(sleeping):
        pending.after = after
    if sleeping:
        sleeping[0].rouse()


def _tell(resolved: Sequence[Pending]) -> None:
    """Let tasks go on, each in its event loop: a worker has one, and another one once that has broken."""
    loops: dict[asyncio.AbstractEventLoop, list[Pending]] = {}
    for pending in resolved:
        assert pending.loop is not None
        loops.setdefault(pending.loop, []).append(pending)
    for loop, some in loops.items():
        try:
            loop.call_soon_threadsafe(_go_on, some)
        except RuntimeError:
            announce(facts.LoopGone())


def _go_on(resolved: Sequence[Pending]) -> None:
    for pending in resolved:
        pending.resolve()
