"""How many runs have started, completed and failed, as SVG: a bar for each minute, hour or day.

Widths are percents and heights are attributes, so that the page needs no script and no style of its own. The same
numbers stand in the table below. Called by `dashboard`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..insight.speech import number
from ..insight.throughput import DAY, HOUR, MINUTE, Span, Throughput

#: Of the whole; where its bars stand, and how high the highest of them may be.
_HEIGHT, _BASE, _TOP = 150, 128, 112
#: How many spans lie between two labels of the axis.
_APART = {MINUTE: 10, HOUR: 4, DAY: 5}
_FORMATS = {MINUTE: "%H:%M", HOUR: "%H:%M", DAY: "%m-%d"}
#: The bars of a small one, without axis and labels.
_SMALL = 20


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. What is not known is a dash."""

    span: str
    started: str
    completed: str
    failed: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The axis on the left, the bars, and the same as rows, the newest first."""

    axis: SafeString
    bars: SafeString
    rows: Sequence[Row]


def plot(throughput: Throughput) -> Plot:
    """Draw the bars of these spans to one scale."""
    top = _round_up(max(max(span.started, span.ended) for span in throughput.spans))
    rows = [_row(span, throughput) for span in reversed(throughput.spans)]
    return Plot(_axis(top), _bars(throughput, top), rows)


def small(numbers: Sequence[int]) -> SafeString:
    """Draw a bar for each number, so small that it fits into a cell; it says how many there are in all."""
    top, width = max(numbers) or 1, 100 / len(numbers)
    bars = format_html_join(
        "", '<rect class="canx-failed-bar" x="{}%" y="{}" width="{}%" height="{}"/>',
        (
            (_percent(place * width), _px(_SMALL - height), _percent(0.75 * width), _px(height))
            for place, height in enumerate(max(2.0, _SMALL * each / top) if each else 0.0 for each in numbers)
            if height
        ),
    )  # fmt: skip
    said = _("{number} in the last 24 hours").format(number=number(sum(numbers)))
    line = format_html('<line x1="0%" x2="100%" y1="{}" y2="{}"/>', _SMALL - 0.5, _SMALL - 0.5)
    return format_html(
        '<svg class="canx-small" role="img" aria-label="{}" width="72" height="{}"><title>{}</title>{}{}</svg>',
        said, _SMALL, said, line, bars,
    )  # fmt: skip


def _bars(throughput: Throughput, top: int) -> SafeString:
    spans = throughput.spans
    width = 100 / len(spans)
    lines = format_html_join(
        "", '<line class="canx-grid" x1="0%" x2="100%" y1="{0}" y2="{0}"/>',
        ((_px(_y(value, top)),) for value in _marked(top)),
    )  # fmt: skip
    said = [_told(span, throughput) for span in spans]
    bars = (_bar(span, place * width, width, top, said[place]) for place, span in enumerate(spans))
    drawn = format_html_join("", "{}", ((bar,) for bar in bars))
    labels = format_html_join(
        "", '<text x="{}%" y="{}" class="canx-{}">{}</text>',
        (
            (_percent(place * width), _HEIGHT - 6, "begin" if place == 0 else "middle", _label(span.began, throughput))
            for place, span in enumerate(spans) if place % _APART[throughput.per] == 0
        ),
    )  # fmt: skip
    return format_html(
        '<svg class="canx-plot" role="img" aria-labelledby="canx-plot" width="100%" height="{}">{}{}{}</svg>',
        _HEIGHT, lines, drawn, labels,
    )  # fmt: skip


def _bar(span: Span, x: float, width: float, top: int, said: str) -> SafeString:
    """Draw what has started as a wide bar, and before it what has completed and, above that, failed."""
    parts = format_html_join(
        "", '<rect class="canx-{}" x="{}%" y="{}" width="{}%" height="{}"{}/>',
        (_rect(*part, x, width, top) for part in _parts(span)),
    )  # fmt: skip
    return format_html(
        '<g><title>{}</title><rect class="canx-{}" x="{}%" y="0" width="{}%" height="{}"/>{}</g>',
        said, "gap" if span.completed is None else "slot", _percent(x), _percent(width), _BASE, parts,
    )  # fmt: skip


def _parts(span: Span) -> Iterator[tuple[str, int, int, float]]:
    """Yield class, lower and upper value, and share of the width of each part that is there."""
    completed, failed = span.completed or 0, span.failed or 0
    for name, low, high, share in (
        ("started-bar", 0, span.started, 0.86),
        ("completed-bar", 0, completed, 0.5),
        ("failed-bar", completed, completed + failed, 0.5),
    ):
        if high > low:
            yield name, low, high, share


def _rect(name: str, low: int, high: int, share: float, x: float, width: float, top: int) -> tuple[object, ...]:
    upper = min(_y(high, top), _BASE - 2) if low == 0 else _y(high, top)
    height = max(_y(low, top) - upper, 2.0)
    hatched = SafeString(' fill="url(#canx-hatch)"') if name == "failed-bar" else ""
    inset = x + width * (1 - share) / 2
    return name, _percent(inset), _px(upper), _percent(width * share), _px(height), hatched


def _axis(top: int) -> SafeString:
    labels = format_html_join(
        "", '<text x="100%" y="{}" class="canx-end">{}</text>',
        ((_px(_y(value, top) + 4), number(value)) for value in _marked(top)),
    )  # fmt: skip
    return format_html('<svg class="canx-plot-axis" aria-hidden="true" height="{}">{}</svg>', _HEIGHT, labels)


def _marked(top: int) -> list[int]:
    return [0, top // 2, top] if top > 1 else [0, top]


def _y(value: float, top: int) -> float:
    return _BASE - _TOP * value / top


def _round_up(most: int) -> int:
    """Return the next number of one digit that is 1, 2, 4, 6 or 8, and zeros; 2 at least."""
    most = max(most, 2)
    size = int(10 ** (len(str(most)) - 1))
    return next(step * size for step in (1, 2, 4, 6, 8, 10) if step * size >= most)


def _row(span: Span, throughput: Throughput) -> Row:
    at_least = "≥" if span.started >= throughput.most else ""
    started = f"{at_least}{number(span.started)}"
    completed, failed = _counts(span, throughput)
    return Row(_label(span.began, throughput), started, completed, failed)


def _told(span: Span, throughput: Throughput) -> str:
    said = _("{began}: {started} started, {completed} completed, {failed} failed")
    completed, failed = _counts(span, throughput)
    return said.format(
        began=f"{timezone.localtime(span.began):%Y-%m-%d %H:%M}", started=number(span.started),
        completed=completed, failed=failed,
    )  # fmt: skip


def _counts(span: Span, throughput: Throughput) -> tuple[str, str]:
    """Write how many have completed and failed: at least so many, where not all runs were looked at."""
    return (
        _known(span.completed, cut=throughput.since is not None),
        _known(span.failed, cut=throughput.failed_since is not None),
    )


def _known(count: int | None, *, cut: bool) -> str:
    return "\N{EN DASH}" if count is None else f"{'≥' if cut else ''}{number(count)}"


def _label(at: datetime, throughput: Throughput) -> str:
    return f"{timezone.localtime(at):{_FORMATS[throughput.per]}}"


def _percent(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")


def _px(number: float) -> str:
    return f"{number:.1f}"
