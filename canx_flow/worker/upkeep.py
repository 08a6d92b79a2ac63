"""The connections of a thread that runs other people's code: kept while there is work, closed when there is none.

Called by slots and step threads before each piece of work. A view's connection is opened and closed with its
request (CONN_MAX_AGE); a slot that did so would connect anew for every run.
"""

from __future__ import annotations

from django.db import connections, reset_queries

from ..store import engine


def keep_connections() -> None:
    """Keep this thread's sound connections for the next piece of work; close those that a failure has left behind."""
    reset_queries()
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        connection.close_at = None
        spoilt = connection.in_atomic_block or connection.get_autocommit() != connection.settings_dict["AUTOCOMMIT"]
        if spoilt or (connection.errors_occurred and not connection.is_usable()):
            engine.reset(connection)
        connection.errors_occurred = False


def close_connections() -> None:
    """There is no more work for now."""
    connections.close_all()
