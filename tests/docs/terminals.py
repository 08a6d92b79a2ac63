"""The terminals and the browser of somebody who follows the tutorial, and what they must show. Used by test_tutorial.

What differs from one machine to the next (ids, moments, durations, names of machines, the length of bars) is taken out
of both what is shown and what is expected; then every expected line must appear, in order.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

from ..waiting import wait_until

_VARIABLE = [
    (r"\n {11,}(?=\S)", " "),  # Where a sentence is wrapped depends on the names in it.
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d( UTC)?", "<moment>"),
    (r"\b(\d+(\.\d+)? (ms|s|min|h|d)\b ?)+|\b\d+\.\d+s$", "<time> "),
    (r"(?<=worker )\S+ \(pid \d+\)", "<name>"),
    (r"(?i)(?<=worker )\S+ \(pid \d+, ", "<name> ("),
    (r"(?i)(?<=worker )\S+:\d+", "<name>"),
    (r"(?<=127\.0\.0\.1:)\d+", "<port>"),
    (r"[█┄▒─▸]{2,}", ""),
    (r"(?<=[>\w]) *[█┄▒▸✗]+$", ""),
]


def lines(text: str) -> list[str]:
    """The lines of a text that are not empty, as they are compared."""
    for pattern, name in _VARIABLE:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def missing(expected: str, shown: str) -> str:
    """The first expected line that is not shown after the ones before it; `...` stands for any lines."""
    rest = iter(lines(shown))
    return next((line for line in lines(expected) if line != "..." and line not in rest), "")


class Terminal:
    """One terminal: commands run one after the other in one folder, the last perhaps until it is killed."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self._log = log
        self._seen = 0
        self._running: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTHON", "CANX_"))
            },
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "80",
        }

    def run(self, command: str) -> str:
        """Run a command to its end, and return what it showed. `cd` and `export` last, as they do in a shell."""
        if command.startswith("export "):
            name, _, value = shlex.split(command)[1].partition("=")
            self.environment[name] = value
            return ""
        where = self._log.with_suffix(".folder")
        done = subprocess.run(
            ["bash", "-c", f"{command}\nstatus=$?; pwd > {shlex.quote(str(where))}; exit $status"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        self.folder = Path(where.read_text().strip())
        return done.stdout

    def start(self, command: str) -> None:
        """Start a command that goes on."""
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(
                shlex.split(command),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def shows(self, expected: str, timeout: float = 60.0) -> None:
        """Wait until these lines have been shown since the last call."""
        try:
            wait_until(lambda: not missing(expected, self._new()), timeout)
        except AssertionError:
            raise AssertionError(f"{missing(expected, self._new())!r} is not shown in\n{self._new()}") from None
        self.look()

    def look(self) -> None:
        """See all that has been shown: what is waited for next comes after it."""
        self._seen = len(self.shown())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to everything that runs here."""
        assert self._running is not None
        os.killpg(self._running.pid, number)

    def end(self) -> int | None:
        """Wait for the end of what runs here."""
        return None if self._running is None else self._running.wait(60)

    def close(self) -> None:
        """Leave nothing behind, and print what was shown: pytest shows it where the test failed."""
        if self._running is not None and self._running.poll() is None:
            self.signal(signal.SIGKILL)
            self.end()
        print(f"--- the end of {self._log.name}:\n{self.shown()[-3000:]}")

    def shown(self) -> str:
        """All that has been shown here."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _new(self) -> str:
        return self.shown()[self._seen :]


@dataclass(frozen=True)
class Visit:
    """Where a form has led to, and what is shown there."""

    path: str
    text: str


class Browser:
    """Just enough of one: cookies, and forms with their CSRF token. A server that is starting anew is waited for."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        """What a path shows, errors too; nothing while the server is away."""
        return self._open(path).text

    def post(self, path: str, token: str = "", **fields: str) -> Visit:
        """Send a form; its token is taken from the page at `token`, or at the path itself."""
        asked = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
        found = wait_until(lambda: asked.search(self.get(token or path)), message=f"no form at {token or path}")
        return self._open(path, urlencode({**fields, "csrfmiddlewaretoken": found[1]}).encode())

    def _open(self, path: str, data: bytes | None = None) -> Visit:
        try:
            with self._opener.open(self._root + path, data, timeout=20) as answer:
                return Visit(answer.url.removeprefix(self._root), answer.read().decode())
        except HTTPError as error:
            return Visit(path, error.read().decode())
        except (URLError, ConnectionError):
            return Visit(path, "")


def commands(code: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, with what it is expected to show."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
