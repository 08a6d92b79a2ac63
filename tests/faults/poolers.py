"""A PgBouncer of a test's own, before the database under test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from django.db import connections

from ..processes import database_url
from ..waiting import wait_until
from .servers import free_port

_USER = "postgres"  # It does not run as root.


class PgBouncer:
    """One with this pool mode and so many server sessions; everybody is let in as the tier's own user."""

    def __init__(self, mode: str, sessions: int = 20) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="canx_flow_pooler_"))
        settings = connections["default"].settings_dict
        server = {
            "host": settings["HOST"] or "127.0.0.1", "port": settings["PORT"] or 5432, "user": settings["USER"],
            "password": settings["PASSWORD"],
        }  # fmt: skip
        (self.folder / "ini").write_text(
            "[databases]\n"
            f"* = {' '.join(f'{name}={value}' for name, value in server.items() if value)}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = {sessions}\nignore_startup_parameters = extra_float_digits\n"
        )
        if os.geteuid() == 0:
            shutil.chown(self.folder, _USER)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.binary()), str(self.folder / "ini")], stdout=log, stderr=log, **_as_user()
            )
        wait_until(self._answers, message="PgBouncer does not answer")

    @staticmethod
    def binary() -> str | None:
        return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")

    @property
    def url(self) -> str:
        """The database under test, by way of this pooler."""
        given = urlsplit(database_url("default"))
        return given._replace(netloc=f"{given.username}@127.0.0.1:{self.port}").geturl()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=2):
            return True
        return False


def _as_user() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    found = pwd.getpwnam(_USER)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
