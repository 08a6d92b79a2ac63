"""The first process of a container: what hands signals on and reaps orphans, while the worker is its child.

PID 1 inherits every process whose parent has ended, and must reap it: else it stays a zombie. Reaped by the worker
itself, the children that a step waits for would be lost to it. And the kernel delivers to PID 1 only signals that have
a handler: a TERM that comes before the worker has set its own is dropped.

`take_over` is called by the app's configuration, and again by the command: as early as code of ours is run. This file
is also what PID 1 runs then, by itself and without site-packages, so it imports nothing of the package.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

_LOST = 1  # The exit status where the child's own is not known.

#: Never handed on: faults of this process, what no process can block, and what a terminal says to a background group.
_OWN = {
    signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS,
}  # fmt: skip
_HANDED_ON = signal.valid_signals() - _OWN
_AWAITED = _HANDED_ON | {signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}


def take_over(argv: Sequence[str]) -> None:
    """Start this command line again as a child and become its init: as PID 1 with the command `runflowworker`.

    Does not return then. Elsewhere, and where no process can be started, it returns and changes nothing.
    """
    if os.getpid() != 1 or list(argv[1:2]) != ["runflowworker"]:
        return
    become_init()


def become_init() -> None:
    """Start this process's command line as a child, then be nothing but its init. Returns where that cannot be."""
    # Blocked, a signal waits: none is lost until the other side of exec() asks for it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    try:
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            os.environ,
            # A group of its own: else a terminal's Ctrl-C would reach it twice, and the second one forces it.
            setpgroup=0,
            setsigmask=before,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    try:
        os.execv(sys.executable, [sys.executable, "-I", "-S", __file__, str(child)])  # noqa: S606 - Our own file.
    except OSError:
        os._exit(watch(child))


def watch(child: int) -> int:
    """Hand every signal on to the child and reap whatever ends; return the child's exit status, once it has ended."""
    _hand_over_terminal(child)
    while (status := _reap(child)) is None:
        number = signal.sigwait(_AWAITED)
        if number in _HANDED_ON:
            _signal(child, number)
    return status


def _hand_over_terminal(child: int) -> None:
    """Let the child's group get what is typed, if there is a terminal."""
    with suppress(OSError):
        os.tcsetpgrp(0, child)


def _reap(child: int) -> int | None:
    """Reap every process that has ended; return the status to leave with, if the child is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return _LOST
        if pid == 0:
            return None
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _signal(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


if __name__ == "__main__":
    os._exit(watch(int(sys.argv[1])))
