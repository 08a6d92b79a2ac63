"""Which side an error falls on: by the database's own codes, and by what the database under test really answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import (
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.store.db import engine, errors
from canx_flow.store.db.errors import Verdict, verdict


class _PostgreSQLError(Exception):
    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("as psycopg says it")
        self.sqlstate = sqlstate


class _SQLiteError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("as sqlite3 says it")
        self.sqlite_errorcode = code


def _wrapped(kind: type[Error], cause: Exception) -> Error:
    error = kind(*cause.args)
    error.__cause__ = cause
    return error


POSTGRESQL = [
    (DataError, "22001", Verdict.ROW),
    (DataError, "22P05", Verdict.ROW),
    (DataError, "2202E", Verdict.ROW),
    (OperationalError, "54000", Verdict.ROW),
    (IntegrityError, "23505", Verdict.TAKEN),
    (IntegrityError, "23502", Verdict.OTHER),
    (IntegrityError, "23503", Verdict.OTHER),
    (IntegrityError, "23514", Verdict.OTHER),
    (NotSupportedError, "0A000", Verdict.OTHER),
    (ProgrammingError, "42501", Verdict.OTHER),
    (ProgrammingError, "42P01", Verdict.OTHER),
    (ProgrammingError, "42703", Verdict.OTHER),
    (InternalError, "XX000", Verdict.OTHER),
    (InternalError, "25P02", Verdict.OTHER),
    (OperationalError, "53100", Verdict.OTHER),
    (OperationalError, "53200", Verdict.OTHER),
    (OperationalError, "57014", Verdict.OTHER),
    (InternalError, "25006", Verdict.AWAY),
    (InternalError, "25P03", Verdict.AWAY),
    (OperationalError, "08006", Verdict.AWAY),
    (OperationalError, "53300", Verdict.AWAY),
    (OperationalError, "57P01", Verdict.AWAY),
    (OperationalError, None, Verdict.AWAY),
    (InterfaceError, None, Verdict.AWAY),
    (DataError, None, Verdict.ROW),
    (OperationalError, "40001", Verdict.AGAIN),
    (OperationalError, "40P01", Verdict.AGAIN),
    (OperationalError, "55P03", Verdict.AGAIN),
]
MYSQL = [
    (DataError, 1406, Verdict.ROW),
    (DataError, 1264, Verdict.ROW),
    (OperationalError, 1366, Verdict.ROW),
    (OperationalError, 1153, Verdict.ROW),
    (OperationalError, 2020, Verdict.ROW),
    (OperationalError, 3140, Verdict.ROW),
    (IntegrityError, 1062, Verdict.TAKEN),
    (IntegrityError, 1048, Verdict.OTHER),
    (IntegrityError, 1364, Verdict.OTHER),
    (OperationalError, 1364, Verdict.OTHER),
    (IntegrityError, 4025, Verdict.OTHER),
    (IntegrityError, 3819, Verdict.OTHER),
    (OperationalError, 1054, Verdict.OTHER),
    (OperationalError, 1142, Verdict.OTHER),
    (ProgrammingError, 1146, Verdict.OTHER),
    (OperationalError, 1040, Verdict.AWAY),
    (OperationalError, 2006, Verdict.AWAY),
    (OperationalError, 2013, Verdict.AWAY),
    (InterfaceError, 0, Verdict.AWAY),
    (OperationalError, 1213, Verdict.AGAIN),
    (OperationalError, 1205, Verdict.AGAIN),
    (OperationalError, 1020, Verdict.AGAIN),
]
SQLITE = [
    (DataError, 18, Verdict.ROW),
    (IntegrityError, 2067, Verdict.TAKEN),
    (IntegrityError, 1555, Verdict.TAKEN),
    (IntegrityError, 1299, Verdict.OTHER),
    (IntegrityError, 275, Verdict.OTHER),
    (OperationalError, 1, Verdict.OTHER),
    (OperationalError, 17, Verdict.OTHER),
    (OperationalError, 5, Verdict.AWAY),
    (OperationalError, 517, Verdict.AWAY),
    (OperationalError, 8, Verdict.AWAY),
    (OperationalError, 10, Verdict.AWAY),
    (OperationalError, 13, Verdict.AWAY),
]


@pytest.mark.once
@pytest.mark.parametrize(("kind", "state", "wanted"), POSTGRESQL)
def test_what_postgresql_says(kind: type[Error], state: str | None, wanted: Verdict) -> None:
    """By SQLSTATE, whatever class psycopg makes of it."""
    assert verdict(_wrapped(kind, _PostgreSQLError(state))) is wanted


@pytest.mark.once
@pytest.mark.parametrize(("kind", "number", "wanted"), MYSQL)
def test_what_mysql_says(kind: type[Error], number: int, wanted: Verdict) -> None:
    """By number; also where Django makes another class of it, and then gives no cause."""
    assert verdict(_wrapped(kind, Exception(number, "as mysqlclient says it"))) is wanted
    assert verdict(kind(number, "as mysqlclient says it")) is wanted


@pytest.mark.once
@pytest.mark.parametrize(("kind", "code", "wanted"), SQLITE)
def test_what_sqlite_says(kind: type[Error], code: int, wanted: Verdict) -> None:
    """By error code, extended or not."""
    assert verdict(_wrapped(kind, _SQLiteError(code))) is wanted


@pytest.mark.once
@pytest.mark.parametrize("error", [MemoryError(), TypeError("a bug"), ValueError(1213), OSError(24, "files")])
def test_what_no_database_says_is_no_rows_fault(error: Exception) -> None:
    """Memory that is short, and defects of ours or of what wraps a driver: a passing trouble until proven otherwise."""
    assert verdict(error) is Verdict.OTHER
    assert not errors.is_outage(error)
    assert not errors.is_deadlock(error)


@pytest.mark.once
def test_a_value_that_no_driver_can_send_is_its_rows_fault() -> None:
    """Half a surrogate pair, and a number that is too large for every integer."""
    assert errors.is_of_the_row(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"))
    assert errors.is_of_the_row(OverflowError("Python int too large to convert to SQLite INTEGER"))


@pytest.mark.once
def test_a_schema_that_changes_is_not_told_as_a_database_that_is_away() -> None:
    """Whoever reads the log looks for the right thing; a statement that takes too long may be told so."""
    assert not errors.is_outage(_wrapped(ProgrammingError, _PostgreSQLError("42501")))
    assert not errors.is_outage(OperationalError(1054, "Unknown column"))
    assert not errors.is_outage(_wrapped(OperationalError, _SQLiteError(1)))
    assert errors.is_outage(_wrapped(OperationalError, _PostgreSQLError("57014")))


@pytest.fixture
def connection(transactional_db: None) -> Iterator[BaseDatabaseWrapper]:
    """An engine connection."""
    connection = engine.open_connection("default")
    yield connection
    engine.reset(connection)


def _insert(connection: BaseDatabaseWrapper, **values: Any) -> Callable[[], object]:
    row = {"run_id": WorkflowRun().id, "seq": 1, "name": "a", "kind": "step", "state": "completed", **values}
    record = StepRecord(started_at=WorkflowRun().created_at, **row)

    def insert() -> None:
        with engine.transaction(connection), engine.current(connection):
            record.save(force_insert=True, using=connection.alias)

    return insert


def _caught(call: Callable[[], object]) -> Exception:
    with pytest.raises((Error, OverflowError)) as caught:
        call()
    return caught.value


def test_a_second_row_with_a_key(connection: BaseDatabaseWrapper) -> None:
    """The real answer of the database under test to a unique violation."""
    run_id = WorkflowRun().id
    _insert(connection, run_id=run_id)()
    assert verdict(_caught(_insert(connection, run_id=run_id))) is Verdict.TAKEN


def test_a_column_that_a_migration_has_added(connection: BaseDatabaseWrapper) -> None:
    """The real answer to a row without a value for a NOT NULL column, and to a column that is not there."""
    assert verdict(_caught(_insert(connection, seq=None))) is Verdict.OTHER
    with connection.cursor() as cursor:
        error = _caught(lambda: cursor.execute("SELECT missing FROM canx_flow_steprecord"))
    assert verdict(error) is Verdict.OTHER


def test_a_value_that_its_column_cannot_hold(connection: BaseDatabaseWrapper, tier: str) -> None:
    """The real answer to a text that is too long, and to a number that is too large."""
    assert verdict(_caught(_insert(connection, seq=2**70))) is Verdict.ROW
    if tier != "sqlite":  # It has no widths.
        assert verdict(_caught(_insert(connection, kind="x" * 17))) is Verdict.ROW


def test_attributes_that_are_no_json_to_the_database(connection: BaseDatabaseWrapper, tier: str) -> None:
    """What is nested too deeply is the row's own data, though MariaDB says it by a CHECK, which is else no row's."""
    if tier != "mysql":
        pytest.skip("nested as deeply as Python writes it, other databases take it")
    deep: Any = 0
    for _ in range(120):
        deep = [deep]

    def insert() -> None:
        with engine.transaction(connection), engine.current(connection):
            WorkflowRun(workflow="w", attributes={"deep": deep}).save(force_insert=True)

    assert verdict(_caught(insert)) is Verdict.ROW
