"""How PostgreSQL is spoken to: prepared statements, and what they leave on a connection."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow.store.db import databases, engine
from canx_flow.store.db.postgresql.session import PostgreSQL

pytestmark = pytest.mark.django_db(transaction=True)

ASKED = "SELECT %s::int"


@pytest.fixture(autouse=True)
def _postgresql_only(tier: str) -> None:
    if tier != "postgresql":
        pytest.skip("only PostgreSQL's driver prepares statements")


def _session(connection: BaseDatabaseWrapper) -> PostgreSQL:
    session = databases.session_of(connection)
    assert isinstance(session, PostgreSQL)
    return session


def _prepared(connection: BaseDatabaseWrapper) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $1::int'")
        return int(cursor.fetchone()[0])


def _seqscan(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW enable_seqscan")
        return str(cursor.fetchone()[0])


def test_a_project_s_connection_prepares_our_statements_alone() -> None:
    """An atomic step's record is prepared on the project's connection, whose own statements and session stay theirs."""
    connection = connections["default"]
    for _ in range(7):
        assert _session(connection).prepared(ASKED, [1]) == [(1,)]
        with connection.cursor() as cursor:
            cursor.execute("SELECT 2 + %s", [1])
    assert _prepared(connection) == 1
    assert connection.connection.prepare_threshold is None
    assert _seqscan(connection) == "on"
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone() == (1,)


def test_an_engine_connection_goes_by_indexes() -> None:
    """Its planner must not read a table whole because it was small when the statement was prepared."""
    connection = engine.open_connection("default")
    try:
        assert _session(connection).prepared(ASKED, [1]) == [(1,)]
        assert _prepared(connection) == 1
        assert _seqscan(connection) == "off"
    finally:
        engine.reset(connection)


def test_nothing_is_prepared_behind_a_transaction_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    """DISABLE_SERVER_SIDE_CURSORS says that the next statement may meet another session."""
    connection: Any = connections["default"]
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    connection.close()
    assert _session(connection).prepared(ASKED, [1]) == [(1,)]
    assert _prepared(connection) == 0


@pytest.mark.parametrize("own", [True, False], ids=["the engine's", "a project's"])
def test_a_schema_that_changes_under_a_session_is_not_met_by_the_next_statement(own: bool) -> None:
    """What was prepared for the table as it was is not run again, and nobody hears of it."""
    connection = engine.open_connection("default") if own else connections["default"]
    statement = "SELECT name FROM canx_flow_worker WHERE name = %s"
    try:
        assert _session(connection).prepared(statement, ["x"]) == []
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE canx_flow_worker ALTER COLUMN name TYPE varchar(300)")
        assert _session(connection).prepared(statement, ["x"]) == []
        assert _session(connection).prepared(statement, ["x"]) == []
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE canx_flow_worker ALTER COLUMN name TYPE varchar(255)")
        if own:
            engine.reset(connection)
