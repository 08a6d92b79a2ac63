"""The engine's own connections: of no thread, outside any pool, with options and a session of their own.

Made by `engine.open_connection`. What a role, a database or a project's OPTIONS set by default is for the project's
statements: an isolation level or a tight timeout of theirs must not decide what becomes of the engine's. So each
database's class sets its own when a connection opens, outside any transaction, so that no rollback takes it back.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from .deadlines import Watch
from .session import Session


class Own:
    """What an engine connection is besides a connection of its backend's: a class of both is made for each backend."""

    #: The class of its session.
    speaks: type[Session]
    watch: Watch
    session: Session

    def __init__(self, settings: dict[str, Any], alias: str) -> None:
        super().__init__(settings, alias)  # type: ignore[call-arg]
        connection: Any = self
        connection.inc_thread_sharing()
        self.watch = connection.wrap_database_errors = Watch(connection)
        self.session = self.speaks(connection, is_own=True)

    def init_connection_state(self) -> None:
        """Set up what has just been opened. Called by Django for each connection that it opens."""
        connection: Any = self
        try:
            self.watch.attach(connection.connection)
            super().init_connection_state()  # type: ignore[misc]
            self.session.set_up()
        except BaseException:
            connection.drop()  # Else Django would take it for a sound one.
            raise

    def drop(self) -> None:
        """Close what is behind it, whatever state it is in; its next statement opens a new one."""
        connection: Any = self
        raw, connection.connection = connection.connection, None
        if raw is not None:
            with suppress(Exception):
                raw.close()
        self.watch.detach()


def is_own(connection: BaseDatabaseWrapper) -> bool:
    """Return whether this is an engine connection: only the session of such a one may be changed."""
    return isinstance(connection, Own)


def reset(connection: BaseDatabaseWrapper) -> None:
    """Drop what is behind an engine connection, whatever state it is in; its next statement opens a new one."""
    forget_transaction(connection)
    if isinstance(connection, Own):
        connection.drop()
        return
    raw, connection.connection = connection.connection, None
    if raw is not None:
        with suppress(Exception):
            raw.close()


def forget_transaction(connection: BaseDatabaseWrapper) -> None:
    """Have Django forget the transaction that it believes to be open on this connection."""
    connection.in_atomic_block = False
    connection.atomic_blocks = []
    connection.savepoint_ids = []
    connection.run_on_commit = []
    connection.needs_rollback = False
    connection.closed_in_transaction = False
