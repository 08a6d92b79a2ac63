"""The book as people read it: a line when something was measured, a table per workload, the targets.

Printed by the command, and put into docs/performance.md by `page`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from .book import OURS, Book, Key
from .measure import Spread
from .targets import TARGETS
from .workload import Workload


def told_at_once(key: Key, row: Mapping[str, float]) -> None:
    """The first figures of a repetition, for whoever watches."""
    first = ", ".join(f"{name} {number(value)}" for name, value in list(row.items())[:4])
    engine = "" if key.engine == OURS else f" {key.engine}"
    print(f"{time.strftime('%H:%M:%S')} {key.workload} {key.database}{engine}, {key.case}: {first}", flush=True)


def table(workload: Workload, book: Book) -> str:
    """Median (least-most) of every figure that has a column; a row per case. Empty if it was not measured."""
    keys = book.keys(workload.name)
    measured = {name for key in keys for name in book.spreads(key)}
    shown = {name: title for name, title in workload.columns.items() if name in measured}
    rows = [[*_who(key), *(_cell(book.spreads(key).get(name)) for name in shown)] for key in keys]
    return markdown(["database", "", *shown.values()], rows)


def targets(book: Book) -> str:
    """Every target that was measured, with what was reached."""
    rows = []
    for target in TARGETS:
        reached = target.reached(book)
        if reached is not None:
            bound = target.least if target.least is not None else target.most
            share = f"{reached.median / bound:.2f}" if bound else ""
            mark = "✓" if target.is_met(reached.median) else "✗"
            rows.append([mark, target.database, target.told(book), target.bound, _cell(reached), share])
    return markdown(["", "database", "", "target", "reached", "by target"], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that Markdown and people can read."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * max(1, width) for width in widths], *rows]
    return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def _who(key: Key) -> tuple[str, str]:
    return key.database, key.case if key.engine == OURS else f"{key.engine}, {key.case}"


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return ""
    median, least, most = number(spread.median), number(spread.least), number(spread.most)
    return median if least == most else f"{median} ({least}-{most})"
