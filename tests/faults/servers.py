"""Database servers of the fault tests' own, to be stopped, killed and frozen. And a wire that can be cut.

Used through the fixtures of tests/faults/conftest.py.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from ..waiting import wait_until

NAME = "own"


def free_port() -> int:
    """A port that nobody uses now, and not one of those that the system gives to clients.

    Not by `random`'s own numbers: test processes that run side by side are seeded alike.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as asking, suppress(OSError):
            asking.bind(("127.0.0.1", port))
            return port


class Server:
    """A server process with a data folder of its own. Made and started by a subclass."""

    #: Whose process it is, where root may not be: no such user, no such tier.
    user = ""
    scheme = ""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="canx_flow_server_"))
        if os.geteuid() == 0:
            shutil.chown(self.folder, self.user)
        self._process: subprocess.Popen[bytes] | None = None
        #: For those who use it one after another.
        self.has_tables = False
        self.install()
        self.start()
        self.create_database()

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Its URL for those who reach it at another port."""
        return f"{self.scheme}://{self.login}@127.0.0.1:{port}/{NAME}"

    login = ""
    #: More of its settings.
    settings: Mapping[str, object] = MappingProxyType({})

    def install(self) -> None:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def create_database(self) -> None:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Start it, again perhaps, and wait until it answers. A frozen one is let go, a running one left alone."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            return
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log, **self._as_user())
        wait_until(self.answers, 60, message="the server does not answer")

    def stop(self, number: signal.Signals) -> None:
        """End it by this signal."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(60)

    def shut_down(self) -> None:
        """End it in good order; clients are cut off."""
        raise NotImplementedError

    def crash(self) -> None:
        """End it as a power failure would."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Let every one of its processes stand still: clients get no answer, and no error."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """Leave nothing of it behind."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **self._as_user())

    def _as_user(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {}
        found = pwd.getpwnam(self.user)
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        for pid in (self._process.pid, *children(self._process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def children(parent: int) -> list[int]:
    """The processes that this one has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


class PostgreSQL(Server):
    user = "postgres"
    scheme = "postgres"
    login = "postgres"

    @staticmethod
    def binary(name: str) -> str | None:
        """The newest one installed; most are not in PATH."""
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
        return str(found[-1]) if found else shutil.which(name)

    @classmethod
    def missing(cls) -> bool:
        return cls.binary("initdb") is None or cls.binary("postgres") is None

    def install(self) -> None:
        options = ["--auth", "trust", "--username", self.login, "--encoding", "UTF8", "--no-sync"]
        done = self.run(str(self.binary("initdb")), "--pgdata", str(self.folder / "data"), *options)
        assert done.returncode == 0, done.stderr

    def command(self) -> list[str]:
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder, "fsync": "off",
            **self.settings,
        }  # fmt: skip
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [str(self.binary("postgres")), "-D", str(self.folder / "data"), *settings]

    def create_database(self) -> None:
        done = self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", self.login, NAME)
        assert done.returncode == 0, done.stderr

    def answers(self) -> bool:
        return self.run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port)).returncode == 0

    def shut_down(self) -> None:
        self.stop(signal.SIGINT)  # "fast": sessions are ended, transactions rolled back.

    def crash(self) -> None:
        self.stop(signal.SIGQUIT)  # "immediate": it recovers at its next start.


class MariaDB(Server):
    user = "mysql"
    scheme = "mysql"
    login = "root"

    @staticmethod
    def binary(name: str) -> str | None:
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")

    @classmethod
    def missing(cls) -> bool:
        return cls.binary("mariadb-install-db") is None or cls.binary("mariadbd") is None

    def install(self) -> None:
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        data = f"--datadir={self.folder / 'data'}"
        done = self.run(str(self.binary("mariadb-install-db")), "--no-defaults", data, *options)
        assert done.returncode == 0, done.stderr

    def command(self) -> list[str]:
        return [
            str(self.binary("mariadbd")), "--no-defaults", f"--datadir={self.folder / 'data'}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}",
            "--innodb-flush-log-at-trx-commit=2", *(f"--{name}={value}" for name, value in self.settings.items()),
        ]  # fmt: skip

    def create_database(self) -> None:
        done = self._admin("mariadb", "-e", f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4")
        assert done.returncode == 0, done.stderr

    def answers(self) -> bool:
        return self._admin("mariadb-admin", "ping").returncode == 0

    def shut_down(self) -> None:
        self.stop(signal.SIGTERM)

    def crash(self) -> None:
        self.stop(signal.SIGKILL)

    def _admin(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        where = ["-h", "127.0.0.1", "-P", str(self.port), "-u", self.login, "--connect-timeout=2"]
        return self.run(program, "--no-defaults", *where, *arguments)


SERVERS: dict[str, type[PostgreSQL | MariaDB]] = {"postgresql": PostgreSQL, "mysql": MariaDB}


class Wire:
    """A relay before a server's port. It can swallow one answer and hang up: what was done, the client cannot know.

    And it can stand still: it takes what is sent, so TCP is fine, and passes nothing on any more.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self._pattern: bytes | None = None
        #: Set when an answer has been swallowed.
        self.cut = threading.Event()
        self._open: list[socket.socket] = []
        self._relays: list[_Relay] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, statement: bytes) -> None:
        """Swallow the answer to what the next client sends right after a message with this text in it.

        PostgreSQL: the text comes with the preparation, and the next message executes it. MariaDB: the next message
        after a transaction's last statement is its COMMIT.
        """
        self._pattern = statement

    def stand_still(self, seen: bytes = b"") -> int:
        """Let those connections stand still on which this text was sent; returns how many. New ones work."""
        found = [relay for relay in self._relays if relay.going.is_set() and seen in relay.sent]
        for relay in found:
            relay.going.clear()
        return len(found)

    def close(self) -> None:
        for each in (self._door, *self._open):
            _hang_up(each)
        for relay in self._relays:
            relay.going.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._door.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._open += [client, server]
            self._relays.append(_Relay(self, client, server))
            self._relays[-1].start()

    def matches(self, data: bytes) -> bool:
        pattern = self._pattern
        if pattern is None or pattern not in data:
            return False
        self._pattern = None
        return True


class _Relay:
    """One connection through a wire."""

    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self._wire = wire
        self._client = client
        self._server = server
        self._matched = False
        self._swallow = False
        #: What the client has sent so far, and whether it is passed on.
        self.sent = b""
        self.going = threading.Event()
        self.going.set()

    def start(self) -> None:
        threading.Thread(target=self._upwards, daemon=True).start()
        threading.Thread(target=self._downwards, daemon=True).start()

    def _upwards(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(1 << 20):
                self.sent += data
                self.going.wait()
                self._swallow = self._matched
                self._matched = self._matched or self._wire.matches(data)
                self._server.sendall(data)
        self._end()

    def _downwards(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(1 << 20):
                self.going.wait()
                if self._swallow:
                    self._wire.cut.set()
                    break
                self._client.sendall(data)
        self._end()

    def _end(self) -> None:
        _hang_up(self._client)
        _hang_up(self._server)


def _hang_up(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
