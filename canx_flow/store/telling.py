"""Telling workers that there is something to do: after a commit, from any process, without waiting for an answer.

Called by `client` through `on_commit`, and by a worker that has made runs ready which it does not take. Two workers are
told of those that could do it, however many there are: what a start costs does not grow with them. One that cannot do
it passes it on. Only an accelerator: a worker that is not told finds the work at its next poll, so nothing here may
ever fail its caller.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..observe import announce, facts
from .db.databases import session_of
from .neighbours import Group, Needs, forget, guard, neighbours

__all__ = ["Message", "Needs", "channel", "forget", "heard", "pass_on", "share", "tell"]

_PREFIX = "canx_flow"
_TOLD = 2  # workers that are told: one of them may be busy with something else
_TRIED = 8  # sockets that are tried for that: workers that were killed have left theirs, and others' cannot be reached
_HOPS = 2  # times that a message is passed on

#: Not the project's, which may be seeded, and not one that forked processes share.
_chance = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Message:
    """What a worker is told. `needs`: of the one run that this is about, if it is known and about one."""

    reason: str = "work"
    needs: Needs | None = None
    hops: int = _HOPS

    def text(self) -> str:
        """Return it as it is sent."""
        return json.dumps([self.reason, self.needs, self.hops])

    @classmethod
    def read(cls, text: str) -> Message | None:
        """Return the message that was sent as `text`; `None` for any other text."""
        try:
            reason, needs, hops = json.loads(text)
            return cls(str(reason), None if needs is None else Needs(*needs), int(hops))
        except (TypeError, ValueError):
            return None


def heard(texts: Iterable[str]) -> list[Message]:
    """Return the messages among the reasons for which a worker was woken."""
    return [message for text in texts if (message := Message.read(text)) is not None]


def channel(address: str) -> str:
    """Return the channel of PostgreSQL on which the worker of this address listens: its socket's name is in it."""
    return f"{_PREFIX}_{address.rpartition('/')[2]}"


def tell(alias: str, reason: str = "work", needs: Needs | None = None) -> None:
    """Wake two live workers of the database `alias`; without `needs`, two of each kind.

    Call it after the commit; it never raises nor blocks.
    """
    _send(alias, Message(reason, needs))


def share(alias: str, own: str) -> None:
    """Tell other workers than the one of the address `own` that it leaves runs that are ready."""
    _send(alias, Message(), own)


def pass_on(alias: str, message: Message, own: str) -> None:
    """Tell others what the worker of the address `own` was told, unless it was passed on often enough."""
    if message.hops > 0:
        _send(alias, replace(message, hops=message.hops - 1), own)


def _send(alias: str, message: Message, own: str = "") -> None:
    try:
        connection = connections[alias]
        groups, text = neighbours(connection).groups(message.needs), message.text()
        unreached = [address for group in groups for address in _ping(group, text, own)]
        if unreached and session_of(connection).notifies:
            _notify(connection, unreached, text)
    except Exception as error:  # noqa: BLE001 - they poll
        announce(facts.WorkersNotTold(alias, error))


def _ping(group: Group, text: str, own: str) -> Sequence[str]:
    """Tell workers of this host, as many as are to be told; return which others are to be.

    These are none, if any could be told here; but what is passed on (by `own`) others hear, too: here all may be busy.
    """
    told, missed = 0, []
    if not group.here:
        return _some(group.elsewhere, _TOLD, own)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for address in _some(group.here, _TRIED, own):
            try:
                sender.sendto(text.encode(), address)
            except BlockingIOError:
                told += 1  # Its queue is full: it has been told.
            except OSError:
                missed.append(address)
            else:
                told += 1
            if told == _TOLD:
                break
    if told:
        return _some(group.elsewhere, _TOLD, own) if own else ()
    return _some([*group.elsewhere, *missed], _TOLD, own)


def _some(addresses: Sequence[str], most: int, own: str) -> Sequence[str]:
    """Return some of these, at most so many, in an order of chance; not our own."""
    chosen = _chance.sample(addresses, min(most + 1, len(addresses)))
    return [address for address in chosen if address != own][:most]


def _notify(connection: BaseDatabaseWrapper, addresses: Sequence[str], text: str) -> None:
    calls = ", ".join(["pg_notify(%s, %s)"] * len(addresses))
    values = [value for address in addresses for value in (channel(address), text)]
    with guard(connection), connection.cursor() as cursor:
        cursor.execute(f"SELECT {calls}", values)
