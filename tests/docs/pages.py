"""A page of docs/ as tests see it: its code blocks, and what it says to the tests in comments that no reader sees.

`<!-- test`, lines of Python, `-->` are run where they stand, in the page's namespace: what happens between two blocks,
and what must be true then. `<!-- not run: why -->` before a block says that it is not code to be run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"

_PARTS = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]+)\n(?P<code>.*?)^(?P=indent)```$"
    r"|^ *<!-- (?P<directive>[\w ]+?)(?P<argument>:.*?| *\n.*?)?-->$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# (?P<path>[\w./-]+\.py)\b")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
RUN = ("python", "pycon", "test")


@dataclass(frozen=True)
class Block:
    """A fenced block, or a comment to the tests; `line` is that of its first line of code, from 1.

    `before`: the comments to the tests that stand directly before it, as name → argument.
    """

    language: str
    code: str
    line: int
    before: dict[str, str]

    @property
    def path(self) -> str:
        """The file that its first line names; empty if it names none."""
        named = _FILE.match(self.code) if self.language == "python" else None
        return named["path"] if named else ""

    @property
    def is_run(self) -> bool:
        return self.language in RUN and "not run" not in self.before


@dataclass(frozen=True)
class Page:
    path: Path

    @property
    def name(self) -> str:
        """Its path below docs/, without the suffix: `how-to/testing`."""
        return self.path.relative_to(DOCS).with_suffix("").as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        """Every fenced block and every `<!-- test`, in order."""
        return blocks(self.text)

    @property
    def spans(self) -> list[str]:
        """What stands between single backticks in the prose."""
        return _SPAN.findall(_PARTS.sub("", self.text))


def blocks(text: str) -> list[Block]:
    """Every block of a page's text, and every comment to the tests that holds code."""
    found: list[Block] = []
    before: dict[str, str] = {}
    for part in _PARTS.finditer(text):
        if part["code"] is not None:
            line = text.count("\n", 0, part.start("code")) + 1
            found.append(Block(part["language"], dedent(part["code"]), line, before))
            before = {}
        elif part["directive"].strip() == "test":
            line = text.count("\n", 0, part.start("argument")) + 1
            found.append(Block("test", dedent((part["argument"] or "").removeprefix(":").lstrip(" ")), line, {}))
        else:
            before[part["directive"].strip()] = (part["argument"] or "").removeprefix(":").strip()
    return found


@cache
def every_page() -> list[Page]:
    """All pages of docs/, by path."""
    return [Page(path) for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]


def page(name: str) -> Page:
    """The page of this name, such as `how-to/testing`."""
    return Page(DOCS / f"{name}.md")
