"""What may be done to a project's connection from outside, whatever its driver: end it, and hear that it has ended.

Called by `lent`. Nothing is known here of threads and of what was sent.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import Any

from .own import forget_transaction


def drop(connection: Any) -> None:
    """End what is behind a project's connection, whatever state it is in; a pool gets its place back."""
    raw = connection.connection
    forget_transaction(connection)
    connection.errors_occurred = False
    if raw is None:
        return
    if has_pool(connection):
        with suppress(Exception):
            raw.close()  # Which the pool will see, and open another.
    try:
        connection.close()
    except Exception:  # noqa: BLE001 - it is given up
        connection.connection = None
    if connection.connection is not None:  # SQLite in memory, which Django never closes.
        with suppress(Exception):
            connection.rollback()
            connection.set_autocommit(connection.settings_dict["AUTOCOMMIT"])


def has_pool(connection: Any) -> bool:
    """Return whether its sessions come from a pool, and go back there."""
    return bool(getattr(connection, "pool", None))


def news_of(raw: Any) -> Any:
    """Return what tells whether a server has sent something unasked, as it does when it ends a session."""
    try:
        news = select.poll()
        news.register(raw.fileno(), select.POLLIN)
    except Exception:  # noqa: BLE001 - SQLite, or another driver
        return None
    return news


def has_come(news: Any) -> bool:
    """Return whether the server has sent something unasked."""
    return news is not None and bool(news.poll(0))
