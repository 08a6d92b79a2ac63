"""A statement of PostgreSQL in one call of libpq, for connections of the engine's own. Called by `vendor`.

psycopg sends a statement, waits until it may send and then for the answer, and lets go of the interpreter each time.
Where other threads compute, it costs up to a switch interval each time until it is got back, while the changes of many
runs wait. In one call that is once. A signal cannot interrupt such a call: it is for threads that get none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

_UNKNOWN_STATEMENT = "26000"  # SQLSTATE: psycopg forgets everything that is prepared when it rolls back


class Statement:
    """One statement with `%s` for its parameters; each session prepares it when it first needs it."""

    def __init__(self, name: str, text: str) -> None:
        self.name = f"canx_flow_{name}".encode()
        self.text = text
        numbers = count(1)
        first, *others = text.split("%s")
        self.numbered = "".join([first, *(f"${next(numbers)}{part}" for part in others)]).encode()


def fetch(raw: Any, statement: Statement, parameters: Sequence[str | None], *, prepare: bool) -> list[list[str | None]]:
    """Run it in a transaction of its own; parameters and rows are texts, as PostgreSQL reads and writes them.

    `raw` is psycopg's connection, outside any transaction. `prepare` not behind a transaction pooler. Errors are
    psycopg's.
    """
    from psycopg import pq

    values = [None if value is None else _bytes(value) for value in parameters]
    if not prepare:
        result = raw.pgconn.exec_params(statement.numbered, values)
    else:
        if statement.name not in _known(raw):
            _prepare(raw, statement)
        result = raw.pgconn.exec_prepared(statement.name, values)
        if _state(result) == _UNKNOWN_STATEMENT:
            _prepare(raw, statement)
            result = raw.pgconn.exec_prepared(statement.name, values)
    if result.status != pq.ExecStatus.TUPLES_OK:
        raise _error(result)
    columns = range(result.nfields)
    return [[_text(result.get_value(row, column)) for column in columns] for row in range(result.ntuples)]


def _prepare(raw: Any, statement: Statement) -> None:
    from psycopg import pq

    _known(raw).add(statement.name)  # First: should it not be there after all, that is found out and mended.
    result = raw.pgconn.prepare(statement.name, statement.numbered)
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise _error(result)


def _known(raw: Any) -> set[bytes]:
    known: set[bytes] | None = getattr(raw, "canx_flow_statements", None)
    if known is None:
        known = raw.canx_flow_statements = set()
    return known


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


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
