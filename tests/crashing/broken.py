"""Defects that an engine might have, put into a process to see that they are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from canx_flow.store import writes
from canx_flow.store.db.databases import session_for

#: Sleeps of a run that nothing else wakes, of `story.teller`. Whatever wakes a run has it ask for its sleep again.
_ONLY_WAITS = ("pause", "rest")


def torn() -> None:
    """An atomic step's rows are committed before its record."""
    real = writes.write_waiting

    def write_waiting(connection: Any, *arguments: Any) -> Any:
        with connection.wrap_database_errors:
            connection.connection.commit()
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
        return real(connection, *arguments)

    writes.write_waiting = write_waiting


def apart() -> None:
    """A run is suspended, and the timer of its only wait is written in another transaction, right after that."""
    session: Any = type(session_for("default"))
    real = session.insert_timers

    def insert_timers(session: Any, rows: Any) -> None:
        def in_another_transaction() -> None:
            with session.connection.wrap_database_errors:
                real(session, rows)

        if any(wait.step in _ONLY_WAITS for _, wait, _ in rows):
            session.connection.on_commit(in_another_transaction)
        else:
            real(session, rows)

    session.insert_timers = insert_timers


DEFECTS: dict[str, Callable[[], None]] = {"torn": torn, "apart": apart}
