"""The terminal that a command writes to: how wide it is, which signs it can show, and in which colours.

Used by the commands and `drawing`. Text is fitted first and coloured last, so that colours take no room.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.management.base import OutputWrapper
from django.core.management.color import no_style

from ..core.pretty import printable

MOST_WIDE = 160  # a line that is longer is hard to follow
LEAST_WIDE = 60


@dataclass(frozen=True, slots=True)
class Signs:
    """What is drawn with. Every sign stands beside the word that it means."""

    states: dict[str, str]
    bar: str
    waited: str
    failed: str
    goes_on: str
    branch: str
    rule: str
    cut: str


_UNICODE = Signs(
    states={
        "completed": "✓", "failed": "✗", "timed out": "─", "cancelled": "⊘", "running": "▸", "stopping": "▪",
        "sleeping": "◦", "waiting": "◦", "retrying": "↻", "pending": "·", "paused": "=", "parked": "!",
        "interrupted": "!", "due": "·", "unfinished": "⊘",
    },
    bar="█", waited="┄", failed="✗", goes_on="▸", branch="└", rule="─", cut="…",
)  # fmt: skip
_ASCII = Signs(
    states={
        "completed": "+", "failed": "x", "timed out": "-", "cancelled": "-", "running": ">", "stopping": ">",
        "sleeping": "z", "waiting": "?", "retrying": "~", "pending": ".", "paused": "=", "parked": "!",
        "interrupted": "!", "due": ".", "unfinished": "-",
    },
    bar="#", waited=".", failed="x", goes_on=">", branch="`", rule="-", cut="...",
)  # fmt: skip

_STYLES = {
    "completed": "SUCCESS", "failed": "ERROR", "timed out": "WARNING", "cancelled": "WARNING", "running": "HTTP_INFO",
    "stopping": "WARNING", "sleeping": "HTTP_NOT_MODIFIED", "waiting": "HTTP_NOT_MODIFIED", "retrying": "WARNING",
    "paused": "WARNING", "parked": "ERROR", "interrupted": "ERROR",
}  # fmt: skip


class Terminal:
    """Where a command's lines go. Elsewhere than at a terminal they are as plain as they are short."""

    def __init__(self, stdout: OutputWrapper, style: Any, *, colours: bool | None = None, width: int = 0) -> None:
        self._stdout = stdout
        self._encoding = getattr(stdout, "encoding", None) or "utf-8"
        at_terminal = stdout.isatty() if colours is None else colours
        self._style = style if at_terminal else no_style()
        self.width = width or max(LEAST_WIDE, min(shutil.get_terminal_size().columns, MOST_WIDE))
        self.signs = _UNICODE if self._shows("✓█┄▸✗└⊘↻─…") else _ASCII

    def say(self, line: str = "") -> None:
        """Print one line (or more), in what its encoding can show."""
        if not self._shows(line):
            line = line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        self._stdout.write(line)

    def colour(self, text: str, state: str) -> str:
        """Return `text` in the colour of a state."""
        role = _STYLES.get(state)
        return self.paint(text, role) if role else text

    def paint(self, text: str, role: str) -> str:
        """Return `text` in one of the roles of Django's palette."""
        painter: Callable[[str], str] = getattr(self._style, role)
        return painter(text) if text.strip() else text

    def strong(self, text: str) -> str:
        return self.paint(text, "MIGRATE_HEADING")

    def sign(self, state: str) -> str:
        return self.signs.states.get(state, " ")

    def fit(self, text: str, width: int) -> str:
        """Return at most `width` cells of `text`, on one line."""
        text = one_line(text)
        if cells(text) <= width:
            return text
        room = width - len(self.signs.cut)
        kept = ""
        for char in text:
            room -= cells(char)
            if room < 0:
                break
            kept += char
        return kept + self.signs.cut

    def column(self, text: str, width: int) -> str:
        """Return exactly `width` cells of `text`."""
        text = self.fit(text, width)
        return text + " " * (width - cells(text))

    def _shows(self, text: str) -> bool:
        try:
            text.encode(self._encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True


def one_line(text: str) -> str:
    """Return the visible characters of a text, on one line."""
    return " ".join(printable(text).split())


def cells(text: str) -> int:
    """Count the columns that a text takes: East Asian signs take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def widest(texts: Iterable[str], least: int, most: int) -> int:
    """Return the width of a column that holds these texts."""
    return max(least, min(most, max(map(cells, texts), default=0)))


def share(wanted: Sequence[int], room: int) -> list[int]:
    """Share `room` among texts that want so much of it: the widest give way first."""
    widths = list(wanted)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths
