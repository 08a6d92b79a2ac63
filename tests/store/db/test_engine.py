"""The engine's own connections, on the database under test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connections
from django.db import transaction as django_transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow.models import Worker
from canx_flow.store.db import engine, errors


@pytest.fixture
def connection(transactional_db: None) -> Iterator[BaseDatabaseWrapper]:
    """An engine connection."""
    connection = engine.open_connection("default")
    yield connection
    engine.reset(connection)


@pytest.fixture
def rival(transactional_db: None) -> Iterator[BaseDatabaseWrapper]:
    """Another one."""
    rival = engine.open_connection("default")
    yield rival
    engine.reset(rival)


def _insert(connection: BaseDatabaseWrapper, name: str) -> None:
    row = Worker(name=name)
    fields = Worker._meta.concrete_fields
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    columns = ", ".join(connection.ops.quote_name(field.column) for field in fields)
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(values))
        cursor.execute(f"INSERT INTO {Worker._meta.db_table} ({columns}) VALUES ({marks})", values)


def _fail_after_inserting(connection: BaseDatabaseWrapper, name: str, hook: Callable[[], object] | None = None) -> None:
    with engine.transaction(connection):
        _insert(connection, name)
        if hook is not None:
            connection.on_commit(hook)
        raise ZeroDivisionError


def _lock(connection: BaseDatabaseWrapper, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {Worker._meta.db_table} SET pid = pid + 1 WHERE name = %s", [name])


def _names() -> set[str]:
    return set(Worker.objects.values_list("name", flat=True))


def _end_session(connection: BaseDatabaseWrapper, tier: str) -> None:
    """What a restarting server does to an idle connection."""
    ask, tell = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s, 5000)"),
        "mysql": ("SELECT connection_id()", "KILL %s"),
    }[tier]
    with connection.cursor() as cursor:
        cursor.execute(ask)
        number = cursor.fetchone()[0]
    with connections["default"].cursor() as cursor:
        cursor.execute(tell, [number])


def test_a_transaction_is_stored_whole(connection: BaseDatabaseWrapper) -> None:
    """What was written in a transaction is there after it."""
    with engine.transaction(connection):
        _insert(connection, "one")
        _insert(connection, "two")
    assert _names() == {"one", "two"}
    assert not connection.in_atomic_block


def test_a_failed_transaction_leaves_nothing(connection: BaseDatabaseWrapper) -> None:
    """An exception takes back what was written before it, and the connection serves the next transaction."""
    with pytest.raises(ZeroDivisionError):
        _fail_after_inserting(connection, "one")
    with engine.transaction(connection):
        _insert(connection, "two")
    assert _names() == {"two"}


def test_a_failed_statement_leaves_nothing(connection: BaseDatabaseWrapper) -> None:
    """A statement that the database refuses ends its transaction only."""

    def duplicate() -> None:
        with engine.transaction(connection), connection.cursor() as cursor:
            _insert(connection, "one")
            cursor.execute(f"INSERT INTO {Worker._meta.db_table} SELECT * FROM {Worker._meta.db_table}")

    with pytest.raises(IntegrityError):
        duplicate()
    with engine.transaction(connection):
        _insert(connection, "two")
    assert _names() == {"two"}


def test_an_inner_transaction_is_part_of_the_outer_one(connection: BaseDatabaseWrapper) -> None:
    """Nothing of it is stored before the outer one is."""
    with engine.transaction(connection):
        with engine.transaction(connection):
            _insert(connection, "inner")
        assert _names() == set()
        _insert(connection, "outer")
    assert _names() == {"outer", "inner"}


def test_what_fails_inside_undoes_all_of_it(connection: BaseDatabaseWrapper) -> None:
    """Even where somebody in between takes the error for his own: half of an inner transaction is never stored."""

    @engine.transaction(connection)
    def swallowing() -> None:
        _insert(connection, "outer")
        with pytest.raises(ZeroDivisionError):
            _fail_after_inserting(connection, "inner")

    with pytest.raises(django_transaction.TransactionManagementError):
        swallowing()
    assert _names() == set()
    with engine.transaction(connection):
        _insert(connection, "next")
    assert _names() == {"next"}


def test_only_one_lock_for_everybody_is_held_over_several_transactions(
    connection: BaseDatabaseWrapper, tier: str
) -> None:
    """Where rows are locked one by one, each transaction lets go of its own as soon as it can."""
    with engine.together(connection):
        with engine.transaction(connection):
            _insert(connection, "first")
        assert _names() == (set() if tier == "sqlite" else {"first"})
    assert _names() == {"first"}


@pytest.mark.django_db
def test_on_the_callers_connection_it_joins_the_callers_transaction() -> None:
    """In a test's transaction the engine makes savepoints and commits nothing."""
    with django_transaction.atomic():
        with engine.transaction(connections["default"]):
            _insert(connections["default"], "one")
        assert _names() == {"one"}
        django_transaction.set_rollback(True)
    assert _names() == set()


def test_hooks_run_after_the_commit(connection: BaseDatabaseWrapper) -> None:
    """on_commit hooks of an engine connection run when it has committed, and not after a rollback."""
    seen: list[set[str]] = []
    with engine.transaction(connection):
        _insert(connection, "one")
        connection.on_commit(lambda: seen.append(_names()))
    with pytest.raises(ZeroDivisionError):
        _fail_after_inserting(connection, "two", hook=lambda: seen.append({"never"}))
    with engine.transaction(connection):
        pass
    assert seen == [{"one"}]


def test_it_is_not_the_callers_connection(connection: BaseDatabaseWrapper) -> None:
    """Every engine connection is a session of its own, and serves whichever thread holds it."""
    assert connection is not connections["default"]
    thread = threading.Thread(target=lambda: _insert(connection, "from a thread"))
    thread.start()
    thread.join()
    assert _names() == {"from a thread"}


def test_the_orm_can_be_given_an_engine_connection(transactional_db: None) -> None:
    """Inside `use_engine_connection` this thread's ORM uses it; afterwards the old one is back."""
    before = connections["default"]
    with engine.use_engine_connection("default") as connection:
        assert connections["default"] is connection
        Worker.objects.create(name="one")
    assert connections["default"] is before
    assert connection.connection is None
    assert _names() == {"one"}


def test_engine_transactions_read_committed_rows(
    connection: BaseDatabaseWrapper, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the project's own isolation level is, an engine transaction sees what others commit meanwhile."""
    if tier == "sqlite":
        pytest.skip("SQLite knows one isolation level")
    level: object = "serializable"
    if tier == "postgresql":
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        level = IsolationLevel.SERIALIZABLE
    options = connections.settings["default"]["OPTIONS"]
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", {**options, "isolation_level": level})
    strict = engine.open_connection("default")
    try:
        with engine.transaction(strict), strict.cursor() as cursor:
            counting = f"SELECT count(*) FROM {Worker._meta.db_table}"
            cursor.execute(counting)
            before = cursor.fetchone()[0]
            _insert(connection, "one")
            cursor.execute(counting)
            assert cursor.fetchone()[0] == before + 1
    finally:
        engine.reset(strict)


def test_a_second_writer_waits_at_the_beginning(
    connection: BaseDatabaseWrapper, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite the write lock is taken at BEGIN, and a locked file counts as a database that is away."""
    if tier != "sqlite":
        pytest.skip("other databases lock rows")
    options = {**connections.settings["default"]["OPTIONS"], "timeout": 0.05, "transaction_mode": "DEFERRED"}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    rival = engine.open_connection("default")
    with engine.transaction(connection):
        with pytest.raises(OperationalError) as caught, engine.transaction(rival):
            pytest.fail("it began")
        assert errors.is_outage(caught.value)
        assert errors.is_busy(caught.value)
        assert not errors.is_deadlock(caught.value)
    with engine.transaction(rival):
        _insert(rival, "later")
    engine.reset(rival)
    assert _names() == {"later"}


def test_a_dropped_idle_connection_begins_anew(connection: BaseDatabaseWrapper, tier: str) -> None:
    """A server that restarted between two transactions costs the second one nothing."""
    if tier == "sqlite":
        pytest.skip("there is no server")
    with engine.transaction(connection):
        _insert(connection, "one")
    _end_session(connection, tier)
    with engine.transaction(connection):
        _insert(connection, "two")
    assert _names() == {"one", "two"}


def test_a_connection_lost_in_a_transaction_is_an_outage(connection: BaseDatabaseWrapper, tier: str) -> None:
    """What was not committed is gone, the error says so, and the next transaction works."""
    if tier == "sqlite":
        pytest.skip("there is no server")

    def lose() -> None:
        with engine.transaction(connection):
            _insert(connection, "one")
            _end_session(connection, tier)
            _insert(connection, "two")

    with pytest.raises(DatabaseError) as caught:
        lose()
    assert errors.is_outage(caught.value)
    with engine.transaction(connection):
        _insert(connection, "three")
    assert _names() == {"three"}


def test_a_deadlock_is_recognised(connection: BaseDatabaseWrapper, rival: BaseDatabaseWrapper, tier: str) -> None:
    """Two transactions that wait for each other: the one that the database ends is told apart from an outage."""
    if tier == "sqlite":
        pytest.skip("there is one writer at a time")
    _insert(connection, "one")
    _insert(connection, "two")
    both_hold = threading.Barrier(2)
    caught: list[BaseException] = []

    def lock(own: BaseDatabaseWrapper, first: str, second: str) -> None:
        try:
            with engine.transaction(own):
                _lock(own, first)
                both_hold.wait(10)
                _lock(own, second)
        except OperationalError as exc:
            caught.append(exc)

    threads = [
        threading.Thread(target=lock, args=(connection, "one", "two")),
        threading.Thread(target=lock, args=(rival, "two", "one")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [errors.is_deadlock(exc) for exc in caught] == [True]


@pytest.mark.once
def test_other_errors_are_no_outage() -> None:
    """A refused row or a plain exception is not the database being away."""
    assert not errors.is_outage(IntegrityError("duplicate"))
    assert not errors.is_outage(ValueError("no"))
    assert not errors.is_deadlock(ValueError(1213))
