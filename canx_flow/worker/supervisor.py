"""Several worker processes under one parent (`--processes`), and one that starts anew with the code (`--reload`).

Called by the command. Children ignore INT and TERM and obey their parent through a pipe, whose end also tells
them that the parent is gone.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from django.utils import autoreload

from .. import logs

logger = logs.logger("canx_flow.worker")

CLEAN, FATAL, ARGUMENTS, FORCED = 0, 1, 2, 3
#: What Django's reloader ends a process with when a file has changed.
CHANGED = 3

_STOP, _FORCE = b"s", b"f"
_LEAST_BACKOFF = 1.0
_MOST_BACKOFF = 30.0
#: A child that lived for so many seconds did not fail at starting.
_GOOD_LIFE = 60.0
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
    orders: int
    started_at: float

    def order(self, message: bytes) -> None:
        with suppress(OSError):  # It has ended.
            os.write(self.orders, message)


@dataclass(frozen=True, slots=True)
class _Ended:
    child: _Child
    code: int


class Supervisor:
    """Keeps `count` children of the command `argv` alive; each is told its pipe by `--obey FD`.

    A child that dies is replaced, with growing delays while it dies at once. `renew`: one that ends cleanly
    is replaced, too. `reloading`: there is one child, which ends with CHANGED for being started anew, and
    before it first did so any other end is the end. `grace`: seconds that children get after `stop`.
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
        self._mail: queue.SimpleQueue[bytes | _Ended] = queue.SimpleQueue()
        self._children: dict[int, _Child] = {}
        #: When a dead child's place is filled again, by monotonic time.
        self._due: dict[int, float] = {}
        self._failures = dict.fromkeys(range(count), 0)
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
        elif message == _FORCE:
            self._tell_force()
        else:
            self._tell_stop("Told to stop (a second Ctrl-C, INT or TERM, leaves at once)")

    def _patience(self) -> float | None:
        moments = [*self._due.values(), *([] if self._deadline is None else [self._deadline])]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _time_has_come(self) -> None:
        moment = time.monotonic()
        for place in [place for place, due in self._due.items() if due <= moment]:
            del self._due[place]
            self._start(place)
        if self._deadline is not None and self._deadline <= moment:
            self._deadline = None
            self._kill() if self._forced else self._tell_force(f"{self._grace + _LAST_GRACE:g} s have passed")

    def _start(self, place: int) -> None:
        read, write = os.pipe()
        try:
            argv = [*self._argv, "--obey", str(read)]
            process = subprocess.Popen(argv, pass_fds=(read,), env=self._env)  # noqa: S603 - Our own command line.
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        child = self._children[place] = _Child(place, process, write, time.monotonic())
        threading.Thread(target=self._await, args=(child,), name=f"canx_flow child {place}", daemon=True).start()

    def _await(self, child: _Child) -> None:
        self._mail.put(_Ended(child, child.process.wait()))

    def _bury(self, ended: _Ended) -> None:
        child, code = ended.child, ended.code
        del self._children[child.place]
        os.close(child.orders)
        delay = None if self._stopping else self._delay(child, code)
        if delay is not None:
            self._due[child.place] = time.monotonic() + delay
            return
        self._code = max(self._code, code if code >= 0 else FATAL)
        if code != CLEAN and not self._stopping:
            # Nothing of ours will go better in the others: wrong arguments, or a first start that failed.
            self._tell_stop(f"Worker process {child.process.pid} ended with {code} and none is started in its place")

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
        if time.monotonic() - child.started_at >= _GOOD_LIFE:
            self._failures[child.place] = 0
        delay = min(_LEAST_BACKOFF * 2.0 ** min(self._failures[child.place], 10), _MOST_BACKOFF)
        self._failures[child.place] += 1
        logger.error("Worker process %s ended with %s; another starts in %g s", child.process.pid, code, delay)
        return delay

    def _tell_stop(self, why: str = "Told to stop", how: str = "finish their current steps and leave") -> None:
        if self._stopping:
            return
        self._stopping = True
        self._due.clear()
        self._deadline = time.monotonic() + self._grace + _LAST_GRACE
        self._say(why, f"are to {how}")
        for child in self._children.values():
            child.order(_STOP)

    def _tell_force(self, why: str = "Told to again") -> None:
        leave = "leave at once; other workers go on with their runs"
        if self._stopping:
            self._say(why, f"are to {leave}")
        self._tell_stop(why, leave)
        self._forced = True
        self._deadline = time.monotonic() + _LAST_GRACE
        for child in self._children.values():
            child.order(_FORCE)

    def _kill(self) -> None:
        self._say("They did not leave", "are killed; other workers go on with their runs")
        for child in self._children.values():
            child.process.kill()

    def _say(self, why: str, what: str) -> None:
        """What becomes of the children now. Each says itself what it waits for; one that reloads is not said."""
        if self._children and not self._reloading:
            pids = ", ".join(str(child.process.pid) for child in self._children.values())
            logger.warning("%s: worker processes %s %s", why, pids, what)


def obey(orders: int, target: Stoppable) -> None:
    """Stop or force `target` as the parent at the other end of the pipe says, or stop it when the parent is gone."""
    os.set_inheritable(orders, False)
    threading.Thread(target=_obey, args=(orders, target), name="canx_flow obey", daemon=True).start()


def _obey(orders: int, target: Stoppable) -> None:
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
