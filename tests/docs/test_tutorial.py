"""The tutorial is true: its files are made, its commands are typed, and what they show is what it shows."""

from __future__ import annotations

import re
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ..waiting import wait_until
from .pages import Block, page
from .terminals import Browser, Terminal, commands, free_port, missing

pytestmark = pytest.mark.once

#: The package under test is installed already: it is not what is on PyPI.
NOT_TYPED = {
    "python3 -m venv .venv",
    "source .venv/bin/activate",
    "source ../.venv/bin/activate",
    "pip install canx-flow",
}
#: A reader has time to look; a test has not. A trial lasts until the test wakes it, on a machine however slow.
PACE = {"time.sleep(5)": "time.sleep(0.5)", "time.sleep(10)": "time.sleep(5)", "seconds=20": "seconds=2000"}
#: Beats every second, so that what a worker is at is known soon.
SETTINGS = '\nCANX_FLOW = {"LEASE_SECONDS": 12}\n'
FILE = re.compile(r"(?:#|\{#) (?P<path>[\w./-]+\.(?:py|html))(?P<end>, at the end)?")


class Reader:
    """Somebody who does what the page says, block by block."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.first = Terminal(folder, folder / "first.log")
        self.terminals = {name: Terminal(folder, folder / f"{name}.log") for name in ("worker", "web")}
        #: What the page's comments to the test may use.
        self._names = {
            "browser": Browser(self.port),
            "flow": self._flow,
            "restart_web": self._restart_web,
            "wait_until": wait_until,
            "wake_newest": self._wake_newest,
            "worker_said": self._worker_said,
        }

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        if block.language == "test":
            exec(compile("\n" * (block.line - 1) + block.code, "tutorial.md", "exec"), self._names)
        elif "terminal" in block.before:
            self._watch(block)
        elif block.language == "console":
            self._type(block)
        else:
            self._write(block)

    def close(self) -> None:
        for terminal in (self.first, *self.terminals.values()):
            terminal.close()

    def _type(self, block: Block) -> None:
        for command, expected in commands(block.code):
            if killed := re.fullmatch(r"kill -9 (\d+)", command):
                self._kill_worker(killed[1])
            elif command not in NOT_TYPED:
                shown = self.first.run(command)
                assert not missing(expected, shown), f"{missing(expected, shown)!r} is not shown by {command}\n{shown}"

    def _kill_worker(self, number: str) -> None:
        """A reader puts in the number that the worker showed; the page puts in that of its own worker."""
        assert f"runflowworker\ncanx_flow 0.1.0 worker laptop (pid {number})" in page("tutorial").text
        worker = self.terminals["worker"]
        own = re.findall(r"\(pid (\d+)\)", worker.shown())[-1]
        self.first.run(f"kill -9 {own}")
        assert worker.end(), "nothing of it is left running"

    def _watch(self, block: Block) -> None:
        terminal = self.terminals[block.before["terminal"]]
        if block.language != "console":
            terminal.shows(block.code)
        for command, expected in commands(block.code) if block.language == "console" else ():
            if command not in NOT_TYPED:
                terminal.folder = self.first.folder
                # Django's reloader misses what changes while it starts; a reader is not that quick, a test is.
                web = f"{command} {self.port} --noreload"
                terminal.start(web if command.endswith("runserver") else command)
                terminal.shows(expected)

    def _write(self, block: Block) -> None:
        named = FILE.match(block.code)
        assert named is not None, f"line {block.line} names no file"
        code = block.code
        for shown, done in PACE.items():
            code = code.replace(shown, done)
        if named["path"].endswith("settings.py"):
            code += SETTINGS
        for terminal in self.terminals.values():
            terminal.look()
        with (self.first.folder / named["path"]).open("a" if named["end"] else "w") as file:
            file.write(f"\n{code}" if named["end"] else code)

    def _restart_web(self) -> None:
        web = self.terminals["web"]
        web.signal(signal.SIGKILL)
        web.end()
        web.start(f"python manage.py runserver {self.port} --noreload")

    def _flow(self, arguments: str) -> str:
        return self.first.run(f"python manage.py flow {arguments}")

    def _wake_newest(self) -> None:
        self._flow(f"wake {self._flow('list --ids --limit 1')}")

    def _worker_said(self) -> str:
        """What the newest worker was at when it last beat."""
        with closing(sqlite3.connect(self.first.folder / "db.sqlite3")) as database:
            query = "SELECT activity FROM canx_flow_worker ORDER BY started_at DESC LIMIT 1"
            activity: str = database.execute(query).fetchone()[0]
            return activity


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A reader in an empty folder, whose processes are ended."""
    reader = Reader(tmp_path)
    yield reader
    reader.close()


def test_the_tutorial_can_be_followed(reader: Reader) -> None:
    """From an empty folder to a tested workflow, with a killed worker on the way."""
    for block in page("tutorial").blocks:
        reader.follow(block)

    reader.terminals["worker"].signal(signal.SIGINT)
    assert reader.terminals["worker"].end() == 0, "Ctrl-C ends the worker"


def test_everything_of_the_tutorial_is_used() -> None:
    """What the test leaves out or changes is in the page, and it needs no more than the package and Python."""
    text = page("tutorial").text
    assert all(command in text for command in NOT_TYPED)
    assert all(shown in text for shown in PACE)
    assert f"Python {'.'.join(map(str, min_python()))}" in text


def min_python() -> tuple[int, ...]:
    """The oldest Python that the package takes."""
    pyproject = Path(__file__).resolve().parent.parent.parent / "pyproject.toml"
    found = re.search(r'requires-python = ">=(\d+)\.(\d+)"', pyproject.read_text())
    assert found is not None
    assert sys.version_info >= (int(found[1]), int(found[2]))
    return int(found[1]), int(found[2])
