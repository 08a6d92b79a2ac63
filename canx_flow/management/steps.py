"""The steps of a run as a table with bars: each step's share of the time from the run's start to its end, or now.

Used by `drawing`.
"""

from __future__ import annotations

from datetime import datetime

from ..core.durations import span
from ..insight.rows import DUE, INTERRUPTED, UNFINISHED, Row
from ..insight.timeline import Timeline
from ..states import ANSWERS, Kind, RecordState
from .terminal import Terminal, one_line, share, widest

LEAST_BAR = 16


class StepTable:
    """The table of steps: its widths, and the scale of its bars, which is the run's own span."""

    def __init__(self, timeline: Timeline, rows: list[Row], terminal: Terminal) -> None:
        self._terminal = terminal
        self._began = timeline.run.created_at
        self._ends = timeline.ends
        self._span = max((self._ends - self._began).total_seconds(), 0.001)
        state = widest(map(self._state, rows), 5, 16)
        took = widest(map(self._took, rows), 4, 12)
        begins = widest(map(self._begins, rows), 5, 12) if terminal.width >= 100 else 0
        room = terminal.width - 2 - 2 - 2 - state - 2 - took - 2 - (begins + 2 if begins else 0)
        name = widest((one_line(row.name) for row in rows), 8, terminal.width)
        name, self._bar = share([name, max(LEAST_BAR, room - name)], room)
        self._widths = (name, state, begins, took)

    def header(self) -> str:
        words = ("step", "state", "began", "took")
        cells = [
            self._cell(word, width, right=place > 1)
            for place, (word, width) in enumerate(zip(words, self._widths, strict=True))
        ]
        end = span(self._span)
        rule = self._terminal.signs.rule * max(1, self._bar - len(end) - 4)
        heading = f"    {'  '.join(cell for cell in cells if cell)}  0 {rule} {end}"
        return self._terminal.paint(heading, "HTTP_INFO")

    def line(self, row: Row) -> str:
        name, state, begins, took = self._widths
        paint = self._terminal.colour
        cells = [
            f"  {paint(self._terminal.sign(row.state), row.state)} {self._cell(row.name, name)}",
            paint(self._cell(self._state(row), state), row.state),
            self._cell(self._begins(row), begins, right=True),
            self._cell(self._took(row), took, right=True),
            paint(self._drawn(row), row.state),
        ]
        return "  ".join(cell for cell in cells if cell).rstrip()

    def _cell(self, text: str, width: int, *, right: bool = False) -> str:
        if not width:
            return ""
        return text.rjust(width) if right else self._terminal.column(text, width)

    def _state(self, row: Row) -> str:
        return f"{row.state} x{row.attempts}" if row.attempts > 1 else row.state

    def _begins(self, row: Row) -> str:
        return span(row.began - self._began) if row.began is not None else ""

    def _took(self, row: Row) -> str:
        if row.began is None:
            return ""
        return span((row.ended or self._ends) - row.began)

    def _drawn(self, row: Row) -> str:
        """Draw the bar: when the step was called, when it waited, when an attempt failed."""
        if row.began is None:
            return ""
        signs = self._terminal.signs
        first, last = self._column(row.began), self._column(row.ended or self._ends)
        working = row.kind in (Kind.STEP, Kind.UNDO, *ANSWERS) and not row.errors
        drawn = [signs.bar if working else signs.waited] * (last - first + 1)
        for error in row.errors:
            if error.at is not None and error.at >= row.began:
                drawn[min(max(self._column(error.at) - first, 0), len(drawn) - 1)] = signs.failed
        if drawn[-1] != signs.failed or row.ended is not None:
            drawn[-1] = self._last(row, drawn[-1])
        return " " * first + "".join(drawn)

    def _last(self, row: Row, drawn: str) -> str:
        signs = self._terminal.signs
        if row.state == RecordState.COMPLETED and row.kind in (Kind.STEP, Kind.UNDO):
            return signs.bar
        if row.state == RecordState.FAILED:
            return signs.failed
        if row.ended is None and row.state not in (UNFINISHED, INTERRUPTED, DUE):
            return signs.goes_on
        return drawn

    def _column(self, at: datetime) -> int:
        share_of = (at - self._began).total_seconds() / self._span
        return min(max(int(share_of * self._bar), 0), self._bar - 1)
