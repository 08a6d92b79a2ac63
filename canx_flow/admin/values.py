"""Stored values and errors as a run's page shows them, folded up where they are long. Called by the page's parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString

from ..insight.display import Shown, ShownError
from . import fragments

#: Characters of a value that stand in a table's cell; the whole of it unfolds.
IN_CELL = 80

_NEWLINE = re.compile(r"\n\s*")


@dataclass(frozen=True, slots=True)
class Value:
    """A stored value: on one line, or folded up behind its beginning."""

    text: str
    beginning: str
    left_out: int
    note: str

    @property
    def folded(self) -> bool:
        return self.beginning != self.text


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt, or what ended the run."""

    summary: str
    traceback: str
    at: SafeString | str


def value(shown: Shown | None) -> Value | None:
    if shown is None:
        return None
    line = _NEWLINE.sub(" ", shown.text[: 4 * IN_CELL])
    fits = line == shown.text and len(line) <= IN_CELL
    return Value(shown.text, line if fits else f"{line[:IN_CELL].rstrip()} …", shown.left_out, shown.note)


def failure(error: ShownError, now: datetime) -> Failure:
    return Failure(error.summary, error.traceback, fragments.moment(error.at, now))
