"""MariaDB, where it is asked for: a server of the benchmark's own, with full durability.

Tables are emptied, not made anew: that takes MariaDB seconds. Nothing is counted there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from types import MappingProxyType
from urllib.parse import urlsplit

from django.core.management import call_command
from django.db import connection, connections

from ..faults import servers
from .measure import cpu_seconds
from .places import COLUMNS, FOLDER, TABLE, Place, row


class _Server(servers.MariaDB):
    """What is committed is on the disk; memory for tables of a hundred thousand runs."""

    settings = MappingProxyType({"innodb-flush-log-at-trx-commit": 1, "innodb-buffer-pool-size": "1G"})

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


class MariaDB(Place):
    """The server, from `open` to `close`."""

    name = "mariadb"
    _server: _Server

    def open(self) -> None:
        tempfile.tempdir = FOLDER
        self._server = _Server()
        tempfile.tempdir = None
        server = urlsplit(self._server.url)
        self.settings = {
            "ENGINE": "django.db.backends.mysql", "NAME": servers.NAME, "USER": server.username,
            "HOST": server.hostname, "PORT": server.port, "OPTIONS": {"charset": "utf8mb4"},
        }  # fmt: skip
        self.connect_django()
        call_command("migrate", run_syncdb=True, verbosity=0)

    def close(self) -> None:
        connections["default"].close()
        self._server.remove()

    def fresh(self) -> None:
        call_command("flush", interactive=False, verbosity=0)
        connections["default"].close()

    def version(self) -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            return f"MariaDB {cursor.fetchone()[0]}"

    def cpu(self) -> float:
        return cpu_seconds(self._server.pid)

    @contextmanager
    def inserting(self) -> Iterator[Callable[[int], object]]:
        where = {"host": "127.0.0.1", "port": self._server.port, "user": self._server.login, "db": servers.NAME}
        driver = import_module("MySQLdb")
        with closing(driver.connect(autocommit=True, **where)) as bare:
            cursor = bare.cursor()
            cursor.execute("DROP TABLE IF EXISTS step")
            cursor.execute(TABLE.format(key="bigint AUTO_INCREMENT PRIMARY KEY", text="varchar(40)", json="json"))
            insert = f"INSERT INTO step ({COLUMNS}) VALUES (%s, %s, %s, %s, %s)"
            yield lambda number: cursor.execute(insert, row(number))
