"""Stored values and errors as a run's page shows them, folded up where they are long. Called by the page's parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString

from ..insight.display import Shown, ShownError
from ..insight.traces import own_frames
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
    #: Where the whole of it is shown.
    url: str = ""

    @property
    def size(self) -> str:
        """How much it is: characters of what is stored, where it was cut before it was written readably."""
        return filesizeformat(len(self.text) + self.left_out)

    @property
    def folded(self) -> bool:
        return self.beginning != self.text


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt, or what ended the run."""

    summary: str
    traceback: str
    at: SafeString | str
    #: The traceback without the engine's frames, if it has any.
    own: str = ""
    number: int | None = None


def value(shown: Shown | None, url: str | None = None) -> Value | None:
    if shown is None:
        return None
    line = _NEWLINE.sub(" ", shown.text[: 4 * IN_CELL])
    fits = line == shown.text and len(line) <= IN_CELL
    beginning = line if fits else f"{line[:IN_CELL].rstrip()} …"
    return Value(shown.text, beginning, shown.left_out, shown.note, url if url and shown.left_out else "")


def failure(error: ShownError, now: datetime) -> Failure:
    own = "\n".join(own_frames(error.traceback))
    return Failure(
        error.summary,
        error.traceback,
        fragments.moment(error.at, now),
        own if own != error.traceback.rstrip("\n") else "",
        error.attempt,
    )
