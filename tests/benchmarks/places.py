"""The databases that are measured, each beside its own limit: one INSERT and commit per row through the bare driver.

A place gives empty tables on demand, and counts exactly what was sent to it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.core.management import call_command
from django.db import connections

from ..faults.servers import PostgreSQL
from ..waiting import wait_until
from .measure import cpu_seconds_with_children
from .workflows import noop

#: Not the folder for temporary files, which may be in memory: a flush there is none.
FOLDER = os.environ.get("BENCH_FOLDER", "/var/tmp")
COLUMNS = "run_id, number, name, result, created"
_BESIDE = 0.5  # seconds
TABLE = """CREATE TABLE step (id {key}, run_id {text} NOT NULL, number int NOT NULL, name text NOT NULL,
    result {json} NOT NULL, created double precision NOT NULL, UNIQUE (run_id, number))"""


class Place:
    """A database of the benchmark's own, under the alias `default` of this process and of the workers it starts."""

    name = ""
    #: Whether what it has committed outlives a power failure.
    durable = True
    #: Whether only a trace in the worker can tell what is sent.
    traced = False
    #: An entry of DATABASES.
    settings: dict[str, Any]

    def open(self) -> None:
        """Make it, with the tables that `fresh` will copy."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave nothing of it behind."""
        raise NotImplementedError

    def fresh(self) -> None:
        """Empty tables, as after `migrate`."""
        raise NotImplementedError

    def peer_url(self) -> str:
        """An empty database for somebody else's tables, at the same place."""
        raise NotImplementedError

    def inserting(self) -> AbstractContextManager[Callable[[int], object]]:
        """One durable row by the bare driver: what `raw` repeats."""
        raise NotImplementedError

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def settle(self) -> None:
        """Wait until nobody but this process is connected, and what was counted is told."""

    def counters(self) -> dict[str, int]:
        """Statements, BEGIN and the like, commits, flushes since the tables were made; empty: not counted here."""
        return {}

    def selects(self, table: str) -> int:
        """How many SELECTs have read this table, where statements are counted."""
        return 0

    def pages(self) -> int:
        """How many pages statements have read, from memory or from disk, where that is counted."""
        return 0

    def written(self) -> dict[str, int]:
        """Bytes in tables and indexes, and bytes written ahead so far; right after a checkpoint at the first call."""
        raise NotImplementedError

    def connections(self) -> int:
        """How many sessions the database has now, where that can be asked."""
        return 0

    def cpu(self) -> float:
        """CPU seconds of the database's processes so far; 0 where it has none."""
        return 0.0

    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {"DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings", "BENCH_DATABASE": json.dumps(self.settings)}

    def connect_django(self, **changed: Any) -> None:
        """Let Django in this process use it."""
        connections["default"].close()
        connections.settings["default"] = connections.configure_settings({"default": {**self.settings, **changed}})[
            "default"
        ]
        del connections["default"]

    def raw(self, seconds: float = 1.0) -> float:
        """Rows per second of INSERT and commit, one after another."""
        with self.inserting() as insert:
            rows = 0
            began = time.perf_counter()
            while (passed := time.perf_counter() - began) < seconds:
                insert(rows)
                rows += 1
        return rows / passed

    @contextmanager
    def beside(self) -> Iterator[list[float]]:
        """`raw` right before and right after a block: the speed of a machine swings. Its mean is the block's limit."""
        found = [self.raw(_BESIDE)]
        yield found
        found[:] = [(found[0] + self.raw(_BESIDE)) / 2]


def row(number: int) -> tuple[Any, ...]:
    return str(number // 10), number % 10, "noop", json.dumps(noop(number)), time.time()


class SQLite(Place):
    """A file in WAL mode, set up as the README says; `synchronous` NORMAL only where the name says so."""

    traced = True

    def __init__(self, synchronous: str) -> None:
        self.name = f"sqlite-{synchronous.lower()}"
        self.synchronous = synchronous
        self.durable = synchronous == "FULL"

    def open(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="canx_flow_bench_", dir=FOLDER))
        self._raw = self._folder / "raw.sqlite3"
        pragmas = f"PRAGMA journal_mode=WAL; PRAGMA synchronous={self.synchronous}"
        self.settings = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(self._folder / "bench.sqlite3"),
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": pragmas},
        }
        self._template = self._folder / "template.sqlite3"
        self.connect_django(NAME=str(self._template))
        call_command("migrate", run_syncdb=True, verbosity=0)
        self.connect_django()

    def close(self) -> None:
        connections["default"].close()
        shutil.rmtree(self._folder)

    def fresh(self) -> None:
        connections["default"].close()
        for file in self._folder.glob("bench.sqlite3*"):
            file.unlink()
        shutil.copyfile(self._template, self.settings["NAME"])

    def peer_url(self) -> str:
        for file in self._folder.glob("peer.sqlite3*"):
            file.unlink()
        return f"sqlite:///{self._folder / 'peer.sqlite3'}"

    @contextmanager
    def inserting(self) -> Iterator[Callable[[int], object]]:
        for file in self._folder.glob("raw.sqlite3*"):
            file.unlink()
        with closing(sqlite3.connect(self._raw, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self.synchronous}")
            connection.execute(TABLE.format(key="INTEGER PRIMARY KEY", text="text", json="text"))
            insert = f"INSERT INTO step ({COLUMNS}) VALUES (?, ?, ?, ?, ?)"
            yield lambda number: connection.execute(insert, row(number))


class Cluster(PostgreSQL):
    """A PostgreSQL server with its defaults, so with full durability, the extension that counts, and room for W17."""

    def command(self) -> list[str]:
        settings = ("fsync=on", "shared_preload_libraries=pg_stat_statements", "max_connections=300")
        return [*super().command(), *(part for setting in settings for part in ("-c", setting))]

    def _as_user(self) -> dict[str, object]:
        # Ctrl-C is for the benchmark alone: it puts the server away itself.
        return {**super()._as_user(), "start_new_session": True}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


class Postgres(Place):
    """A cluster of the benchmark's own, so that nobody else's work is counted; or the server at `url`."""

    name = "postgresql"

    def __init__(self, url: str | None = None) -> None:
        self._url = url
        self._cluster: Cluster | None = None

    def open(self) -> None:
        if self._url is None:
            tempfile.tempdir = FOLDER
            self._cluster = Cluster()
            tempfile.tempdir = None
            self._url = self._cluster.url
        self._admin = self._open("postgres")
        self._admin.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        server = urlsplit(self._url)
        self.settings = {
            "ENGINE": "django.db.backends.postgresql", "NAME": "canx_flow_bench", "USER": server.username,
            "PASSWORD": server.password or "", "HOST": server.hostname, "PORT": server.port or 5432,
        }  # fmt: skip
        self._make("canx_flow_bench_template")
        self.connect_django(NAME="canx_flow_bench_template")
        call_command("migrate", run_syncdb=True, verbosity=0)
        self.connect_django()

    def close(self) -> None:
        connections["default"].close()
        for name in ("canx_flow_bench", "canx_flow_bench_raw", "canx_flow_bench_template"):
            self._drop(name)
        self._admin.close()
        if self._cluster is not None:
            self._cluster.remove()

    def fresh(self) -> None:
        connections["default"].close()
        self._drop(self.settings["NAME"])
        self._admin.execute(f"CREATE DATABASE {self.settings['NAME']} TEMPLATE canx_flow_bench_template")
        self._admin.execute("CHECKPOINT")

    def peer_url(self) -> str:
        connections["default"].close()
        self._make(self.settings["NAME"])
        return self._url_of(self.settings["NAME"])

    @contextmanager
    def inserting(self) -> Iterator[Callable[[int], object]]:
        self._make("canx_flow_bench_raw")
        with self._open("canx_flow_bench_raw") as connection:
            connection.execute(TABLE.format(key="bigserial PRIMARY KEY", text="text", json="jsonb"))
            insert = f"INSERT INTO step ({COLUMNS}) VALUES (%s, %s, %s, %s, %s)"
            yield lambda number: connection.execute(insert, row(number))

    def settle(self) -> None:
        connections["default"].close()
        wait_until(lambda: not self.connections(), message="somebody is still connected")

    def connections(self) -> int:
        # An autovacuum worker is in a database, too, and nobody's session.
        found = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
        return int(self._ask(found, self.settings["NAME"])[0])

    def version(self) -> str:
        return f"PostgreSQL {self._ask('SHOW server_version')[0]}"

    def counters(self) -> dict[str, int]:
        name = self.settings["NAME"]
        commits, flushes = self._ask(
            "SELECT d.xact_commit, w.wal_sync FROM pg_stat_database d, pg_stat_wal w WHERE datname = %s", name
        )
        statements, transactions = self._ask(
            """SELECT coalesce(sum(calls) FILTER (WHERE NOT framing), 0), coalesce(sum(calls) FILTER (WHERE framing), 0)
            FROM (SELECT calls, query ~* '^\\s*(BEGIN|COMMIT|ROLLBACK|START TRANSACTION|SAVEPOINT|RELEASE)' AS framing
                FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE toplevel AND datname = %s) s""",
            name,
        )
        return {
            "statements": int(statements), "begin_commit": int(transactions), "commits": commits, "flushes": flushes,
        }  # fmt: skip

    def selects(self, table: str) -> int:
        found = """SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
            WHERE datname = %s AND query ILIKE 'SELECT%%' AND strpos(query, %s) > 0"""
        return int(self._ask(found, self.settings["NAME"], table)[0])

    def pages(self) -> int:
        found = """SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)
            FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE toplevel AND datname = %s"""
        return int(self._ask(found, self.settings["NAME"])[0])

    def written(self) -> dict[str, int]:
        self._admin.execute("CHECKPOINT")
        (ahead,) = self._ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        with self._open(self.settings["NAME"]) as connection:
            found = connection.execute(
                """SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
                JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"""
            ).fetchone()
        assert found is not None
        return {"bytes": found[0], "wal_bytes": ahead}

    def cpu(self) -> float:
        return cpu_seconds_with_children(self._cluster.pid) if self._cluster else 0.0

    def _url_of(self, name: str) -> str:
        assert self._url is not None
        return urlsplit(self._url)._replace(scheme="postgresql", path=f"/{name}").geturl()

    def _open(self, name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url_of(name), autocommit=True)

    def _ask(self, query: str, *parameters: Any) -> tuple[Any, ...]:
        found = self._admin.execute(query, parameters).fetchone()
        assert found is not None
        return found

    def _make(self, name: str) -> None:
        self._drop(name)
        self._admin.execute(f"CREATE DATABASE {name}")

    def _drop(self, name: str) -> None:
        self._admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
