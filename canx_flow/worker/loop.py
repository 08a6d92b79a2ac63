"""A worker's turn: claim, hand out, return how long to sleep. And around it, its life: register, work, say goodbye.

Called by `runflowworker`. Everything that may meet an absent database is tried again; only too many threads
left behind end a worker that nobody has asked to stop.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.utils import DatabaseError, Error

from .. import conf
from ..core import clock, registry
from ..core.changes import Change, ClaimedRun
from ..observe import announce, facts
from ..states import Kind
from ..store import claims, host, leases, pulse, telling, timers
from ..store.db import engine, errors
from ..store.db.outages import OutageLog
from ..store.pulse import Pulse
from .about import VERSION
from .activity import Activity
from .committer import Committer
from .heartbeat import Heartbeat, touch
from .leaving import InFlight, Leaving
from .maintenance import Maintenance
from .port import WorkerPort
from .slots import Slots
from .solitude import Solitude
from .teller import Teller
from .threads import StepThreads
from .vitals import Vitals
from .wakeup import Listener

CLEAN, FATAL, FORCED = 0, 1, 3
_FIRST_BACKOFF, _MOST_BACKOFF = 0.1, 5.0
_QUIET_REPEATS = 5  # turns that a deadlock or a serialization failure repeats before that is told
_LOCKED_PAUSE = 0.05  # seconds until timers and events are tried again whose runs somebody has locked
_WAITED_TOO_LONG = 1.0  # seconds in a slot's queue after which a claimed run is offered to other workers
_FIRE_ANYWAY = 0.02  # seconds between two looks at what is due, while no slot is free
_AHEAD_SECONDS = 0.02  # how much work to hold claimed beyond the slots, so that claims come in batches
_SWITCH_SECONDS = 0.001
_GRACE = 1.0  # seconds for a project's receivers once we must leave
_MOST_PUT_OFF = 1000  # runs that are woken when the database is back; more wait for their own time
_NOT_LOOKED = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Options:
    """What `runflowworker` was asked for. Times in seconds; no queues: all of them."""

    queues: tuple[str, ...] = ()
    concurrency: int = 16
    poll_seconds: float = 1.0
    burst: bool = False
    max_runs: int | None = None
    name: str = ""
    shutdown_timeout: float = 25.0
    heartbeat_file: Path | None = None


class WorkerLoop:
    """One worker process. `stop` and `force` may be called from signal handlers and other threads."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.alias = conf.get().database
        self._stopping = False
        self._forced = False
        self._listener: Listener | None = None
        self._claimed = 0
        self.outages = OutageLog()

    def stop(self) -> None:
        """Claim nothing more, let current steps finish, hand the runs back."""
        self._stopping = True
        if self._listener is not None:
            self._listener.wake("stop")

    def force(self) -> None:
        """Leave now."""
        self._forced = True
        self.stop()

    def run(self) -> int:
        """Work until asked to stop; the process's exit code."""
        with engine.use_engine_connection(self.alias), _prompt_threads():
            self._listener = Listener(f"{os.getpid()}-{os.urandom(4).hex()}", alias=self.alias)
            try:
                while True:
                    code = _Life(self, self._listener).live()
                    if code is not None:
                        return code
            finally:
                self._listener.close()

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def forced(self) -> bool:
        return self._forced

    def may_claim(self) -> int | None:
        """How many runs may still be claimed, by --max-runs."""
        most = self.options.max_runs
        return None if most is None else max(0, most - self._claimed)

    def claimed(self, runs: int) -> None:
        self._claimed += runs


@contextmanager
def _prompt_threads() -> Iterator[None]:
    """Let a thread whose database has answered go on soon, though others compute.

    Python would make it wait for five milliseconds, which is longer than a commit, and whole batches wait with it.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class _Life:
    """From registering to goodbye, or to being found dead: then everything is dropped, and another life begins."""

    def __init__(self, worker: WorkerLoop, listener: Listener) -> None:
        self._worker = worker
        self._options = worker.options
        self._listener = listener
        self._alias = worker.alias
        self._backoff = _FIRST_BACKOFF
        #: Turns that have failed in a row.
        self._failures = 0
        #: Since when turns have failed though the database answers.
        self._odd_since: float | None = None
        #: Runs that were handed back because of an outage; whether the database has been away and is back.
        self._put_off: set[UUID] = set()
        self._was_away = False
        self._outages = worker.outages
        self._next_due: datetime | None = None
        self._due_lock = threading.Lock()
        self._told: set[str] = set()
        self._polled_at = float("-inf")
        #: There may be more ready runs than the last claim took.
        self._more_ready = False
        self._rate = _Rate()
        self._fired_at = float("-inf")
        self._looked_twice = False
        self._stuck = False
        #: When to look again for runs that this worker owns and does not know of.
        self._reconcile_at = float("-inf")

    def live(self) -> int | None:
        """The exit code, or `None` if this worker was found dead and shall begin anew."""
        if not self._register():
            return CLEAN
        code: int | None = CLEAN
        try:
            code = self._work()
        finally:
            self._end(code)
        return code

    # -- beginning and end ---------------------------------------------------------------------------

    def _register(self) -> bool:
        while not self._worker.stopping:
            touch(self._options.heartbeat_file)
            try:
                row = leases.register(
                    **asdict(host.identify()), name=self._options.name, queues=self._options.queues,
                    workflows=registry.identities(), concurrency=self._options.concurrency,
                    socket=self._listener.path, version=VERSION,
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001 - an outage, mostly: _survive tells them apart
                self._survive(error)
            else:
                self._assemble(row.id)
                return True
        return False

    def _assemble(self, owner: Any) -> None:
        self._owner = owner
        self._threads = StepThreads(lambda: self._listener.wake("abandoned"))
        self._committer = Committer(
            self._alias,
            owner,
            on_wait=self._timer_opened,
            on_ready=lambda: self._listener.wake("ready"),
            outages=self._outages,
        )
        self._activity = Activity()
        self._heartbeat = Heartbeat(
            owner,
            snapshot=self._snapshot,
            on_dead=self._found_dead,
            on_fresh=lambda: self._listener.wake("fresh"),
            file=self._options.heartbeat_file,
            outages=self._outages,
        )
        self._port = WorkerPort(self._alias, owner, self._committer, self._heartbeat, self._threads)
        self._slots = Slots(self._port, self._options.concurrency, self._slot_freed)
        self._solitude = Solitude(owner)
        self._teller = Teller(self._threads)
        self._maintenance = Maintenance(
            owner, self._alias, self._options.queues, self._options.poll_seconds, self._teller
        )
        self._vitals = Vitals(self._committer, self._heartbeat, self._listener)
        self._outages.on_back[:] = [self._back, self._listener.hurry, *self._outages.on_back[-1:]]
        self._committer.start()
        self._heartbeat.start()

    def _end(self, code: int | None) -> None:
        """Leave nothing behind that nobody will pick up; a worker that must leave at once does what it can."""
        leaving_at_once = code in (None, FORCED)
        self._port.stop()
        if leaving_at_once:
            self._committer.abandon()
        self._slots.close()
        self._threads.close()
        self._committer.stop()
        self._heartbeat.stop()
        if code is not None:
            self._say_goodbye(_GRACE if leaving_at_once else self._options.shutdown_timeout)

    def _say_goodbye(self, patience: float) -> None:
        try:
            leases.say_goodbye(self._owner)
            while leases.recover(self._owner):
                pass
            telling.forget()
            telling.tell(self._alias)
            self._maintenance.tell_of_late()  # Last: a project's receivers may take their time, its runs need not wait.
            self._teller.wait(patience)
        except Exception as error:
            if not errors.is_outage(error):
                raise
            announce(facts.GoodbyeFailed(error, conf.get().lease_seconds))

    def _found_dead(self) -> None:
        announce(facts.WorkerFoundDead(conf.get().lease_seconds))
        self._committer.abandon()
        self._listener.wake("dead")

    # -- the turn ------------------------------------------------------------------------------------

    def _work(self) -> int | None:
        while not self._worker.stopping:
            if self._heartbeat.dead:
                return None
            if self._threads.abandoned >= self._options.concurrency:
                announce(facts.TooManyAbandoned(self._threads.abandoned))
                return self._hand_back() or FATAL
            if why := self._gives_up():
                announce(why)
                return self._hand_back() or FATAL
            try:
                pause = self._turn()
                self._succeeded()
            except Exception as error:  # noqa: BLE001 - an outage, mostly: _survive tells them apart
                self._survive(error)
                continue
            if pause is None:
                break
            if pause > 0:
                self._told |= self._listener.wait(pause)
        return self._hand_back()

    def _turn(self) -> float | None:
        """Do what is to do now; seconds to sleep then, `None` when a bounded worker is done."""
        told, self._told = self._told, set()
        self._more_ready = self._more_ready or bool(told)
        if self._clock() - self._polled_at >= self._options.poll_seconds:
            self._poll()
        elif "event" in told:
            self._maintenance.deliver()
            self._more_ready = True
        elif self._maintenance.locked_out:
            self._more_ready = self._maintenance.deliver() > 0 or self._more_ready
        if "timer" in told:
            self._look()
        if self._is_done(self._fire_and_claim()):
            return None
        return 0.0 if self._more_ready and self._room() > 0 else self._pause()

    def _poll(self) -> None:
        """Everything that nobody tells us of."""
        self._polled_at = self._clock()
        died = self._maintenance.watch()
        if self._polled_at >= self._reconcile_at:
            self._reconcile()
        found = self._look()
        if found.orphaned or died:
            self._maintenance.recover()
            found = self._look()  # Only now is it known which of them must run alone.
        if found.undelivered:
            self._maintenance.deliver()
        if found.parked or found.ready:
            nobody_claims_them = found.ready and not self._more_ready
            self._maintenance.look_at_parked(nothing_known_is_ready=nobody_claims_them, room=self._room())
        self._more_ready = self._more_ready or found.ready or found.orphaned or found.undelivered or found.parked
        self._maintenance.tidy()
        self._make_room(found.alone)
        self._slots.hand_back_waiting(0.0 if self._solitude.makes_room else _WAITED_TOO_LONG)
        self._slots.reinforce()

    def _make_room(self, wanted: bool) -> None:
        """Look whether a run must be alone, and whether it is up to this worker to become empty for it."""
        found = None
        if wanted:
            known, queues = registry.identities(), self._options.queues
            found = claims.suspect(connections[self._alias], self._owner, known, queues)
        # Asked anew: those that the watch has seen may be some seconds old, and all must see the same.
        live = leases.live_workers() if found is not None else ()
        begins = self._solitude.look(found, live, self._clock())
        if begins and self._slots.in_flight:
            self._solitude.say(self._slots.in_flight)

    def _reconcile(self) -> None:
        """Give back what this worker owns and does not know of: a claim, say, whose answer was lost.

        What is claimed is known before the next look, for this thread does both; what is left is forgotten only once
        that is stored.
        """
        found = leases.disown(self._owner, self._slots.claimed())
        self._reconcile_at = self._clock() + conf.get().lease_seconds
        if found:
            announce(facts.UnknownRunsReleased(tuple(found)))
            self._more_ready = True

    def _fire_and_claim(self) -> int:
        """Fire what is due, then claim for the slots that are free: mostly the very runs that were woken by it.

        Returns how many timers and runs that was. Nothing is started and nobody is told of before it is committed.
        """
        connection, fired, runs, claiming = connections[self._alias], 0, [], False
        may_fire, told_of = self._may_fire(), len(self._maintenance.late)
        undone = connection.vendor == "sqlite"  # Should it break: elsewhere what was fired is committed by itself.
        try:
            with engine.together(connection) if may_fire else nullcontext():
                if may_fire:
                    fired = self._fire()
                if self._more_ready:
                    claiming = True
                    runs = self._claim()
            undone = False
            claims.load(connection, runs)
            for run in runs:
                self._slots.start(run)
            self._worker.claimed(len(runs))
        except Exception:
            if claiming:
                # It may have been done all the same; or is done later, and then found a lease after that.
                self._polled_at = self._reconcile_at = float("-inf")
            if undone:
                self._maintenance.doubt(told_of)
            raise
        self._maintenance.tell_of_late()
        return fired + len(runs)

    def _claim(self) -> list[ClaimedRun]:
        """Runs for the slots that are free; without their records."""
        room = self._room()
        left = self._worker.may_claim()
        most = room if left is None else min(room, left)
        alone = self._solitude.is_wanted and self._slots.in_flight == 0
        self._more_ready = room <= 0
        if most <= 0:
            return []
        known, queues = registry.identities(), self._options.queues
        runs = claims.claim(connections[self._alias], self._owner, 1, known, queues, alone=True) if alone else []
        self._solitude.enter(bool(runs), tried=alone)
        runs = runs or claims.claim(connections[self._alias], self._owner, most, known, queues)
        self._more_ready = len(runs) == most
        return runs

    def _room(self) -> int:
        """Slots that are free, and some ahead where runs are short: one claim for many instead of one for each."""
        in_flight = self._slots.in_flight
        if in_flight > self._options.concurrency or not self._solitude.leaves_room(in_flight):
            return 0
        if not self._vitals.connected():  # Slots must not take the connections that these are to have.
            return 0
        ahead = min(self._options.concurrency, int(self._rate.of(self._slots.finished, self._clock()) * _AHEAD_SECONDS))
        return self._options.concurrency + ahead - in_flight

    def _is_done(self, found: int) -> bool:
        """Whether a worker with --burst or --max-runs has nothing left; looked at twice, for what was just written."""
        bounded = self._options.burst or self._worker.may_claim() == 0
        if self._slots.in_flight or not bounded or not self._vitals.connected():
            self._looked_twice = False
            return False
        if self._worker.may_claim() == 0:
            return True
        looked, self._looked_twice = self._looked_twice, not found
        self._polled_at = float("-inf")
        return looked and not found

    def _pause(self) -> float:
        """Seconds until the next poll, or until exactly when the next timer is due."""
        pause = max(0.0, self._polled_at + self._options.poll_seconds - self._clock())
        if self._maintenance.locked_out:
            pause = min(pause, _LOCKED_PAUSE)
        with self._due_lock:
            due = self._next_due
        least = 0.0
        if self._stuck and self._is_due():  # What is due and did not fire stands behind somebody's lock.
            least = _LOCKED_PAUSE
        elif self._room() <= 0:
            least = max(0.0, self._fired_at + _FIRE_ANYWAY - self._clock())
        return pause if due is None else min(pause, max(least, (due - clock.now()).total_seconds()))

    # -- timers --------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        with self._due_lock:
            return self._next_due is not None and self._next_due <= clock.now()

    def _may_fire(self) -> bool:
        """Whether something is due. Without a slot to spare it is fired only now and then, many at once: the runs are
        for other workers then.
        """
        if not self._is_due():
            return False
        if self._room() <= 0 and self._clock() - self._fired_at < _FIRE_ANYWAY:
            self._more_ready = True  # As good as: a slot that is freed wakes us.
            return False
        return True

    def _fire(self) -> int:
        """Fire what is due; returns how many timers that was."""
        self._fired_at = self._clock()
        self._ask_when_due()
        # In a transaction around it all, others would wait for the rest: that has time until the next turn.
        fired = self._maintenance.fire(one_batch=connections[self._alias].in_atomic_block)
        self._stuck = fired.seen > 0 and not fired.acted
        if 0 < fired.acted == fired.seen:
            self._learn_when_due(clock.now() if fired.left else fired.next_due)
            self._more_ready = True
        else:  # Somebody has fired them before us, or has them locked.
            self._more_ready = self._look().ready or self._more_ready
        return fired.acted

    def _look(self) -> Pulse:
        """What there is to do, and when the next timer is due."""
        self._ask_when_due()
        found = pulse.look(connections[self._alias], self._options.queues)
        self._learn_when_due(found.next_due)
        return found

    def _ask_when_due(self) -> None:
        with self._due_lock:
            self._next_due = _NOT_LOOKED

    def _learn_when_due(self, due: datetime | None) -> None:
        with self._due_lock:
            # A timer that was opened since we asked may be missing in the answer.
            opened = None if self._next_due is _NOT_LOOKED else self._next_due
            self._next_due = _earlier(due, opened)

    def _timer_opened(self, change: Change) -> None:
        """Called by the committer: the loop may have to wake earlier."""
        if any(wait.kind == Kind.OUTAGE for wait in change.opens) and len(self._put_off) < _MOST_PUT_OFF:
            self._put_off.add(change.run_id)
        due = min((wait.due_at for wait in change.opens if wait.due_at is not None), default=None)
        if due is None:
            return
        with self._due_lock:
            earlier = self._next_due is None or due < self._next_due
            self._next_due = _earlier(due, self._next_due)
        if earlier:
            self._listener.wake("timer opened")

    # -- being told, and telling ---------------------------------------------------------------------

    def _slot_freed(self) -> None:
        # A worker that has seen the queue empty is told of new runs; waking it for every end would be a claim for each.
        # Nor does one claim anything that has runs waiting for a slot.
        in_flight = self._slots.in_flight
        if in_flight == 0 or (self._more_ready and in_flight <= self._options.concurrency):
            self._listener.wake("free")

    def _snapshot(self) -> tuple[str, int]:
        activity = self._activity.describe(dict(self._port.activations), self._slots.blocked())
        return json.dumps(activity), self._threads.abandoned

    def _left(self) -> InFlight:
        """What is still in flight."""
        activations = dict(self._port.activations)
        said = self._activity.describe(activations, self._slots.blocked())
        return InFlight(self._slots.in_flight, activations, said, stored=not self._committer.failing)

    def _hand_back(self) -> int | None:
        """Let current steps finish, hand the runs back; `FORCED` if that took too long or we were told to leave."""
        self._port.stop()
        self._slots.hand_back_waiting(0.0)
        now = self._clock()
        deadline = now + self._options.shutdown_timeout
        leaving = Leaving(self._options.name, self._options.shutdown_timeout, now)
        while self._slots.in_flight and not self._heartbeat.dead:
            left = deadline - self._clock()
            if self._worker.forced or left <= 0:
                leaving.cut_off(self._left(), forced=self._worker.forced)
                return FORCED
            self._listener.wait(min(left, 0.5, leaving.patience(self._clock())))
            if leaving.is_due(self._clock()) and self._slots.in_flight:
                leaving.say(self._left(), self._clock())
        return CLEAN

    def _gives_up(self) -> facts.Fact | None:
        """Why this worker had better end: what does not pass by itself may pass with another process."""
        if self._odd_since is not None and self._clock() - self._odd_since > conf.get().lease_seconds:
            return facts.TurnsKeepFailing()
        dead = self._vitals.revive()
        return facts.ThreadKeepsDying(dead) if dead else None

    def _succeeded(self) -> None:
        """A turn is done."""
        failures, self._failures = self._failures, 0
        self._backoff, self._odd_since = _FIRST_BACKOFF, None
        if failures:
            self._committer.doubt()
            self._outages.end("main thread")
        if self._was_away:
            put_off = list(self._put_off)  # The committer adds to it.
            if put_off and timers.hasten(self._alias, put_off):
                self._look()
            self._was_away = False
            self._put_off.difference_update(put_off)

    def _back(self) -> None:
        """One of the worker's connections has an answer again: nothing waits for its backoff."""
        self._was_away = True
        self._backoff = _FIRST_BACKOFF
        self._listener.wake("back")

    def _survive(self, error: Exception) -> None:
        """The database is away, or did something odd: wait a moment, warn once a minute, try again."""
        self._failures += 1
        if isinstance(error, Error):
            self._odd_since = None
        elif self._odd_since is None:
            self._odd_since = self._clock()
        if errors.is_deadlock(error) and self._failures <= _QUIET_REPEATS:
            announce(facts.TurnRepeated(error))
        elif errors.is_outage(error):
            self._outages.warn(facts.TurnMetOutage(error))
        elif self._failures > 1 or not isinstance(error, DatabaseError):  # A new session may be all that it takes.
            self._outages.warn(facts.TurnFailed(error))
        engine.reset(connections[self._alias])
        self._polled_at = float("-inf")  # What it was about to learn is to be asked again.
        self._told |= self._listener.wait(self._backoff)
        self._backoff = min(self._backoff * 2, _MOST_BACKOFF)

    @staticmethod
    def _clock() -> float:
        return time.monotonic()


class _Rate:
    """Runs finished per second, over about the last tenth of one: a burst is no longer than that."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def of(self, finished: int, now: float) -> float:
        self._looks.append((now, finished))
        while len(self._looks) > 2 and now - self._looks[0][0] > 0.1:
            self._looks.popleft()
        then, before = self._looks[0]
        return (finished - before) / (now - then) if now - then > 0.01 else 0.0


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)
