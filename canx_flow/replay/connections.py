"""Whether this thread holds a transaction open: asked before every context call, so asked cheaply.

Called by the sync driver. Django keeps a thread's connections behind a lookup for each alias; here they are looked
up once, and again after one has connected: a connection that never did holds no transaction.
"""

from __future__ import annotations

import threading
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created


class _Connected(threading.local):
    """How often a connection was made in this thread."""

    times = 0


_connected = _Connected()


def _count(**_kwargs: Any) -> None:
    _connected.times += 1


connection_created.connect(_count, dispatch_uid="canx_flow.replay.connections")


class OpenConnections:
    """This thread's connections, with the depth of their transactions at the beginning: none, but in a TestCase."""

    def __init__(self) -> None:
        self._look()
        self._depths = {c.alias: len(c.atomic_blocks) for c in self._all}

    def in_transaction(self) -> str | None:
        """The alias of a connection on which a transaction was opened since the beginning."""
        if self._times != _connected.times:
            self._look()
        for connection in self._all:
            if connection.in_atomic_block and len(connection.atomic_blocks) > self._depths.get(connection.alias, 0):
                return connection.alias
        return None

    def _look(self) -> None:
        self._times = _connected.times
        self._all = connections.all(initialized_only=True)
