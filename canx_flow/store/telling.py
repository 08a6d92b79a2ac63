"""Telling workers that there is something to do: after a commit, from any process, without waiting for an answer.

Called by `client` through `on_commit`, and by a worker that has made a run ready. Only an accelerator: a worker that is
not told finds the work at its next poll, so nothing here may ever fail its caller.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from django.db import connections
from django.db import transaction as django_transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import Worker
from ..observe import announce, facts
from ..states import WorkerState
from .db.databases import session_of

CHANNEL = "canx_flow"
#: For how long a process remembers which workers live, in seconds.
MEMORY = 2.0


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """The live workers, as last looked up: sockets of this host, and how many can only be told by the database."""

    sockets: tuple[str, ...]
    others: int
    looked_at: float


_known: dict[str, _Neighbours] = {}


def tell(alias: str, reason: str = "work") -> None:
    """Wake the live workers of the database `alias`. Call it after the commit; it never raises nor blocks."""
    try:
        connection = connections[alias]
        neighbours = _neighbours(connection)
        unreached = neighbours.others + _ping(neighbours.sockets, reason)
        if unreached and session_of(connection).notifies:
            _notify(connection, reason)
    except Exception as error:  # noqa: BLE001 - they poll
        announce(facts.WorkersNotTold(alias, error))


def forget() -> None:
    """Look the workers up anew at the next `tell`."""
    _known.clear()


def _neighbours(connection: BaseDatabaseWrapper) -> _Neighbours:
    known = _known.get(connection.alias)
    moment = time.monotonic()
    if known is not None and 0 <= moment - known.looked_at < MEMORY:
        return known
    with _guard(connection):
        live = Worker.objects.using(connection.alias).filter(state=WorkerState.ALIVE)
        rows = list(live.values_list("host", "socket"))
    here = socket.gethostname()
    sockets = tuple(path for host, path in rows if host == here and path)
    found = _known[connection.alias] = _Neighbours(sockets, len(rows) - len(sockets), moment)
    return found


def _ping(paths: Sequence[str], reason: str) -> int:
    """Tell the workers that listen at these sockets; return how many could not be told."""
    if not paths:
        return 0
    missed = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for path in paths:
            try:
                sender.sendto(reason.encode(), path)
            except BlockingIOError:
                pass  # Its queue is full: it has been told.
            except OSError:
                missed += 1
    return missed


def _notify(connection: BaseDatabaseWrapper, reason: str) -> None:
    with _guard(connection), connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, reason])


def _guard(connection: BaseDatabaseWrapper) -> django_transaction.Atomic | nullcontext[None]:
    """Let no failed statement of ours spoil a transaction that is open: a test's, mostly."""
    if connection.in_atomic_block:
        return django_transaction.atomic(using=connection.alias)
    return nullcontext()
