"""When a worker has something to do next: the next poll, the next timer, and whether runs are ready to be claimed.

Kept by the turn. Every chore that is due only now and then has an `Every`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from ..core import clock

Clock = Callable[[], float]

NEVER = float("inf")
LOCKED_PAUSE = 0.05  # seconds until timers and events are tried again whose runs other transactions have locked
_FULL_PAUSE = 0.02  # seconds between two batches of timers while no slot is free
_ON_TIME = 3  # workers that fire a timer on time though none of them has opened it
_ASKED = datetime.max.replace(tzinfo=UTC)


class Every:
    """Something that is due at once, and then again so many seconds after it was last done."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._done_at = float("-inf")

    def is_due(self, now: float) -> bool:
        return now - self._done_at >= self._seconds

    def done(self, now: float) -> None:
        self._done_at = now

    def at_once(self) -> None:
        """Have it due now, whenever it was last done."""
        self._done_at = float("-inf")

    def left(self, now: float) -> float:
        """Return the seconds until it is due."""
        return max(0.0, self._done_at + self._seconds - now)


class NextTimer:
    """When the next open timer is due, as far as this worker knows. Any thread may tell of one that was opened."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._due: datetime | None = None
        #: What was known when the database was asked last.
        self._before: datetime | None = None
        #: From when on this worker acts on it, by its own clock: others have locked what was due, or it has failed.
        self.acts_at = float("-inf")
        #: How often in a row other workers have acted on what was due.
        self.beaten = 0

    def is_due(self) -> bool:
        due = self._due
        return due is not None and due <= clock.now()

    def left(self) -> float | None:
        """Return the seconds until it is due, less than zero if it is late; `None` if no timer is open."""
        due = self._due
        return None if due is None else (due - clock.now()).total_seconds()

    def ask(self) -> None:
        """Forget what is known: the database is asked from now on."""
        with self._mutex:
            if self._due is not _ASKED:
                self._before = self._due
            self._due = _ASKED

    def learn(self, due: datetime | None) -> None:
        """Take the database's answer. A timer that was opened since it was asked may be missing in that."""
        with self._mutex:
            self._due = _earlier(due, self._opened())

    def leave(self) -> None:
        """Leave the database's answer to other workers: only what this one knew before, and is to come, is its own."""
        with self._mutex:
            is_to_come = self._before is not None and self._before > clock.now()
            self._due = _earlier(self._before if is_to_come else None, self._opened())

    def opened(self, due: datetime) -> bool:
        """Take note of a timer that was stored; return whether it is due before all others."""
        with self._mutex:
            is_first = self._due is None or due < self._due
            self._due = _earlier(due, self._due)
        return is_first

    def _opened(self) -> datetime | None:
        """Return the first timer that was opened since the database was asked."""
        return None if self._due is _ASKED else self._due


class Agenda:
    """What one worker has to do when."""

    def __init__(self, poll_seconds: float, steady: Clock) -> None:
        self._steady = steady
        self.poll = Every(poll_seconds)
        self.timer = NextTimer()
        #: The next schedule that is due, known in the same way.
        self.schedule = NextTimer()
        self._firing = Every(_FULL_PAUSE)
        #: Timers are due, and other transactions have locked the runs of all of them.
        self._timers_are_locked = False
        #: This worker's place among all live ones, and how many those are.
        self.place = (0, 1)
        #: When events are delivered next, by the worker's own clock.
        self.delivers_at = NEVER
        #: When old rows are deleted next, and others are told of what this worker leaves, by the same clock.
        self.tidies_at = NEVER
        self.tells_at = NEVER
        #: When the limits of a queue may allow more than at the last claim, by the same clock.
        self.claims_at = NEVER
        #: There may be ready runs that the last claim did not take.
        self.runs_may_be_ready = False

    def now(self) -> float:
        """Return the time by the worker's own clock, in seconds."""
        return self._steady()

    def expect_runs(self, found: object) -> None:
        """Have a claim follow, if anything was found that may have made runs ready."""
        if found:
            self.runs_may_be_ready = True

    def is_to_claim(self) -> bool:
        """Return, once, whether it is time to claim what limits have held up."""
        if self.claims_at > self.now():
            return False
        self.claims_at = NEVER
        return True

    def may_fire(self, *, full: bool) -> bool:
        """Return whether timers that are due fire now. Without a free slot they do so only now and then, many at once:
        their runs are for other workers then.
        """
        now = self.now()
        if now < self.timer.acts_at:
            return False
        if full and not self._firing.is_due(now):
            self.expect_runs(True)  # As good as: a slot that is freed ends this worker's pause.
            return False
        return True

    def put_off_firing(self, until: float) -> None:
        """Fire no timers until this moment: other workers may."""
        self.timer.acts_at = until

    def begin_firing(self) -> float:
        """Take note that timers fire from now on, which also says when the next one is due; return the time."""
        now = self.now()
        self._firing.done(now)
        self.timer.ask()
        return now

    def fired(self, seen: int, acted: int) -> None:
        """Take note of how many timers were due, and how many of those have fired."""
        self._timers_are_locked = seen > 0 and not acted
        self.timer.beaten = 0 if seen else self.timer.beaten + 1

    def may_tick(self) -> bool:
        """Return whether a schedule is due, and may tick now."""
        return self.schedule.is_due() and self.now() >= self.schedule.acts_at

    def put_off_ticks(self, until: float) -> None:
        """Have no schedule tick until this moment: other workers may."""
        self.schedule.acts_at = until

    def is_beaten(self) -> bool:
        """Return whether other workers fire the timers: once may be chance, or the timer was gone."""
        return self.timer.beaten > 1

    def learn_polled(self, due: datetime | None, next_of: NextTimer | None = None) -> None:
        """Take note of the next timer, or of the next schedule, that a poll has found.

        Those that fire it on time are the worker that has opened it, and three of all, so that it does not wake as many
        workers as there are. The others see in their polls whether it is late. One that has fired a timer fires the
        next one, too (`learn`), which nobody else may know of yet.
        """
        place, workers = self.place
        if due is None or due <= clock.now() or (int(due.timestamp() * 1000) + place) % workers < _ON_TIME:
            (next_of or self.timer).learn(due)
        else:
            (next_of or self.timer).leave()

    def pause(self, *, full: bool) -> float:
        """Return the seconds until the next poll, or until exactly when the next timer is due."""
        now = self.now()
        pause = min(self.poll.left(now), max(0.0, self._next() - now))
        tick = self.schedule.left()
        if tick is not None:
            pause = min(pause, max(self.schedule.acts_at - now, tick, 0.0))
        due = self.timer.left()
        return pause if due is None else min(pause, max(self._least_pause(now, due, full=full), due))

    def _next(self) -> float:
        return min(self.delivers_at, self.tidies_at, self.tells_at, self.claims_at)

    def _least_pause(self, now: float, due: float, *, full: bool) -> float:
        if self._timers_are_locked and due <= 0:
            return LOCKED_PAUSE
        return max(self._firing.left(now) if full else 0.0, self.timer.acts_at - now)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)
