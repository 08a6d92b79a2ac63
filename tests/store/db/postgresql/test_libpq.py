"""Statements in one call of libpq: what is prepared, and what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
from django.db import DataError, IntegrityError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow.core import clock
from canx_flow.core.changes import Change, Record
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.store.db import databases, engine, errors
from canx_flow.store.db.postgresql import libpq
from canx_flow.store.db.postgresql.session import PostgreSQL
from canx_flow.store.db.tables import WORKER

pytestmark = pytest.mark.django_db(transaction=True)

ASKED = libpq.Statement("asked", "SELECT %s::int + %s, NULL")


@pytest.fixture(autouse=True)
def _postgresql_only(tier: str) -> None:
    if tier != "postgresql":
        pytest.skip("libpq is PostgreSQL's")


@pytest.fixture
def connection() -> Iterator[BaseDatabaseWrapper]:
    """One of the engine's own."""
    connection = engine.open_connection("default")
    yield connection
    engine.reset(connection)


def _session(connection: BaseDatabaseWrapper) -> PostgreSQL:
    session = databases.session_of(connection)
    assert isinstance(session, PostgreSQL)
    return session


def _fetch(connection: BaseDatabaseWrapper, statement: libpq.Statement, *parameters: str | None) -> Any:
    return _session(connection).ask(statement, parameters)


def _names(connection: BaseDatabaseWrapper) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements WHERE name LIKE 'canx_flow%'")
        return [name for (name,) in cursor.fetchall()]


def test_a_statement_is_prepared_once_for_each_session(connection: BaseDatabaseWrapper) -> None:
    """What it gives are texts; a session of its own is that of the engine, and goes by indexes."""
    for _ in range(2):
        assert _fetch(connection, ASKED, "1", "2") == [["3", None]]
    assert _names(connection) == ["canx_flow_asked"]
    with connection.cursor() as cursor:
        cursor.execute("SHOW enable_seqscan")
        assert cursor.fetchone() == ("off",)
    engine.reset(connection)
    assert _fetch(connection, ASKED, "1", "2") == [["3", None]]


def test_it_is_prepared_again_after_a_rollback(connection: BaseDatabaseWrapper) -> None:
    """psycopg forgets what is prepared when a transaction is rolled back: that is no outage."""
    assert _fetch(connection, ASKED, "1", "2")
    with suppress(DataError), engine.transaction(connection):
        _session(connection).prepared("SELECT %s::int", ["1"])
        _session(connection).prepared("SELECT %s::int", ["one"])
    _session(connection).prepared("SELECT %s::int", [1])
    assert _names(connection) == []
    assert _fetch(connection, ASKED, "1", "2") == [["3", None]]
    assert _names(connection) == ["canx_flow_asked"]


def test_within_a_transaction_it_is_part_of_that(connection: BaseDatabaseWrapper) -> None:
    """There it takes psycopg's own way, which knows of the transaction."""
    with engine.transaction(connection):
        assert [list(row) for row in _fetch(connection, ASKED, "1", "2")] == [[3, None]]
        assert _names(connection) == []


def test_nothing_is_prepared_behind_a_transaction_pooler(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next statement may meet another session."""
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    assert _fetch(connection, ASKED, "1", "2") == [["3", None]]
    assert _names(connection) == []


def test_errors_are_what_django_makes_of_them(connection: BaseDatabaseWrapper) -> None:
    """A value that is wrong is no outage, and the session stays sound."""
    with pytest.raises(DataError):
        _fetch(connection, ASKED, "one", "2")
    with pytest.raises(DataError):
        _fetch(connection, ASKED, "1\0", "2")
    row = f"INSERT INTO {WORKER} (id) VALUES (%s) RETURNING id::text"
    with pytest.raises(IntegrityError):
        _fetch(connection, libpq.Statement("row", row), str(uuid4()))
    assert _fetch(connection, ASKED, "1", "2") == [["3", None]]


def test_a_session_that_has_ended_is_an_outage(connection: BaseDatabaseWrapper) -> None:
    """Whether the server said so or the connection is just gone: the same again may succeed on a new one."""
    [[pid]] = _fetch(connection, libpq.Statement("pid", "SELECT pg_backend_pid()"))
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [int(pid)])
        assert cursor.fetchone() == (True,)
    for _ in range(2):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is asked next
            _fetch(connection, ASKED, "1", "2")
        assert errors.is_outage(caught.value), repr(caught.value)
    engine.reset(connection)
    assert _fetch(connection, ASKED, "1", "2") == [["3", None]]


def test_a_project_s_connection_may_send_texts_as_such() -> None:
    """psycopg's own dumper for that, registered by a project, does not stop atomic steps."""
    from psycopg.types.string import StrDumper

    owner, moment = uuid4(), clock.now()
    run = WorkflowRun.objects.create(workflow="w", state="running", ready=False, owner_id=owner, epoch=1)
    record = Record(1, "it", "step", "completed", attempts=1, result="1", started_at=moment, finished_at=moment)
    change = Change(run.id, 1, inserts=[record])
    connection: Any = connections["default"]
    connection.connection.adapters.register_dumper(str, StrDumper)
    try:
        with transaction.atomic():
            assert _session(connection).write_one(owner, change) == "running"
        assert StepRecord.objects.get(run_id=run.id).finished_at == moment
    finally:
        connection.close()
