"""The checks of the engine's database and of its connection pool."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connections
from django.db.backends.postgresql import psycopg_any
from pytest_django import DjangoDbBlocker, Settings

from canx_flow.checks import databases
from canx_flow.store.db import pool
from canx_flow.worker.options import Options

from .conftest import Alias

once = pytest.mark.once
IN_ORDER = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}


def _found(**asked: Any) -> list[CheckMessage]:
    """What there is to say, by checks that may connect to the databases that are named."""
    own = [message for message in run_checks(**asked or {"tags": ["canx_flow"]}) if message.id is not None]
    return [message for message in own if message.id.startswith("canx_flow.")]


def _ids(**asked: Any) -> list[str | None]:
    return [message.id for message in _found(**asked)]


def _pasted(hint: str | None) -> dict[str, Any]:
    """The options that a settings file has once the hint's line stands in it."""
    assert hint is not None
    line = hint.partition("settings: ")[2]
    assert line.startswith("DATABASES[")
    names: dict[str, Any] = {"DATABASES": {"default": {}}}
    exec(line, names)
    options: dict[str, Any] = names["DATABASES"]["default"]["OPTIONS"]
    return options


@pytest.mark.django_db
def test_the_databases_under_test_pass() -> None:
    """SQLite with WAL and IMMEDIATE, this PostgreSQL and this MariaDB have nothing to report, asked or not."""
    assert _ids(databases=["default"]) == []
    assert _ids() == []


# -- SQLite ----------------------------------------------------------------------------------------


@once
def test_sqlite_without_immediate_is_reported_from_the_settings(judged: Alias) -> None:
    """Django's own SQLite settings get a warning whose hint, pasted into the settings, ends it."""
    judged("sqlite3")
    (message,) = _found()
    assert (message.id, message.level) == ("canx_flow.W001", 30)
    assert _pasted(message.hint) == IN_ORDER
    judged("sqlite3", OPTIONS=_pasted(message.hint))
    assert _found() == []


@once
def test_the_hint_keeps_the_options_that_are_there(judged: Alias) -> None:
    """Options and commands that the project has stay in the line that it is given."""
    judged("sqlite3", OPTIONS={"timeout": 9, "init_command": "PRAGMA synchronous=NORMAL;"})
    (message,) = _found()
    commands = "PRAGMA synchronous=NORMAL; PRAGMA journal_mode=WAL"
    assert _pasted(message.hint) == {"timeout": 9, "transaction_mode": "IMMEDIATE", "init_command": commands}


@once
@pytest.mark.parametrize("mode", ["IMMEDIATE", "immediate", "EXCLUSIVE"])
def test_every_mode_that_locks_at_the_beginning_will_do(judged: Alias, mode: str) -> None:
    """IMMEDIATE in any spelling, and EXCLUSIVE, take the write lock when a transaction begins."""
    judged("sqlite3", OPTIONS={"transaction_mode": mode})
    assert _ids() == []


@once
def test_sqlite_without_wal_is_reported_once_asked(
    judged: Alias, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> None:
    """The journal's mode is the file's: only `check --database` looks, and warns with the same line to paste."""
    judged("sqlite3", NAME=tmp_path / "db.sqlite3", OPTIONS={"transaction_mode": "IMMEDIATE"})
    assert _ids() == []
    with django_db_blocker.unblock():
        assert _ids(databases=["other"]) == []
        (message,) = _found(databases=["default"])
        assert message.id == "canx_flow.W002"
        judged("sqlite3", NAME=tmp_path / "db.sqlite3", OPTIONS=_pasted(message.hint))
        assert _ids(databases=["default"]) == []


@once
def test_wal_that_the_file_has_already_will_do(
    judged: Alias, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> None:
    """A file that was put into WAL mode by hand stays in it, whatever the settings say."""
    with closing(sqlite3.connect(tmp_path / "db.sqlite3")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    judged("sqlite3", NAME=tmp_path / "db.sqlite3", OPTIONS={"transaction_mode": "IMMEDIATE"})
    with django_db_blocker.unblock():
        assert _ids(databases=["default"]) == []


@once
@pytest.mark.parametrize("name", [":memory:", "file:memory?mode=memory&cache=shared"])
def test_a_database_in_memory_is_no_matter(judged: Alias, name: str, django_db_blocker: DjangoDbBlocker) -> None:
    """Tests often have one: no second process can work in it, so nobody waits for a lock."""
    judged("sqlite3", NAME=name)
    with django_db_blocker.unblock():
        assert _ids(databases=["default"]) == []


@pytest.mark.parametrize(
    ("engine", "zone", "ids"),
    [
        ("sqlite3", "Europe/Berlin", ["canx_flow.E014"]),
        ("mysql", "America/New_York", ["canx_flow.E014"]),
        ("mysql", "Asia/Tokyo", []),
        ("sqlite3", None, []),
        ("postgresql", "Europe/Berlin", []),
    ],
)
def test_local_times_that_occur_twice_are_an_error(
    judged: Alias, tier: str, engine: str, zone: str | None, ids: list[str]
) -> None:
    """A database that stores moments without their zone must not store those of a zone with summer time."""
    if engine.removesuffix("3") != tier:
        pytest.skip("shown with the database itself: its driver need not be installed elsewhere")
    judged(engine, TIME_ZONE=zone, **({"OPTIONS": IN_ORDER} if engine == "sqlite3" else {}))
    assert _ids() == ids


@once
def test_autocommit_switched_off_is_an_error(judged: Alias) -> None:
    """Nothing that a step writes would be committed, and an atomic step could not commit."""
    judged("sqlite3", OPTIONS=IN_ORDER, AUTOCOMMIT=False)
    assert _ids() == ["canx_flow.E015"]


# -- servers ---------------------------------------------------------------------------------------


@once
def test_a_plain_check_never_connects(judged: Alias) -> None:
    """Nothing of ours asks a database that was not named, be it away or not."""
    judged("postgresql", HOST="127.0.0.1", PORT="1")
    assert _ids() == []
    assert connections["default"].connection is None


@once
def test_another_kind_of_database_is_an_error(judged: Alias, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements are written for four databases: any other is named with its ENGINE."""
    judged("sqlite3")
    monkeypatch.setattr(connections["default"], "vendor", "oracle")
    (message,) = _found()
    assert (message.id, message.level) == ("canx_flow.E009", 40)
    assert "'django.db.backends.sqlite3'" in message.msg


@once
def test_a_project_without_a_database_is_left_alone(judged: Alias) -> None:
    """Django says itself that there is none, as soon as somebody needs one."""
    judged("dummy")
    assert _ids() == []


@once
def test_psycopg2_is_an_error(judged: Alias, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine speaks through psycopg 3; Django would still take its predecessor."""
    judged("postgresql")
    import_module("django.db.backends.postgresql.base")  # Which would now look for psycopg2 itself.
    monkeypatch.setattr(psycopg_any, "is_psycopg3", False)
    assert _ids() == ["canx_flow.E010"]


@pytest.mark.django_db
def test_a_server_without_skip_locked_is_an_error(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MariaDB before 10.6 and MySQL before 8.0.1: the message names the version that was found."""
    if tier != "mysql":
        pytest.skip("only MariaDB and MySQL have versions without it")
    connection = connections["default"]
    monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", False)
    assert _ids() == []
    (message,) = _found(databases=["default"])
    assert message.id == "canx_flow.E011"
    assert ".".join(map(str, connection.get_database_version())) in message.msg


# -- the pool --------------------------------------------------------------------------------------


@once
@pytest.mark.parametrize(
    ("given", "size"),
    [(True, 4), ({"min_size": 5}, 5), ({"max_size": 15}, 15), ({"min_size": 1, "max_size": 10}, 10)],
)
def test_a_small_pool_is_reported(judged: Alias, given: Any, size: int) -> None:
    """A pool that a default worker's slots can empty gets a warning, with both numbers."""
    judged("postgresql", OPTIONS={"pool": given}, CONN_MAX_AGE=0)
    (message,) = _found()
    assert (message.id, message.level) == ("canx_flow.W005", 30)
    assert f" {size} connections" in message.msg
    assert "needs 16" in message.msg


@once
@pytest.mark.parametrize("options", [{}, {"pool": False}, {"pool": {"max_size": 16}}, {"pool": {"min_size": 20}}])
def test_a_large_pool_or_none_is_no_matter(judged: Alias, options: dict[str, Any]) -> None:
    """One connection per slot is enough for plain steps."""
    judged("postgresql", OPTIONS=options, CONN_MAX_AGE=0)
    assert _ids() == []


@once
@pytest.mark.parametrize("age", [60, None])
def test_a_pool_with_persistent_connections_is_an_error(judged: Alias, age: int | None) -> None:
    """Django would refuse to connect with both."""
    judged("postgresql", OPTIONS={"pool": {"max_size": 40}}, CONN_MAX_AGE=age)
    assert _ids() == ["canx_flow.E013"]


@once
def test_the_default_concurrency_is_the_command_s() -> None:
    """The check speaks of the worker that runs when nothing is said."""
    assert Options().concurrency == databases.DEFAULT_CONCURRENCY


@once
def test_a_pool_is_measured_against_a_worker_s_own_concurrency(judged: Alias) -> None:
    """What is too small for sixteen slots may do for three."""
    judged("postgresql", OPTIONS={"pool": True}, CONN_MAX_AGE=0)
    assert pool.shortage("default", 4) == ""
    assert "--concurrency 5 needs 5" in pool.shortage("default", 5)


@once
def test_wrong_settings_are_reported_once(settings: Settings) -> None:
    """While CANX_FLOW itself is wrong, nothing is said of a database that it does not name."""
    settings.CANX_FLOW = {"DATABASE": "nowhere"}
    assert _ids() == ["canx_flow.E006"]
