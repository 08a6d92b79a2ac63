"""Telling workers that there is something to do: after a commit, from any process, without waiting for an answer.

Called by `client` through `on_commit`, and by a worker that has made runs ready which it does not take. Two workers are
told of those that could do it, on this host if there are any, however many there are: what a start costs does not grow
with them. One that cannot do it passes it on, to two of this host and two of others, where all of this one may be busy.
Only an accelerator: a worker that is not told finds the work at its next poll, so nothing here may ever fail its
caller.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import Worker
from ..observe import announce, facts
from ..states import WorkerState
from .db.databases import session_of
from .neighbours import Group, Needs, forget, guard, neighbours

__all__ = ["LIMITS", "Message", "Needs", "channel", "forget", "heard", "pass_on", "tell"]

#: The reason of a message that limits or pauses have changed.
LIMITS = "limits"

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
    _send(alias, [Message(reason, needs)])


def tell_owner(alias: str, run_id: UUID) -> None:
    """Tell the worker that is running this run that there is an event for it; raise and wait for nothing, as `tell`."""
    try:
        workers = Worker.objects.using(alias).filter(runs__id=run_id, state=WorkerState.ALIVE).exclude(socket="")
        connection, text = connections[alias], Message("event").text()
        with guard(connection):
            unreached = _ping(Group(list(workers.values_list("socket", flat=True)), []), text, "", is_wide=False)
        if unreached and session_of(connection).notifies:
            _notify(connection, [(address, text) for address in unreached])
    except Exception as error:  # noqa: BLE001 - it polls
        announce(facts.WorkersNotTold(alias, error))


def pass_on(alias: str, own: str, heard: Collection[Message] = (), *, leaves_runs: bool = False) -> None:
    """Tell others what the worker of the address `own` was told, unless it was passed on often enough.

    `leaves_runs`: and that it leaves runs that are ready. That is for its neighbours, if it has any.
    """
    _send(alias, [Message()] if leaves_runs else (), _next_hops(heard), own)


def _next_hops(heard: Collection[Message]) -> list[Message]:
    """Return what is passed on of this: one message for each reason, about no run in particular if they differ.

    So a full worker that hears of a hundred starts tells two others of each kind, once.
    """
    going = [message for message in heard if message.hops > 0]
    found = []
    for reason in dict.fromkeys(message.reason for message in going):
        some = [message for message in going if message.reason == reason]
        needs = {message.needs for message in some}
        hops = min(message.hops for message in some) - 1
        found.append(Message(reason, needs.pop() if len(needs) == 1 else None, hops))
    return found


def _send(alias: str, near: Iterable[Message], wide: Iterable[Message] = (), own: str = "") -> None:
    """Tell two workers of each of these, but not the one of the address `own`; of some others in any case."""
    try:
        connection = connections[alias]
        known = neighbours(connection)
        unreached = [
            (address, text)
            for messages, is_wide in ((near, False), (wide, True))
            for message in messages
            for text in [message.text()]
            for group in known.groups(message.needs)
            for address in _ping(group, text, own, is_wide=is_wide)
        ]
        if unreached and session_of(connection).notifies:
            _notify(connection, unreached)
    except Exception as error:  # noqa: BLE001 - they poll
        announce(facts.WorkersNotTold(alias, error))


def _ping(group: Group, text: str, own: str, *, is_wide: bool) -> Sequence[str]:
    """Tell workers of this host, as many as are to be told; return which others are to be.

    These are none if any could be told here, unless others are to hear it in any case (`is_wide`).
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
        return _some(group.elsewhere, _TOLD, own) if is_wide else ()
    return _some([*group.elsewhere, *missed], _TOLD, own)


def _some(addresses: Sequence[str], most: int, own: str) -> Sequence[str]:
    """Return some of these, at most so many, in an order of chance; not our own."""
    chosen = _chance.sample(addresses, min(most + 1, len(addresses)))
    return [address for address in chosen if address != own][:most]


def _notify(connection: BaseDatabaseWrapper, told: Sequence[tuple[str, str]]) -> None:
    """Send to each of these addresses its text, by one statement."""
    calls = ", ".join(["pg_notify(%s, %s)"] * len(told))
    values = [value for address, text in told for value in (channel(address), text)]
    with guard(connection), connection.cursor() as cursor:
        cursor.execute(f"SELECT {calls}", values)
