"""One life of a worker: from its registration, turn after turn, to its goodbye or to being found dead.

Called by the loop, which begins another life for a worker that was found dead: everything is dropped then.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import connections

from .. import conf
from ..observe import announce, facts
from ..store import leases, telling
from ..store.db import engine, errors
from .agenda import Clock
from .capacity import Bounds
from .exitcodes import CLEAN, FATAL, FORCED
from .leaving import Leaving
from .options import Options, Orders
from .outages import OutageLog
from .parts import Parts
from .setbacks import Setbacks
from .wakeup import Listener

_GRACE = 1.0  # seconds for a project's receivers once the worker must leave
_HAND_BACK_PAUSE = 0.5  # seconds after which a leaving worker asks whether it was forced


class Life:
    """The life of the worker that is registered as `owner`."""

    def __init__(
        self,
        owner: UUID,
        alias: str,
        options: Options,
        orders: Orders,
        bounds: Bounds,
        listener: Listener,
        outages: OutageLog,
        setbacks: Setbacks,
        steady: Clock,
    ) -> None:
        self._alias = alias
        self._options = options
        self._orders = orders
        self._listener = listener
        self._outages = outages
        self._setbacks = setbacks
        self._steady = steady
        outages.on_back.clear()
        self.parts = Parts(owner, alias, options, bounds, listener, outages, steady)
        outages.on_back += [self._database_is_back, listener.hurry]

    def live(self) -> int | None:
        """Return the exit code, or `None` if this worker was found dead and is to begin anew."""
        self.parts.start()
        code: int | None = CLEAN
        try:
            code = self._work()
        finally:
            self._end(code)
        return code

    # -- turn after turn -----------------------------------------------------------------------------

    def _work(self) -> int | None:
        told: Collection[str] = ()
        while not self._orders.stopping:
            if self.parts.heartbeat.lease.dead:
                return None
            if reason := self._reason_to_end():
                announce(reason)
                return self._hand_back(told) or FATAL
            try:
                pause = self._take_turn(told)
            except Exception as error:  # noqa: BLE001 - an outage, mostly: `Setbacks` tells them apart
                told = self._survive(error)
                continue
            if pause is None:
                return self._hand_back(())
            told = self._listener.wait(pause) if pause > 0 else ()
        return self._hand_back(told)

    def _reason_to_end(self) -> facts.Fact | None:
        """Return why a new process may do better than this one, if that is so."""
        if self.parts.threads.abandoned >= self._options.concurrency:
            return facts.TooManyAbandoned(self.parts.threads.abandoned)
        if self._setbacks.is_hopeless():
            return facts.TurnsKeepFailing()
        dead = self.parts.vitals.revive()
        return facts.ThreadKeepsDying(dead) if dead else None

    def _take_turn(self, told: Collection[str]) -> float | None:
        pause = self.parts.turn.take(told)
        if self._setbacks.passed():
            # The committer looks for its connection before slots take what connections there are.
            self.parts.committer.doubt()
            self._outages.end("main thread")
        self.parts.turn.hasten()
        return pause

    def _survive(self, error: Exception) -> Collection[str]:
        """Wait a moment after a turn that has failed; return the reasons for which that has ended."""
        pause = self._setbacks.failed(error)
        if not errors.is_sound(error):
            engine.reset(connections[self._alias])
        self.parts.turn.ask_anew()
        return self._listener.wait(pause)

    def _database_is_back(self) -> None:
        """End the pause after a failure: another connection of this worker has an answer. Called on any thread."""
        self.parts.port.kept.clear()
        self.parts.turn.database_is_back()
        self._setbacks.hurry()
        self._listener.wake("back")

    # -- the end -------------------------------------------------------------------------------------

    def _hand_back(self, told: Collection[str]) -> int:
        """Let current steps finish, hand the runs back; `FORCED` if that took too long or it was told to leave.

        What the worker was told last, and is told meanwhile, is for others.
        """
        self.parts.port.stop()
        self.parts.turn.pass_on(told)
        slots = self.parts.slots
        slots.hand_back_waiting(0.0)
        now = self._steady()
        deadline = now + self._options.shutdown_timeout
        leaving = Leaving(self._options.name, self._options.shutdown_timeout, now)
        while slots.in_flight and not self.parts.heartbeat.lease.dead:
            left = deadline - self._steady()
            if self._orders.forced or left <= 0:
                leaving.cut_off(self.parts.in_flight(), forced=self._orders.forced)
                return FORCED
            told = self._listener.wait(min(left, _HAND_BACK_PAUSE, leaving.patience(self._steady())))
            self.parts.turn.pass_on(told)
            if leaving.is_due(self._steady()) and slots.in_flight:
                leaving.say(self.parts.in_flight(), self._steady())
        self.parts.turn.pass_on(self._listener.wait(0), at_once=True)
        return CLEAN

    def _end(self, code: int | None) -> None:
        """Leave nothing behind that no worker will pick up; a worker that must leave at once does what it can."""
        leaving_at_once = code in (None, FORCED)
        self.parts.close(at_once=leaving_at_once)
        if code is not None:
            self._say_goodbye(_GRACE if leaving_at_once else self._options.shutdown_timeout)

    def _say_goodbye(self, patience: float) -> None:
        owner = self.parts.owner
        try:
            self.parts.turn.let_go()
            leases.say_goodbye(owner)
            announce(facts.WorkerLeft(owner, self._options.name))
            while leases.recover(owner):
                pass
            telling.forget()
            telling.tell(self._alias)
            # Last: a project's receivers may take their time, its runs need not wait for them.
            self.parts.turn.announce_late()
            self.parts.teller.wait(patience)
        except Exception as error:
            if not errors.is_outage(error):
                raise
            announce(facts.GoodbyeFailed(error, conf.get().lease_seconds))
