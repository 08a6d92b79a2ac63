"""What a parent tells its worker processes, and they their parent: single bytes through a pair of sockets.

Called by the supervisor at one end, by the command in each worker process at the other.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Protocol

STOP, FORCE, UP = b"s", b"f", b"u"


class Stoppable(Protocol):
    """A worker, or a supervisor: runs until told to stop, then returns its exit code."""

    def run(self) -> int: ...
    def stop(self) -> None: ...
    def force(self) -> None: ...


def obey(orders: int, target: Stoppable) -> None:
    """Stop or force `target` as the parent at the other end of `orders` says, or stop it when the parent is gone."""
    os.set_inheritable(orders, False)
    threading.Thread(target=_obey, args=(orders, target), name="canx_flow obey", daemon=True).start()


def say_up(orders: int) -> None:
    """Tell the parent that this process has begun: all code is imported, and whatever it waits for now is ours."""
    with suppress(OSError):  # The parent is gone, which `obey` finds out.
        os.write(orders, UP)


def _obey(orders: int, target: Stoppable) -> None:
    with suppress(OSError):  # The parent is gone, and has not read everything.
        while order := os.read(orders, 1):
            if order == FORCE:
                target.force()
            else:
                target.stop()
    target.stop()
