"""How psycopg is spoken to beneath Django: prepared statements, and in one call of libpq where the connection is ours.

Called by `session`. Only psycopg's own classes are spoken to so: where a tracer or the like stands in their place,
Django's cursor is taken, which works with whatever Django works with.

psycopg sends a statement, waits until it may send and then for the answer, and releases the GIL each time. Where other
threads compute, it takes up to a switch interval each time to get the GIL back, while the changes of many runs wait. In
one call that is once. A signal cannot interrupt such a call: it is for threads that get none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

_ROWS = 2  # libpq's word for a statement that has given rows: PGRES_TUPLES_OK
_UNKNOWN_STATEMENT = "26000"  # SQLSTATE: psycopg forgets everything that is prepared when it rolls back


class Statement:
    """One statement with `%s` for its parameters; each session prepares it when it first needs it."""

    def __init__(self, name: str, text: str) -> None:
        self.name = f"canx_flow_{name}".encode()
        self.text = text
        numbers = count(1)
        first, *others = text.split("%s")
        self.numbered = "".join([first, *(f"${next(numbers)}{part}" for part in others)]).encode()


class Wire:
    """What is known of one connection of psycopg's: a cursor of ours, and which statements it has prepared."""

    def __init__(self, raw: Any, *, prepares: bool) -> None:
        self.raw = raw
        self.prepares = prepares
        self.known: set[bytes] = set()
        #: One for as long as the connection lives: to make a cursor and to put it away costs a fifth of a statement.
        #: `None` where the connection, or the cursor, is not psycopg's own but a tracer's.
        self.cursor = self.new_cursor()

    def new_cursor(self) -> Any:
        """Return a cursor of psycopg's own, `None` if there may be none."""
        import psycopg

        if not (isinstance(psycopg.Cursor, type) and issubclass(type(self.raw), psycopg.Connection)):
            return None
        return psycopg.Cursor(self.raw)


def fetch(wire: Wire, statement: Statement, parameters: Sequence[str | None]) -> list[list[str | None]]:
    """Run it in a transaction of its own; parameters and rows are texts, as PostgreSQL reads and writes them.

    Its connection is outside any transaction. Errors are psycopg's.
    """
    values = [None if value is None else _bytes(value) for value in parameters]
    pgconn = wire.raw.pgconn
    if not wire.prepares:
        result = pgconn.exec_params(statement.numbered, values)
    else:
        if statement.name not in wire.known:
            _prepare(wire, statement)
        result = pgconn.exec_prepared(statement.name, values)
        if result.status != _ROWS and _state(result) == _UNKNOWN_STATEMENT:
            _prepare(wire, statement)
            result = pgconn.exec_prepared(statement.name, values)
    if result.status != _ROWS:
        raise _error(result)
    get, columns = result.get_value, range(result.nfields)
    rows = ([get(row, column) for column in columns] for row in range(result.ntuples))
    return [[None if value is None else value.decode() for value in row] for row in rows]


def _prepare(wire: Wire, statement: Statement) -> None:
    from psycopg import pq

    wire.known.add(statement.name)  # First: should it not be there after all, that is found out and mended.
    result = wire.raw.pgconn.prepare(statement.name, statement.numbered)
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise _error(result)


def _state(result: Any) -> str:
    from psycopg.pq import DiagnosticField

    return (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()


def _error(result: Any) -> Exception:
    from psycopg import OperationalError, errors

    if not _state(result):  # libpq's own words, and not the server's: the connection is lost.
        return OperationalError(result.get_error_message())
    return errors.error_from_result(result)


def _bytes(value: str) -> bytes:
    if "\0" in value:  # To libpq the text would end there.
        from psycopg import DataError

        raise DataError("PostgreSQL text cannot hold NUL (0x00)")
    return value.encode()
