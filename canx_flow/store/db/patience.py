"""How long the engine's own statements and transactions may take: one place for every deadline of a connection.

Used by `deadlines`, which is the client's own, and by each database's options and settings.
"""

from __future__ import annotations

from ... import conf

#: Seconds that a statement may take: half a lease, between these.
_LEAST, _MOST = 5.0, 30.0
_LEAST_IDLE = 10.0  # seconds that an open transaction may stand still, at least

#: A server that vanished without a word is noticed within a minute, not after two hours.
KEEPALIVE = {"idle": 20, "interval": 10, "count": 3, "user_timeout": 45_000}


def patience() -> float:
    """Return the seconds that a statement of the engine's may take before its connection counts as lost."""
    return min(max(conf.get().lease_seconds / 2, _LEAST), _MOST)


def server_patience() -> float:
    """Return the seconds after which the server gives up a statement of the engine's: a little before the client does.

    So a lock that is waited for too long costs no connection, and what the engine has given up, the server has too.
    """
    return patience() - 1.0


def idle_patience() -> float:
    """Return the seconds that a transaction may stand still, as when this process does: others wait for its locks."""
    return max(conf.get().lease_seconds, _LEAST_IDLE)
