"""The connections of a thread that runs other people's code: kept while there is work, closed when there is none.

Called by slots and step threads around each piece of work, and while they wait for the engine. A view's connection is
opened and closed with its request (CONN_MAX_AGE); a slot that did so would connect anew for every run.
"""

from __future__ import annotations

from django.db import reset_queries

from ..store.db import lending

PATIENCE = 1.0  # seconds that a thread waits for the engine before it gives back the connections that it keeps


def begin_work() -> None:
    """Have this thread's connections sound, and nothing of the work before left in their sessions."""
    reset_queries()
    lending.begin()


def end_work() -> None:
    """Take the connections back from the work that has ended."""
    lending.end()


def close_connections() -> None:
    """Close the thread's connections: there is no more work for now."""
    lending.close()


def give_back_connections() -> None:
    """Close them while the thread waits for the engine, which may have none: the database may have no more."""
    lending.give_back()
