"""Where a crash happens: a database of its own on SQLite, else the one database, emptied before each."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from django.db import connections

from ..emptying import empty
from . import story


class Place:
    """A folder with the effects of the steps, and the database of these. Used in forked processes only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_file = connections.settings["default"]["ENGINE"].endswith("sqlite3")

    @property
    def _file(self) -> Path:
        return self.folder / "database"

    def use(self) -> None:
        """Have this process find it."""
        os.environ["EFFECTS_DIR"] = str(self.folder)
        if self.is_file:
            connections.settings["default"]["NAME"] = str(self._file)
            del connections["default"]

    def make(self, kind: str) -> None:
        """Make the database, of the one that is there, and start the runs in it."""
        (self.folder / "log").unlink(missing_ok=True)
        if self.is_file:
            with (
                closing(sqlite3.connect(connections.settings["default"]["NAME"])) as source,
                closing(sqlite3.connect(self._file)) as copy,
            ):
                source.backup(copy)
        self.use()
        empty(connections["default"])
        story.begin(kind)
        connections.close_all()

    def copy(self, folder: Path) -> Place:
        """Make another like this, whose runs have not begun."""
        folder.mkdir()
        shutil.copy(self._file, folder / "database")
        return Place(folder)
