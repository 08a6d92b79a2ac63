"""The threads that a worker cannot live without: committer, heartbeat, LISTEN. Dead ones are started anew.

Asked before each turn whether all are alive, and before each claim whether they have their connections, which are to be
open before slots take what the database has left.
"""

from __future__ import annotations

from collections import Counter

from ..observe import announce, facts
from .committer import Committer
from .heartbeat import Heartbeat
from .wakeup import Listener

_MOST_DEATHS = 3  # of one thread, in the life of a worker: what dies more often has a reason that stays


class Vitals:
    """The threads of one life of a worker."""

    def __init__(self, committer: Committer, heartbeat: Heartbeat, listener: Listener) -> None:
        self._committer = committer
        self._heartbeat = heartbeat
        self._threads: dict[str, Committer | Heartbeat | Listener] = {
            "committer": committer,
            "heartbeat": heartbeat,
            "ear": listener,
        }
        self._deaths: Counter[str] = Counter()

    def connected(self) -> bool:
        """Return whether what is claimed now can be stored, and its lease be renewed."""
        return self._committer.connected and self._heartbeat.is_fresh()

    def revive(self) -> str:
        """Start dead threads anew; return the name of one that has died too often, empty if none has."""
        for name, thread in self._threads.items():
            if thread.revive():
                self._deaths[name] += 1
                announce(facts.ThreadRestarted(name))
        return next((name for name, deaths in self._deaths.items() if deaths > _MOST_DEATHS), "")
