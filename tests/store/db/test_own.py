"""What the engine sets on its own sessions, whatever a role, a database or a project's options set by default."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow.store.db import engine
from canx_flow.store.db.databases import session_of
from canx_flow.store.db.postgresql.session import PostgreSQL
from canx_flow.store.db.tables import RUN

pytestmark = pytest.mark.django_db(transaction=True)

#: As a role or a database may have them, too.
_TIGHT = {
    "postgresql": {
        "options": "-c default_transaction_isolation=serializable -c statement_timeout=200 -c lock_timeout=100 "
        "-c idle_in_transaction_session_timeout=100 -c search_path=public"
    },
    "mysql": {
        "init_command": "SET SESSION innodb_lock_wait_timeout=1, SESSION lock_wait_timeout=1, SESSION wait_timeout=1, "
        "SESSION tx_isolation='SERIALIZABLE'",
        "read_timeout": 1,
    },
    "sqlite": {"timeout": 0.1},
}


@pytest.fixture
def tight(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose sessions are strict and impatient."""
    options = connections.settings["default"]["OPTIONS"]
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", {**options, **_TIGHT[tier]})


@pytest.fixture
def connection(transactional_db: None) -> Iterator[BaseDatabaseWrapper]:
    """An engine connection."""
    connection = engine.open_connection("default")
    yield connection
    engine.reset(connection)


def _ask(connection: BaseDatabaseWrapper, statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def _fail_in_the_first_transaction(connection: BaseDatabaseWrapper) -> None:
    @engine.transaction(connection)
    def failing() -> None:
        session = session_of(connection)
        session.fetch_of(f"SELECT id FROM {RUN} WHERE id", [session.uuid(uuid4())])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()


def test_a_session_of_the_engine_is_patient_on_postgresql(
    tier: str, tight: None, connection: BaseDatabaseWrapper
) -> None:
    """Isolation and timeouts are its own, in autocommit too, and no rollback takes them back."""
    if tier != "postgresql":
        pytest.skip("these are PostgreSQL's")
    _fail_in_the_first_transaction(connection)
    assert _ask(connection, "SHOW transaction_isolation") == "read committed"
    assert _ask(connection, "SHOW statement_timeout") == "4s"
    assert _ask(connection, "SHOW lock_timeout") == "0"
    assert _ask(connection, "SHOW idle_in_transaction_session_timeout") == "10s"
    assert _ask(connection, "SHOW idle_session_timeout") == "0"
    assert _ask(connection, "SHOW enable_seqscan") == "off"
    assert _ask(connection, "SHOW jit") == "off"
    assert _ask(connection, "SHOW search_path") == "public"  # What is no matter of patience is the project's.


def test_a_session_of_the_engine_is_patient_on_mysql(tier: str, tight: None, connection: Any) -> None:
    """The same, and its socket is kept alive as PostgreSQL's library keeps its own."""
    if tier != "mysql":
        pytest.skip("these are MySQL's")
    _fail_in_the_first_transaction(connection)
    assert _ask(connection, "SELECT @@session.tx_isolation") == "READ-COMMITTED"
    assert _ask(connection, "SELECT @@session.innodb_lock_wait_timeout") == 4
    assert _ask(connection, "SELECT @@session.lock_wait_timeout") == 4
    assert _ask(connection, "SELECT @@session.wait_timeout") == 28_800
    assert _ask(connection, "SELECT @@session.max_statement_time") == 4
    with socket.fromfd(connection.connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as wire:
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 20
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 45_000


def test_behind_a_transaction_pooler_nothing_is_set(
    tier: str, connection: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DISABLE_SERVER_SIDE_CURSORS says that others may use this session next."""
    if tier != "postgresql":
        pytest.skip("a setting for PostgreSQL")
    monkeypatch.setitem(connections.settings["default"], "DISABLE_SERVER_SIDE_CURSORS", True)
    shared = engine.open_connection("default")
    try:
        session = session_of(shared)
        assert isinstance(session, PostgreSQL)
        assert session.prepared("SELECT %s::int", [1]) == [(1,)]
        changed = "SELECT count(*) FROM pg_settings WHERE source = 'session' AND name LIKE '%timeout'"
        assert _ask(shared, changed) == 0
        assert _ask(shared, "SHOW enable_seqscan") == "on"
    finally:
        engine.reset(shared)
