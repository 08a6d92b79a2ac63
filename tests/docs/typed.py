"""The code of the pages and of the README as type checkers see it: each page a project of its own, in a folder.

What a page says to its tests stands there too, because later blocks may use its names; but nothing that a checker says
of those lines counts. Every line knows where it comes from, so that a checker's answer names the page.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .pages import DOCS, Block, Page, every_page

HERE = Path(__file__).resolve().parent
README = Page(DOCS.parent / "README.md")
#: The module of what a page shows outside its project's files, as if typed into one long session.
SESSION = "session.py"
_REPLACED = re.compile(r"#.*\.py(?P<end>, at the end)?")


@dataclass(frozen=True)
class Line:
    """Where one line comes from."""

    page: str
    number: int
    #: Readers see it.
    shown: bool


@dataclass
class Module:
    """One file of a page's project: its text, line by line, and where each line comes from."""

    text: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def add(self, page: Page, block: Block) -> None:
        """Add a block at the end."""
        where = os.path.relpath(page.path, DOCS.parent)
        for number, line in enumerate(block.code.splitlines(), start=block.line):
            if block.language != "pycon":
                self._append(line, Line(where, number, shown=block.language == "python"))
            elif line.startswith((">>> ", "... ")):
                self._append(line[4:], Line(where, number, shown=True))
        self._append("", Line(where, block.line, shown=False))

    def _append(self, text: str, line: Line) -> None:
        self.text.append(text)
        self.lines.append(line)

    def __str__(self) -> str:
        return "\n".join(self.text)


Modules = dict[str, Module]


def modules(page: Page) -> Modules:
    """The files that a page makes, by path."""
    found: Modules = {}
    for block in page.blocks:
        if block.is_run and (path := block.path or SESSION):
            if path in found and _replaces(page, block):
                found[_spare(path, found)] = found.pop(path)
            found.setdefault(path, Module()).add(page, block)
    if SESSION in found and not any(line.shown for line in found[SESSION].lines):
        del found[SESSION]
    for module in found.values():
        module.text = _renamed(module.text)
    return found


def _replaces(page: Page, block: Block) -> bool:
    """Whether a file is written anew: in the tutorial, where the page does not say `at the end`."""
    named = _REPLACED.match(block.code)
    return page.path.stem == "tutorial" and named is not None and not named["end"]


def _spare(path: str, found: Modules) -> str:
    """A name for what a file held before it was replaced: that, too, must be right."""
    return next(name for n in range(1, 99) if (name := path.replace(".py", f"_before_{n}.py")) not in found)


def _renamed(text: list[str]) -> list[str]:
    """Give a function that the page shows changed later another name, so that both shapes are read."""
    last = {name: number for number, name in _defined(text)}
    again = {number: name for number, name in _defined(text) if number != last[name]}
    return [
        re.sub(rf"\b{again[number]}\b", f"{again[number]}_at_{number}", line, count=1) if number in again else line
        for number, line in enumerate(text)
    ]


def _defined(text: list[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text):
        if found := re.match(r"(?:async def|def|class) (\w+)", line):
            yield number, found[1]


def project(page: Page, folder: Path) -> dict[str, Line]:
    """Write the page's project; where each line of it comes from, as `path:number`."""
    shutil.copytree(HERE / "scratch", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "quiet.py").write_text(QUIET)
    (folder / "mypy.ini").write_text(MYPY)
    origin: dict[str, Line] = {}
    for path, module in modules(page).items():
        (folder / path).parent.mkdir(exist_ok=True)
        before = (folder / path).read_text().splitlines() if path.endswith("settings.py") else []
        (folder / path).write_text("\n".join([*before, str(module), ""]))
        origin |= {f"{path}:{len(before) + n}": line for n, line in enumerate(module.lines, start=1)}
    return origin


#: Checkers import the project: its workflows stay unregistered, because some pages show one in several shapes.
QUIET = """
from canx_flow.apps import CanxFlowConfig
from mysite.settings import *


class Quiet(CanxFlowConfig):
    def ready(self) -> None: ...


INSTALLED_APPS = [{"canx_flow": "quiet.Quiet"}.get(app, app) for app in dict.fromkeys(INSTALLED_APPS)]
"""
MYPY = """
[mypy]
strict = true
plugins = mypy_django_plugin.main

[mypy-celery.*,environ.*,unfold.*]
ignore_missing_imports = true

[mypy-shop.tasks]
disallow_untyped_decorators = false

[mypy.plugins.django-stubs]
django_settings_module = quiet
"""


def pages() -> list[Page]:
    """Every page that shows code."""
    return [page for page in (README, *every_page()) if modules(page)]
