"""INT and TERM, heard on a thread of their own: whatever the main thread waits for, in C too, the order arrives.

Python calls a signal's handler on the main thread, between two of its instructions. While it waits for a database that
does not answer, or for SQLite's lock, it comes to none. What a signal writes into the wakeup descriptor is there at
once.

Used by the command.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ...observe import announce, facts
from .orders import Stoppable

ASKING = (signal.SIGINT, signal.SIGTERM)


def ignore_signals() -> None:
    """Leave them to the parent of this process."""
    for asking in ASKING:
        signal.signal(asking, signal.SIG_IGN)


@contextmanager
def by_signals(target: Stoppable, *, ends_process: bool = False) -> Iterator[None]:
    """Have the first INT or TERM ask `target` to stop, each later one force it, on a thread that only waits for these.

    Only in the main thread: elsewhere Python lets no handler be set, and `target` is asked by its caller.
    `ends_process`: the process ends with the target. Then one more signal, while Python shuts down after the first,
    changes nothing of the exit code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hearing, told = socket.socketpair()
    told.setblocking(False)
    heard = threading.Event()
    threading.Thread(target=_hear, args=(hearing, target, heard), name="canx_flow signals", daemon=True).start()
    handlers = {asking: signal.signal(asking, _heard_elsewhere) for asking in ASKING}
    descriptor = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for asking, handler in handlers.items():
            signal.signal(asking, signal.SIG_IGN if ends_process and heard.is_set() else handler)
        told.close()  # The thread ends.


def _heard_elsewhere(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing: Python's own handler hears the signal, and without one it would end the process."""


def _hear(hearing: socket.socket, target: Stoppable, heard: threading.Event) -> None:
    order = target.stop
    with hearing:
        while numbers := hearing.recv(64):
            for number in numbers:
                if number in ASKING:
                    heard.set()
                    try:
                        order()
                    except Exception as error:  # noqa: BLE001 - the next signal makes it leave at once
                        announce(facts.StopNotTaken(error))
                    order = target.force
