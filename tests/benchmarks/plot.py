"""`python -m tests.benchmarks.plot [FILE …]`: draw how W15 grows with what is stored, into docs/growth.svg.

One line for each operation: the pages that it reads on PostgreSQL, which are the same on a busy machine and on an idle
one. Both axes are logarithmic; a level line is what does not grow.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
_PICTURE = ROOT / "docs" / "growth.svg"
_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 540, 40, 372
#: How an operation's name begins, what it is called here, and its colour.
_GROUPS = (
    ("turn", "a worker's turn", "#0b6b47"),
    ("flow", "flow, flowhealth", "#8250df"),
    ("admin", "the admin's pages", "#bc4c00"),
    ("prune", "chores", "#57606a"),
    ("forget", "", "#57606a"),
    ("", "calls", "#0969da"),
)

#: Runs in the tables → pages read by a call.
Line = Mapping[int, float]


def main(files: Sequence[Path]) -> int:
    lines: dict[str, dict[int, float]] = {}
    for file in files:
        for one in json.loads(file.read_text())["figures"]:
            if one["workload"] == "w15" and one["database"] == "postgresql":
                lines.setdefault(one["case"], {}).update(_pages(one["figures"]))
    _PICTURE.write_text(drawn({name: line for name, line in lines.items() if len(line) > 1}))
    return 0


def _pages(figures: Mapping[str, Mapping[str, float]]) -> dict[int, float]:
    return {
        int(name.removeprefix("pages_")): max(1.0, spread["median"])
        for name, spread in figures.items()
        if name.startswith("pages_")
    }


def drawn(lines: Mapping[str, Line]) -> str:
    """The picture of these lines."""
    sizes = sorted({size for line in lines.values() for size in line})
    most = max(value for line in lines.values() for value in line.values())
    scale = _Scale(sizes, max(4, math.ceil(math.log10(most))))
    analysed = {name: line for name, line in lines.items() if not name.endswith(", not analysed")}
    steady = sum(line[max(line)] <= 1.5 * line[min(line)] for line in lines.values())
    says = (
        f"Pages read by each of {len(analysed)} operations, with statistics and without, beside {sizes[0]:,} to "
        f"{sizes[-1]:,} runs: {steady} of {len(lines)} lines grow by half at most."
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="t d" '
        'font-family="system-ui, sans-serif" font-size="12.5">'
    )
    parts = [
        head, '  <title id="t">What is asked of the tables does not grow with them</title>',
        f'  <desc id="d">{escape(says)}</desc>',
        f'  <rect x="1" y="1" width="{_WIDTH - 2}" height="{_HEIGHT - 2}" rx="10" fill="#ffffff" stroke="#d0d7de"/>',
        *scale.axes(), *_curves(lines, scale), *_legend(analysed), "</svg>\n",
    ]  # fmt: skip
    return "\n".join(parts)


class _Scale:
    """Where sizes and pages are in the picture."""

    def __init__(self, sizes: Sequence[int], decades: int) -> None:
        self._sizes = sizes
        self._decades = decades

    def x(self, size: int) -> float:
        first, last = math.log10(self._sizes[0]), math.log10(self._sizes[-1])
        return _LEFT + (math.log10(size) - first) / (last - first) * (_RIGHT - _LEFT)

    def y(self, pages: float) -> float:
        return _BOTTOM - math.log10(pages) / self._decades * (_BOTTOM - _TOP)

    def axes(self) -> Iterator[str]:
        for decade in range(self._decades + 1):
            y = self.y(10**decade)
            yield f'  <path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="#d0d7de"/>'
            yield _text(_LEFT - 10, y + 4, f"{10**decade:,}", anchor="end")
        for size in self._sizes:
            yield _text(self.x(size), _BOTTOM + 20, f"{size:,}", anchor="middle")
        yield _text((_LEFT + _RIGHT) / 2, _BOTTOM + 44, "runs in the tables", anchor="middle")
        yield _text(_LEFT - 10, _TOP - 14, "pages", anchor="end")


def _curves(lines: Mapping[str, Line], scale: _Scale) -> Iterator[str]:
    for name, line in lines.items():
        points = " ".join(f"{scale.x(size):.1f},{scale.y(line[size]):.1f}" for size in sorted(line))
        dashes = ' stroke-dasharray="3 3"' if name.endswith(", not analysed") else ""
        title = f"<title>{escape(name)}</title>"
        yield (
            f'  <polyline points="{points}" fill="none" stroke="{_group(name)[2]}" stroke-width="1.5" '
            f'stroke-opacity="0.6"{dashes}>{title}</polyline>'
        )


def _legend(lines: Mapping[str, Line]) -> Iterator[str]:
    y = _TOP + 10
    for group in _GROUPS:
        _begins, says, colour = group
        if says:
            found = sum(_group(name)[2] == colour for name in lines)
            yield f'  <path d="M{_RIGHT + 24} {y - 4}h24" stroke="{colour}" stroke-width="3"/>'
            yield _text(_RIGHT + 56, y, f"{says} ({found})")
            y += 24
    yield f'  <path d="M{_RIGHT + 24} {y - 4}h24" stroke="#57606a" stroke-width="1.5" stroke-dasharray="3 3"/>'
    yield _text(_RIGHT + 56, y, "without statistics")


def _group(name: str) -> tuple[str, str, str]:
    return next(group for group in _GROUPS if name.startswith(group[0]))


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'  <text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#424a53">{escape(words)}</text>'


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or [ROOT / ".bench" / "results.json"]))
