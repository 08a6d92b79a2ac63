"""Where a crash happens: on SQLite a database of its own, on a server that of its lane, emptied before each."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from django.core.management import call_command
from django.db import connections

from ..emptying import empty
from . import story


class Place:
    """A folder with the effects of the steps, and the database of these. Used in forked processes only.

    `lane`: which of those that crash side by side it is for; the first has the test database itself.
    """

    def __init__(self, folder: Path, lane: int = 0) -> None:
        self.folder = folder
        self._tested = str(connections.settings["default"]["NAME"])
        self.is_file = connections.settings["default"]["ENGINE"].endswith("sqlite3")
        self._name = f"{self._tested}_{lane}" if lane else self._tested
        if self.is_file:
            self._name = str(folder / "database")

    def use(self) -> None:
        """Have this process find it."""
        os.environ["EFFECTS_DIR"] = str(self.folder)
        connections.settings["default"]["NAME"] = self._name
        del connections["default"]

    def build(self) -> None:
        """Make the database of its lane."""
        self.demolish()
        creation = connections["default"].creation
        self._execute(f"CREATE DATABASE {self._quoted} {creation.sql_table_creation_suffix()}")
        if connections["default"].vendor == "postgresql":  # It is the worker that dies, not its server.
            self._execute(f"ALTER DATABASE {self._quoted} SET synchronous_commit = off")
        self.use()
        call_command("migrate", run_syncdb=True, verbosity=0)
        connections.close_all()

    def demolish(self) -> None:
        """Drop the database of its lane."""
        force = " WITH (FORCE)" if connections["default"].vendor == "postgresql" else ""
        self._execute(f"DROP DATABASE IF EXISTS {self._quoted}{force}")

    def make(self, kind: str) -> None:
        """Have the runs begin, and nothing else be there."""
        (self.folder / "log").unlink(missing_ok=True)
        if self.is_file:
            with (
                closing(sqlite3.connect(self._tested)) as source,
                closing(sqlite3.connect(self._name)) as copy,
            ):
                source.backup(copy)
        self.use()
        empty(connections["default"])
        story.begin(kind)
        connections.close_all()

    def copy(self, folder: Path) -> Place:
        """Make another like this, whose runs have not begun."""
        folder.mkdir()
        shutil.copy(self._name, folder / "database")
        return Place(folder)

    @property
    def _quoted(self) -> str:
        return connections["default"].ops.quote_name(self._name)

    def _execute(self, statement: str) -> None:
        """Execute this past the database whose lane it is."""
        with connections["default"]._nodb_cursor() as cursor:
            cursor.execute(statement)
