"""A worker's turn: hear what it was told, poll, fire timers, claim runs and hand them to the slots.

Taken by the worker again and again; the agenda says how long it pauses in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext

from django.db import connections

from ..core import clock
from ..core.changes import Change, Outcome
from ..store import claims, poll, telling
from ..store.poll import Found
from ..store.telling import Message
from .agenda import LOCKED_PAUSE, Agenda
from .capacity import NOTHING, Capacity, Claimed
from .chores import Chores
from .horizon import Horizon
from .kept import KeptJournals
from .resting import Resting, put_off
from .sharing import Sharing

_EVENT = Message("event").text()
_TIMER = Message("timer", hops=1).text()  # that one may be due that was opened elsewhere
_TOLD = "told"  # that a child has ended: a branch of this worker's own runs may wait for it
_PLACE = "place"  # that there may be one, in a limit, for a run that waits
_TICK = "tick"  # that a schedule's run has ended, for which a tick of it may wait
_EVENTS = {"event", "broadcast"}  # what a worker is told of an event to one run, and of one to all that wait


class Turn:
    """What one worker does between two pauses."""

    def __init__(
        self,
        alias: str,
        queues: Sequence[str],
        agenda: Agenda,
        capacity: Capacity,
        chores: Chores,
        sharing: Sharing,
        kept: KeptJournals,
        horizon: Horizon,
    ) -> None:
        self._alias = alias
        self._queues = queues
        self._agenda = agenda
        self._capacity = capacity
        self._chores = chores
        self._sharing = sharing
        self._kept = kept
        self._resting = Resting(agenda.now)
        self._horizon = horizon
        self._leaves_to_others = False
        #: How many children each stored change has begun, or runs it has woken, since the last turn.
        self._begun: deque[int] = deque()

    def take(self, told: Collection[str]) -> float | None:
        """Do what is to do now; return the seconds to pause then, `None` when a bounded worker is done.

        `told`: the reasons for which the pause before it has ended.
        """
        heard, before = telling.heard(told), self._agenda.runs_may_be_ready
        while self._begun:
            self._sharing.woke(self._begun.popleft())
        # An event is no run yet: whether one is ready is known when it is delivered. Nor are branches that go on.
        no_runs = sum(message.reason in _EVENTS for message in heard) + len({_TOLD, _PLACE, _TICK} & set(told))
        self._agenda.expect_runs(len(told) > no_runs or self._agenda.is_to_claim())
        self._heed(heard)
        self._expect_woken(self._resting.attempt(self._chores.free_places.run_once, self._agenda.now()))
        self._tick()
        found = self._fire_and_claim()
        self._resting.attempt(self._chores.tell_branches.run_once, self._agenda.now())
        self._share(heard, already_left=before)
        return None if self._is_done(found) else self._pause()

    def pass_on(self, told: Collection[str], *, at_once: bool = False) -> None:
        """Do none of what this worker was told, and tell others: it leaves."""
        self._sharing.pass_on(telling.heard(told), at_once=at_once)

    def ask_anew(self) -> None:
        """Have the next turn poll, and look for runs that this worker owns without knowing: a turn has failed."""
        self._agenda.poll.at_once()
        # A claim may be committed although its answer was lost. One that commits later is found a lease after that.
        self._chores.disown.at_once()

    def hasten(self) -> None:
        """Wake what waits for the end of an outage, if that has ended."""
        if self._chores.hasten.run_once(self._agenda.now()):
            self._ask()

    def let_go(self) -> None:
        """Leave to other workers what this one has begun for runs that are not its own."""
        self._chores.deliver.let_go()

    def announce_late(self) -> None:
        """Tell receivers which runs have failed at their deadline."""
        self._chores.fire.announce_late()

    def database_is_back(self) -> None:
        """Remember that a connection of this worker has an answer after an outage. Called on any thread."""
        self._chores.hasten.database_is_back()

    def stored(self, change: Change, outcome: Outcome) -> Iterator[str]:
        """Remember what a stored change has left to do; yield the reasons for a turn. On the committer's thread."""
        self._chores.hasten.note(change)
        if self._chores.free_places.note(change):
            yield _PLACE
        due = min((wait.due_at for wait in change.waits.opens if wait.due_at is not None), default=None)
        if due is not None and self._agenda.timer.opened(due):
            yield "timer opened"
        if change.children.stops or change.lets_go(outcome):
            yield _TIMER
        for number in (len(change.children.starts), outcome.woke):
            if number:
                self._begun.append(number)
                yield "begun"
        if self._chores.schedules.tick.note(change, outcome):
            yield _TICK
        if change.ends_child and not outcome.heard:
            yield _EVENT
        elif change.ends_child and self._chores.tell_branches.expect_own():
            yield _TOLD

    def claims_for_free_slot(self, queue: str) -> bool:
        """Return whether a slot that a run of this queue has left is a reason to take a turn. On the slot's thread.

        It is if the run's place in its queue may be another's now. Else, a worker whose last claim took all that was
        ready is told of new runs; to wake it at every end would be a claim for each. Nor does one claim anything that
        has runs waiting for a slot.
        """
        if self._capacity.is_blocked(queue):
            return True
        return self._capacity.is_idle() or (self._agenda.runs_may_be_ready and self._capacity.is_short_of_runs())

    def _expect_woken(self, woken: int | None) -> None:
        """Have the timers fired, in this turn, of runs that have been woken by that they are due now."""
        if woken:
            self._agenda.timer.opened(clock.now())

    def _heed(self, heard: Sequence[Message]) -> None:
        reasons = {message.reason for message in heard}
        now = self._agenda.now()
        if reasons & _EVENTS:
            self._chores.tell_branches.expect()
            self._chores.deliver.expect(now, directed="event" in reasons)
        if self._agenda.poll.is_due(now):
            self._poll(now, told="timer" in reasons)
        elif reasons & {telling.LIMITS, "timer"}:
            self._ask()
        if self._agenda.delivers_at <= now:
            self._agenda.expect_runs(self._deliver(now))
        if self._agenda.tidies_at <= now:
            self._chores.tidy.go_on(now)

    def _poll(self, now: float, *, told: bool = False) -> None:
        """Look for everything that this worker may not have been told of. `told`: of a timer, maybe nobody else was."""
        attempt = self._resting.attempt
        self._agenda.poll.done(now)
        self._chores.tell_branches.expect()
        attempt(self._chores.recover.announce_parked)
        died = attempt(self._chores.declare_dead.run_once, now)
        self._agenda.place = self._chores.declare_dead.place
        attempt(self._chores.schedules.declare.run_once, now, self._chores.declare_dead.live)
        self._agenda.expect_runs(attempt(self._chores.disown.run_once, now))
        found = self._ask(polling=not told)
        if found.orphaned or died:
            recovered = attempt(self._chores.recover.run_once, now) or 0
            self._sharing.woke(recovered)
            self._chores.free_places.at_once()
            self._agenda.expect_runs(recovered)
            found = self._ask(polling=not told)  # Recovery counts crashes: only now is it known which run alone.
        if found.undelivered:
            self._chores.deliver.expect(now, directed=True)
        attempt(self._chores.deliver.sweep, now)
        if found.parked or found.ready:
            unclaimed = found.ready and not self._agenda.runs_may_be_ready
            ready = attempt(self._chores.park.run_once, now, unclaimed=unclaimed, room=self._capacity.room())
            if ready is not None and self._chores.park.is_starting:
                self._agenda.poll.at_once()
        self._agenda.expect_runs(found.ready or found.orphaned or found.parked)
        attempt(self._chores.tidy.run_once, now)
        self._expect_woken(attempt(self._chores.free_places.look, now))
        attempt(self._chores.make_room.run_once, now, wanted=found.alone)
        self._capacity.rebalance()

    def _tick(self) -> None:
        """Have schedules start their runs that are due, before what this has made ready is claimed."""
        agenda = self._agenda
        if not (self._chores.schedules.tick.is_awaited() or agenda.may_tick()):
            return
        agenda.schedule.ask()
        with put_off(agenda.put_off_ticks, agenda.now):
            ticked = self._chores.schedules.tick.run_once()
            if not ticked.seen:  # Another worker has them, and may die with that.
                agenda.put_off_ticks(agenda.now() + LOCKED_PAUSE)
            agenda.schedule.learn(self._chores.schedules.tick.next_due())
        self._sharing.woke(len(ticked.started))
        agenda.expect_runs(ticked.started)

    def _deliver(self, now: float) -> int:
        woken = self._chores.deliver.run_once(now)
        self._sharing.woke(woken)
        return woken

    def _fire_and_claim(self) -> int:
        """Fire what is due, then claim for the free slots: usually the runs that this has just woken.

        Return how many timers and runs that was. No run is started and no receiver called before both are committed.
        """
        connection, fires = connections[self._alias], self._may_fire()
        with self._chores.fire.transaction(connection) if fires else nullcontext():
            fired = self._fire(one_batch=connection.in_atomic_block) if fires else 0
            claimed = self._claim()
        self._kept.give(claimed.runs, connection.connection)
        claims.load(connection, claimed.runs)
        self._capacity.start(claimed.runs)
        self._agenda.expect_runs(claimed.may_be_more)
        self.announce_late()
        return fired + len(claimed.runs)

    def _may_fire(self) -> bool:
        return self._agenda.timer.is_due() and self._agenda.may_fire(full=self._capacity.is_full())

    def _fire(self, *, one_batch: bool) -> int:
        """Fire what is due; return how many timers that was.

        One batch in a transaction around it all: other workers would wait for the rest, which has time until the next
        turn.
        """
        self._chores.tell_branches.expect()
        now = self._agenda.begin_firing()
        with put_off(self._agenda.put_off_firing, self._agenda.now):
            fired = self._chores.fire.run_once(now, one_batch=one_batch, since=self._horizon.due_at())
        self._agenda.fired(fired.seen, fired.acted)
        if fired.ended:
            self._chores.deliver.expect(now, directed=True)
        self._sharing.woke(fired.woken)
        self._agenda.expect_runs(fired.woken)
        if 0 < fired.acted == fired.seen:
            self._agenda.timer.learn(clock.now() if fired.left else fired.next_due)
            self._agenda.expect_runs(True)
        else:  # Other workers have fired them before, or transactions have their runs locked.
            self._agenda.expect_runs(self._ask(polling=self._agenda.is_beaten()).ready)
        return fired.acted

    def _claim(self) -> Claimed:
        if not self._agenda.runs_may_be_ready:
            return NOTHING
        # Until what is claimed has its slots, those that are freed need not wake this thread: it counts them then.
        self._agenda.runs_may_be_ready = False
        claimed = self._capacity.claim(self._horizon.bookmark, anywhere=self._sharing.has_woken())
        self._sharing.claimed(len(claimed.runs))
        self._leaves_to_others = claimed.for_others
        if claimed.again_in is not None:
            self._agenda.claims_at = self._agenda.now() + max(claimed.again_in, LOCKED_PAUSE)
        return claimed

    def _share(self, heard: Sequence[Message], *, already_left: bool) -> None:
        """Tell other workers of runs that this one does not take."""
        left = self._agenda.runs_may_be_ready and self._capacity.is_full()
        others, self._leaves_to_others = self._leaves_to_others, False
        self._sharing.end_turn(
            heard, cannot_take=left or self._capacity.is_spent(), leaves_more=others or (left and not already_left)
        )
        self._agenda.tells_at = self._sharing.due_at()

    def _ask(self, *, polling: bool = False) -> Found:
        """Ask the database what there is to do, and when the next timer is due.

        `polling`: as all workers do, so that not each of them need fire that timer on time.
        """
        self._agenda.timer.ask()
        self._agenda.schedule.ask()
        skipped, began = self._horizon.skips(), self._agenda.now()
        found = poll.ask(connections[self._alias], self._queues, skipped, remember=self._horizon.remembers())
        if skipped is None:
            self._horizon.polled(found, began)
        self._capacity.any_apart(found.any_apart)
        learn = self._agenda.learn_polled if polling else self._agenda.timer.learn
        learn(found.next_due)
        if polling:
            self._agenda.learn_polled(found.next_tick, self._agenda.schedule)
        else:
            self._agenda.schedule.learn(found.next_tick)
        return found

    def _is_done(self, found: int) -> bool:
        if not self._capacity.is_draining() or self._chores.deliver.is_busy:
            return False
        self._agenda.poll.at_once()
        return self._capacity.is_drained(found)

    def _pause(self) -> float:
        full = self._capacity.is_full()
        return 0.0 if self._agenda.runs_may_be_ready and not full else self._agenda.pause(full=full)
