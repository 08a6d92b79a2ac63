"""Several worker processes under one parent (`--processes`), and one that starts anew with the code (`--reload`).

Called by the command. Children ignore INT and TERM and obey their parent through a pair of sockets, whose end also
tells them that the parent is gone. Through the same they say that they are up: one that has begun and never says so
hangs in the project's own code, and is killed and replaced.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ...observe import announce, facts
from ...observe.facts import WhyLeave
from ..exitcodes import ARGUMENTS, CHANGED, CLEAN, FATAL, FORCED
from .orders import FORCE, STOP
from .place import Child, Place

#: What a child told to leave at once gets before it is killed, in seconds.
_LAST_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class _Ended:
    child: Child
    code: int


@dataclass(frozen=True, slots=True)
class _IsUp:
    child: Child


class Supervisor:
    """Keeps `count` children of the command `argv` alive; each is told its socket by `--obey FD`.

    A child that dies is replaced, with growing delays while it dies at once or before it is up. `renew`: one that ends
    cleanly is replaced, too. `reloading`: there is one child, which ends with CHANGED for being started anew, and
    before it first did so any other end is the end; it may take its time to come up. `grace`: seconds that children
    get after `stop`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        count: int = 1,
        *,
        grace: float = 25.0,
        renew: bool = False,
        reloading: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._argv = list(argv)
        self._env = {**os.environ, **(env or {})}
        self._grace = grace
        self._renew = renew
        self._reloading = reloading
        # Its put() is reentrant: a signal handler may interrupt a get() with it.
        self._mail: queue.SimpleQueue[bytes | _Ended | _IsUp] = queue.SimpleQueue()
        self._places = [Place(number) for number in range(count)]
        self._stopping = False
        self._forced = False
        self._reloaded = False
        self._deadline: float | None = None
        self._code = CLEAN

    def stop(self) -> None:
        """Let the children finish what they are at. Safe in a signal handler."""
        self._mail.put(STOP)

    def force(self) -> None:
        """Make the children leave now. Safe in a signal handler."""
        self._mail.put(FORCE)

    def run(self) -> int:
        """Run until every child has ended for good; return the worst of their last exit codes."""
        for place in self._places:
            self._start(place)
        try:
            while any(place.child is not None or place.due is not None for place in self._places):
                self._turn()
        finally:
            self._kill()
        return FORCED if self._forced and self._code != CLEAN else self._code

    def _turn(self) -> None:
        try:
            message = self._mail.get(timeout=self._patience())
        except queue.Empty:
            self._time_has_come()
            return
        if isinstance(message, _Ended):
            self._ended(message.child, message.code)
        elif isinstance(message, _IsUp):
            message.child.place.came_up(message.child)
        elif message == FORCE:
            self._tell_force()
        else:
            self._tell_stop(WhyLeave.ASKED)

    def _patience(self) -> float | None:
        known = [
            self._deadline,
            *(place.due for place in self._places),
            *(child.up_by for child in self._children()),
        ]
        moments = [moment for moment in known if moment is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _time_has_come(self) -> None:
        moment = time.monotonic()
        for place in self._places:
            if place.due is not None and place.due <= moment:
                self._start(place)
        for child in self._children():
            if child.up_by is not None and child.up_by <= moment:
                self._give_up(child)
        if self._deadline is not None and self._deadline <= moment:
            self._deadline = None
            self._kill() if self._forced else self._tell_force(WhyLeave.LATE)

    def _start(self, place: Place) -> None:
        # A developer may have stopped a child that reloads in a debugger.
        child = place.start(self._argv, self._env, may_hang=self._reloading)
        for what in (self._await, self._hear):
            threading.Thread(target=what, args=(child,), name=f"canx_flow child {place.number}", daemon=True).start()

    def _give_up(self, child: Child) -> None:
        """Kill a child that is not up: what it hangs in is the project's code, so no order reaches it."""
        announce(facts.ProcessNotUp(child.process.pid, child.place.give_up(child)))
        child.process.kill()

    def _hear(self, child: Child) -> None:
        with suppress(OSError):  # It has ended, and its line is closed.
            while child.line.recv(1):
                self._mail.put(_IsUp(child))

    def _await(self, child: Child) -> None:
        self._mail.put(_Ended(child, child.process.wait()))

    def _ended(self, child: Child, code: int) -> None:
        """Start another child in its place, or take its exit code as the supervisor's."""
        child.place.empty()
        delay = None if self._stopping else self._delay(child, code)
        if delay is not None:
            child.place.due = time.monotonic() + delay
            return
        self._code = max(self._code, code if code >= 0 else FATAL)
        if code != CLEAN and not self._stopping:
            # No other child will do better: wrong arguments, or a first start that failed.
            self._tell_stop(WhyLeave.ENDED, ended=(child.process.pid, code))

    def _delay(self, child: Child, code: int) -> float | None:
        """Return the seconds until its place is filled again; `None`: never."""
        if self._reloading and code == CHANGED:
            self._reloaded = True
            child.place.changed()
            return 0.0
        if code == CLEAN:
            return 0.0 if self._renew else None
        if code == ARGUMENTS or (self._reloading and not self._reloaded):
            return None
        delay = child.place.crashed(child)
        announce(facts.ProcessEnded(child.process.pid, code, delay))
        return delay

    def _tell_stop(self, why: WhyLeave, *, at_once: bool = False, ended: tuple[int, int] = (0, 0)) -> None:
        if self._stopping:
            return
        self._stopping = True
        for place in self._places:
            place.due = None
        self._deadline = time.monotonic() + self._grace + _LAST_GRACE
        self._announce_leave(why, at_once=at_once, ended=ended)
        for child in self._children():
            child.order(STOP)

    def _tell_force(self, why: WhyLeave = WhyLeave.ASKED_AGAIN) -> None:
        if self._stopping:
            self._announce_leave(why, at_once=True)
        self._tell_stop(why, at_once=True)
        self._forced = True
        self._deadline = time.monotonic() + _LAST_GRACE
        for child in self._children():
            child.order(FORCE)

    def _kill(self) -> None:
        if self._are_named():
            announce(facts.ProcessesKilled(self._pids()))
        for child in self._children():
            child.process.kill()

    def _announce_leave(self, why: WhyLeave, *, at_once: bool, ended: tuple[int, int] = (0, 0)) -> None:
        """Announce that the children are to leave. Each of them says itself what it waits for."""
        if self._are_named():
            waited = self._grace + _LAST_GRACE
            announce(facts.ProcessesLeave(self._pids(), why, at_once=at_once, ended=ended, waited=waited))

    def _are_named(self) -> bool:
        """Return whether facts about the children are announced: of a parent that reloads, they are not."""
        return bool(self._children()) and not self._reloading

    def _pids(self) -> tuple[int, ...]:
        return tuple(child.process.pid for child in self._children())

    def _children(self) -> list[Child]:
        return [place.child for place in self._places if place.child is not None]
