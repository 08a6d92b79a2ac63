"""Several worker processes under one parent (`--processes`), and one that starts anew with the code (`--reload`).

Called by the command. Children ignore INT and TERM and obey their parent through a pair of sockets, whose end also
tells them that the parent is gone. Through the same they say that they are up: one that has begun and never says so
hangs in the project's own code, and is killed and replaced.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from django.utils import autoreload

from ...observe import announce, facts
from ...observe.facts import WhyLeave

CLEAN, FATAL, ARGUMENTS, FORCED = 0, 1, 2, 3
#: What Django's reloader ends a process with when a file has changed.
CHANGED = 3

_STOP, _FORCE, _UP = b"s", b"f", b"u"
_LEAST_BACKOFF = 1.0
_MOST_BACKOFF = 30.0
#: A child that was up for so many seconds did not fail at starting.
_GOOD_LIFE = 60.0
#: A child that is not up after so many seconds hangs. The next one gets twice as long: it may only be slow.
_UP_WITHIN = 60.0
_MOST_DOUBLINGS = 5
#: What a child told to leave at once gets before it is killed, in seconds.
_LAST_GRACE = 5.0


class Stoppable(Protocol):
    """A worker's loop, or a supervisor: runs until told to stop, then returns its exit code."""

    def run(self) -> int: ...
    def stop(self) -> None: ...
    def force(self) -> None: ...


@dataclass(slots=True)
class _Child:
    place: int
    process: subprocess.Popen[bytes]
    line: socket.socket
    #: When it is killed unless it is up, by monotonic time; `None` once that is settled.
    up_by: float | None
    up_at: float | None = None

    def order(self, message: bytes) -> None:
        with suppress(OSError):  # It has ended.
            self.line.send(message)


@dataclass(frozen=True, slots=True)
class _Ended:
    child: _Child
    code: int


@dataclass(frozen=True, slots=True)
class _IsUp:
    child: _Child


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
        self._count = count
        self._grace = grace
        self._renew = renew
        self._reloading = reloading
        self._env = {**os.environ, **(env or {})}
        # Its put() is reentrant: a signal handler may interrupt a get() with it.
        self._mail: queue.SimpleQueue[bytes | _Ended | _IsUp] = queue.SimpleQueue()
        self._children: dict[int, _Child] = {}
        #: When a dead child's place is filled again, by monotonic time.
        self._due: dict[int, float] = {}
        self._failures = dict.fromkeys(range(count), 0)
        #: How many in a row did not come up in time.
        self._too_slow = dict.fromkeys(range(count), 0)
        self._stopping = False
        self._forced = False
        self._reloaded = False
        self._deadline: float | None = None
        self._code = CLEAN

    def stop(self) -> None:
        """Let the children finish what they are at. Safe in a signal handler."""
        self._mail.put(_STOP)

    def force(self) -> None:
        """Make the children leave now. Safe in a signal handler."""
        self._mail.put(_FORCE)

    def run(self) -> int:
        """Until every child has ended for good; returns the worst of their last exit codes."""
        for place in range(self._count):
            self._start(place)
        try:
            while self._children or self._due:
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
            self._bury(message)
        elif isinstance(message, _IsUp):
            self._note_up(message.child)
        elif message == _FORCE:
            self._tell_force()
        else:
            self._tell_stop(WhyLeave.ASKED)

    def _patience(self) -> float | None:
        known = [self._deadline, *self._due.values(), *(child.up_by for child in self._children.values())]
        moments = [moment for moment in known if moment is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _time_has_come(self) -> None:
        moment = time.monotonic()
        for place in [place for place, due in self._due.items() if due <= moment]:
            del self._due[place]
            self._start(place)
        for child in self._children.values():
            if child.up_by is not None and child.up_by <= moment:
                self._give_up(child)
        if self._deadline is not None and self._deadline <= moment:
            self._deadline = None
            self._kill() if self._forced else self._tell_force(WhyLeave.LATE)

    def _note_up(self, child: _Child) -> None:
        child.up_by, child.up_at = None, time.monotonic()
        self._too_slow[child.place] = 0

    def _give_up(self, child: _Child) -> None:
        """What it hangs in is not ours, so no order reaches it."""
        child.up_by = None
        patience = self._patience_for(child)
        self._too_slow[child.place] += 1
        announce(facts.ProcessNotUp(child.process.pid, patience))
        child.process.kill()

    def _start(self, place: int) -> None:
        ours, its = socket.socketpair()
        try:
            argv = [*self._argv, "--obey", str(its.fileno())]
            process = subprocess.Popen(argv, pass_fds=(its.fileno(),), env=self._env)  # noqa: S603 - Our own command line.
        except BaseException:
            ours.close()
            raise
        finally:
            its.close()
        child = self._children[place] = _Child(place, process, ours, None)
        if not self._reloading:  # A developer may have stopped it in a debugger.
            child.up_by = time.monotonic() + self._patience_for(child)
        for what in (self._await, self._hear):
            threading.Thread(target=what, args=(child,), name=f"canx_flow child {place}", daemon=True).start()

    def _patience_for(self, child: _Child) -> float:
        return _UP_WITHIN * 2.0 ** min(self._too_slow[child.place], _MOST_DOUBLINGS)

    def _hear(self, child: _Child) -> None:
        with suppress(OSError):  # It has ended, and its line is closed.
            while child.line.recv(1):
                self._mail.put(_IsUp(child))

    def _await(self, child: _Child) -> None:
        self._mail.put(_Ended(child, child.process.wait()))

    def _bury(self, ended: _Ended) -> None:
        child, code = ended.child, ended.code
        del self._children[child.place]
        with suppress(OSError):  # Whoever else has a copy of its end: `_hear` waits no longer.
            child.line.shutdown(socket.SHUT_RDWR)
        child.line.close()
        delay = None if self._stopping else self._delay(child, code)
        if delay is not None:
            self._due[child.place] = time.monotonic() + delay
            return
        self._code = max(self._code, code if code >= 0 else FATAL)
        if code != CLEAN and not self._stopping:
            # Nothing of ours will go better in the others: wrong arguments, or a first start that failed.
            self._tell_stop(WhyLeave.ENDED, ended=(child.process.pid, code))

    def _delay(self, child: _Child, code: int) -> float | None:
        """Seconds until its place is filled again; `None`: never."""
        if self._reloading and code == CHANGED:
            self._reloaded = True
            self._failures[child.place] = 0
            return 0.0
        if code == CLEAN:
            return 0.0 if self._renew else None
        if code == ARGUMENTS or (self._reloading and not self._reloaded):
            return None
        if child.up_at is not None and time.monotonic() - child.up_at >= _GOOD_LIFE:
            self._failures[child.place] = 0
        delay = min(_LEAST_BACKOFF * 2.0 ** min(self._failures[child.place], 10), _MOST_BACKOFF)
        self._failures[child.place] += 1
        announce(facts.ProcessEnded(child.process.pid, code, delay))
        return delay

    def _tell_stop(self, why: WhyLeave, *, at_once: bool = False, ended: tuple[int, int] = (0, 0)) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._due.clear()
        self._deadline = time.monotonic() + self._grace + _LAST_GRACE
        self._announce_leave(why, at_once=at_once, ended=ended)
        for child in self._children.values():
            child.order(_STOP)

    def _tell_force(self, why: WhyLeave = WhyLeave.ASKED_AGAIN) -> None:
        if self._stopping:
            self._announce_leave(why, at_once=True)
        self._tell_stop(why, at_once=True)
        self._forced = True
        self._deadline = time.monotonic() + _LAST_GRACE
        for child in self._children.values():
            child.order(_FORCE)

    def _kill(self) -> None:
        if self._are_named():
            announce(facts.ProcessesKilled(self._pids()))
        for child in self._children.values():
            child.process.kill()

    def _announce_leave(self, why: WhyLeave, *, at_once: bool, ended: tuple[int, int] = (0, 0)) -> None:
        """Announce that the children are to leave. Each of them says itself what it waits for."""
        if self._are_named():
            waited = self._grace + _LAST_GRACE
            announce(facts.ProcessesLeave(self._pids(), why, at_once=at_once, ended=ended, waited=waited))

    def _are_named(self) -> bool:
        """Return whether facts about the children are announced: of a parent that reloads, they are not."""
        return bool(self._children) and not self._reloading

    def _pids(self) -> tuple[int, ...]:
        return tuple(child.process.pid for child in self._children.values())


def obey(orders: int, target: Stoppable) -> None:
    """Stop or force `target` as the parent at the other end of `orders` says, or stop it when the parent is gone."""
    os.set_inheritable(orders, False)
    threading.Thread(target=_obey, args=(orders, target), name="canx_flow obey", daemon=True).start()


def say_up(orders: int) -> None:
    """Tell the parent that this process has begun: all code is imported, and whatever it waits for now is ours."""
    with suppress(OSError):  # The parent is gone, which `obey` finds out.
        os.write(orders, _UP)


def _obey(orders: int, target: Stoppable) -> None:
    with suppress(OSError):  # The parent is gone, and has not read everything.
        while order := os.read(orders, 1):
            if order == _FORCE:
                target.force()
            else:
                target.stop()
    target.stop()


def run_reloading(target: Stoppable, patience: float) -> int:
    """Run `target` beside Django's reloader, in a child of a reloading supervisor; returns its exit code.

    When a file changes, the target first stops in good order, for `patience` seconds at most: runs handed
    back count no crash. The process must then end with CHANGED.
    """
    reloader = autoreload.get_reloader()
    ended = threading.Event()
    codes: list[int] = []

    def work() -> None:
        try:
            codes.append(target.run())
        finally:
            ended.set()
            reloader.stop()

    def hand_back(file_path: Path, **_kwargs: Any) -> None:
        if file_path.suffix != ".mo":  # Translations are taken up without a new process.
            target.stop()
            ended.wait(patience)

    autoreload.file_changed.connect(hand_back, weak=False, dispatch_uid="canx_flow.reload")
    try:
        autoreload.start_django(reloader, work)
    except SystemExit:
        return CHANGED
    finally:
        autoreload.file_changed.disconnect(dispatch_uid="canx_flow.reload")
    ended.wait()
    return codes[0] if codes else FATAL
