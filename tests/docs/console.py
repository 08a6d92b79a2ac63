"""The commands that pages tell people to type, and whether they could be typed.

Used by the tests of README and docs/. Nothing is run: the parsers of the commands are asked, and the Makefile.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError, SystemCheckError

ROOT = Path(__file__).resolve().parent.parent.parent

_BLOCK = re.compile(r"^ *```(?:console|shell|bash|sh)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^ *\$ (.+(?:\\\n.+)*)", re.MULTILINE)
_INNER = re.compile(r"\$\(([^()]+)\)")


@dataclass(frozen=True)
class Typed:
    """One command of a page, split into words."""

    page: str
    line: str

    @property
    def words(self) -> list[str]:
        line = _INNER.sub("RUN", self.line).replace("\\\n", " ").replace("--database ", "--database=")
        return shlex.split(line, comments=True)

    def problem(self) -> str:
        """Why it could not be typed; empty if it can, or if it is somebody else's command."""
        match self.words:
            case ["make", target, *_]:
                return "" if target in _targets() else f"the Makefile has no target {target!r}"
            case ["pip", "install", package] if package.startswith("canx-flow"):
                return _extra_problem(package)
            case ["python", "manage.py", name, *arguments]:
                return _command_problem(name, arguments)
        return ""


def typed(path: Path) -> Iterator[Typed]:
    """Every line that begins with a dollar in the page's console blocks, and what stands in it as `$(…)`."""
    for block in _BLOCK.findall(path.read_text(encoding="utf-8")):
        for line in _LINE.findall(block):
            for command in (line, *_INNER.findall(line)):
                yield Typed(str(path.relative_to(ROOT)), command)


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _extra_problem(package: str) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = re.findall(r"[a-z]+", package.removeprefix(project["name"]))
    missing = [extra for extra in asked if extra not in project["optional-dependencies"]]
    return f"no extra {missing}" if missing else ""


def _command_problem(name: str, arguments: list[str]) -> str:
    app = get_commands().get(name)
    if app is None:
        return f"there is no command {name!r}"
    command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
    parser = command.create_parser("manage.py", name)
    parser.called_from_command_line = False  # Then wrong arguments raise, and do not exit.
    try:
        # The aliases that a page imagines are not this project's.
        parser.parse_args([word for word in _until_shell(arguments) if not word.startswith("--database=")])
    except (CommandError, SystemCheckError) as error:
        return str(error)
    return ""


def _until_shell(arguments: list[str]) -> list[str]:
    """The words before a pipe, a redirection or an ampersand."""
    signs = [i for i, word in enumerate(arguments) if re.fullmatch(r"\||&&?|[0-9]?>.*|;", word)]
    return arguments[: signs[0]] if signs else arguments
