"""The timeline of a run as SVG: a line for each step, wait, branch and child, one above the other on one axis.

Everything is in percents of the width and in classes, so that the page needs no script and no style of its own. The
same rows stand in the table below the chart, to which each label leads. Called by `page`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING
from urllib.parse import quote

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext_lazy

from ..core import naming
from ..core.pretty import printable
from ..insight import families, gantt
from ..insight.gantt import Bar, Part, Scale, Stretch
from ..insight.rows import Row
from ..insight.timeline import Timeline
from ..states import COMPLETED, Kind
from . import fragments, links, words

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: A part that took no time is drawn so wide, in percents; so far apart are the marks of the axis.
_LEAST, _APART = 0.35, 15.0
#: How wide a character of a label is beside an axis of the usual width, and what is kept free between two.
_CHARACTER, _FREE = 1.1, 1.5
#: Nested lines from which on they are folded up.
_MANY = 20
_STEPS = [
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 2592000, 31536000),
]
_PARTS = {
    gantt.WORK: pgettext_lazy("part of a step", "runs"),
    gantt.FAILED: pgettext_lazy("part of a step", "failed"),
    gantt.PAUSE: pgettext_lazy("part of a step", "between two attempts"),
    gantt.WAIT: pgettext_lazy("part of a step", "sleeps or waits"),
    gantt.DUE: pgettext_lazy("part of a step", "until it is due"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the chart, and those that are nested in it, folded up or not.

    `name`: the label without its link, for what folds the nested lines: a link within it could not be told apart, so
    `lead`, a line of its own, has that.
    """

    name: SafeString | str
    label: SafeString | str
    lead: SafeString | str
    bar: SafeString
    nested: Sequence[Line]
    unfolded: bool
    #: Of no other line beside it: by it a page knows the line again.
    key: str


@dataclass(frozen=True, slots=True)
class Chart:
    """The whole of it. `legend`: the classes of the parts that are there, with what they mean."""

    lines: Sequence[Line]
    axis: SafeString
    legend: Sequence[tuple[str, str]]


def chart(timeline: Timeline, site: AdminSite) -> Chart | None:
    """Draw the rows of a timeline; `None` if none of them has begun."""
    now = timeline.run.finished_at or timeline.now  # What an ended run did not come to is over with it.
    bars = gantt.bars(timeline.rows, now, families.of(timeline.rows))
    scale = gantt.scale(bars)
    if scale is None:
        return None
    kinds = {part.kind for bar in _all(bars) for part in bar.parts}
    legend = [(kind, str(said)) for kind, said in _PARTS.items() if kind in kinds]
    return Chart(list(_lines(bars, scale, site)), _axis(scale), legend)


def _all(bars: Sequence[Bar]) -> Iterator[Bar]:
    for bar in bars:
        yield bar
        yield from _all(bar.nested)


def anchor(name: str) -> str:
    """Return the id of a step's row on its page; in an address it is quoted."""
    return naming.anchor(name)


# -- lines -----------------------------------------------------------------------------------------


def _lines(bars: Sequence[Bar], scale: Scale, site: AdminSite) -> Iterator[Line]:
    for bar in bars:
        unfolded = len(bar.nested) <= _MANY and (bar.child is None or bar.child.state != COMPLETED)
        nested = list(_lines(bar.nested, scale, site))
        lead = _lead(bar, site) if nested else ""
        yield Line(_name(bar), _label(bar, site), lead, _drawn(bar, scale), nested, unfolded, _key(bar))


def _key(bar: Bar) -> str:
    return bar.row.name if bar.row is not None else bar.label


def _name(bar: Bar) -> SafeString | str:
    name = fragments.name(bar.label)
    return name if bar.child is None else format_html("{} {}", name, _badge(bar.child.state))


def _label(bar: Bar, site: AdminSite) -> SafeString | str:
    if bar.child is not None:
        return format_html("{} {}", links.run_link(site, bar.child.id, printable(bar.label)), _badge(bar.child.state))
    if bar.row is None or bar.foreign:
        return fragments.name(bar.label)
    return format_html('<a href="#{}">{}</a>', quote(anchor(bar.row.name)), fragments.name(bar.label))


def _lead(bar: Bar, site: AdminSite) -> SafeString | str:
    """Return the link of what has nested lines: to its page, or to its row."""
    if bar.child is not None:
        return links.run_link(site, bar.child.id, _("the page of this run"))
    if bar.row is None or bar.foreign:
        return ""
    return format_html('<a href="#{}">{}</a>', quote(anchor(bar.row.name)), _("its row below"))


def _badge(state: str) -> SafeString:
    return fragments.badge(state)


def _drawn(bar: Bar, scale: Scale) -> SafeString:
    folds = format_html_join("", '<rect class="canx-gap" x="{}%" width="{}%" height="20"/>', map(_extent, scale.folds))
    parts = format_html_join(
        "",
        '<rect class="canx-{}{}" x="{}%" y="{}" width="{}%" height="{}"{}><title>{}</title></rect>',
        (_rect(part, scale) for part in bar.parts),
    )
    return format_html('<svg class="canx-bar" role="img" aria-label="{}">{}{}</svg>', _told(bar), folds, parts)


def _rect(part: Part, scale: Scale) -> tuple[object, ...]:
    begin, end = scale.place(part.began), scale.place(part.until)
    width = max(end - begin, _LEAST)
    begin = min(begin, 100.0 - width)
    top, height = (9, 2) if part.kind == gantt.PAUSE else (8, 4) if part.kind == gantt.SPAN else (4, 12)
    hatched = SafeString(' fill="url(#canx-hatch)"') if part.kind == gantt.FAILED else ""
    open_ended = " canx-open" if part.open else ""
    return part.kind, open_ended, _percent(begin), top, _percent(width), height, hatched, _title(part)


def _title(part: Part) -> str:
    said = str(_PARTS.get(part.kind, ""))
    if part.attempt is not None:
        said = (_("attempt {number}, failed") if part.kind == gantt.FAILED else _("attempt {number}")).format(
            number=part.attempt
        )
    until = _("goes on") if part.open else _exactly(part.until)
    took = words.took((part.until - part.began).total_seconds())
    return ", ".join(text for text in (said, f"{_exactly(part.began)} \N{EN DASH} {until}", took) if text)


def _told(bar: Bar) -> str:
    """Say for a screen reader what the bar shows."""
    began, until = bar.began, bar.until
    took = words.took((until - began).total_seconds()) if began is not None and until is not None else ""
    state = _state(bar)
    row = bar.row
    tried = row.attempts if row is not None and row.attempts > 1 else 0
    attempts = ngettext("{number} attempt", "{number} attempts", tried).format(number=tried) if tried else ""
    return f"{printable(bar.label)}: {', '.join(text for text in (state, attempts, took) if text)}"


def _state(bar: Bar) -> str:
    if bar.child is not None:
        return str(words.RUN_STATES.get(bar.child.state, bar.child.state))
    state = bar.row.state if bar.row is not None else ""
    return str(words.ROW_STATES.get(state, state))


def _exactly(at: datetime) -> str:
    local = timezone.localtime(at)
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d}"


def _percent(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")


def _extent(stretch: Stretch) -> tuple[str, str]:
    return _percent(stretch.x), _percent(stretch.width)


# -- the axis --------------------------------------------------------------------------------------


def _axis(scale: Scale) -> SafeString:
    ticks = format_html_join(
        "", '<line x1="{0}%" x2="{0}%" y1="14" y2="18"/>', ((_percent(x),) for x, _ in _ticks(scale))
    )
    texts = format_html_join(
        "", '<text x="{}%" y="11" class="canx-tick canx-{}">{}</text>',
        ((_percent(x), side, said) for x, side, said in _apart(scale)),
    )  # fmt: skip
    folds = format_html_join(
        "",
        '<rect class="canx-gap" x="{}%" width="{}%" y="14" height="16"/>'
        '<text x="{}%" y="27" class="canx-middle">{}</text>',
        ((*_extent(fold), _percent(fold.x + fold.width / 2), _briefly(fold)) for fold in scale.folds),
    )  # fmt: skip
    size = "canx-axis canx-with-folds" if scale.folds else "canx-axis"
    return format_html('<svg class="{}" aria-hidden="true">{}{}{}</svg>', size, texts, ticks, folds)


def _briefly(fold: Stretch) -> str:
    return words.took((fold.until - fold.began).total_seconds(), briefly=True)


def _apart(scale: Scale) -> Iterator[tuple[float, str, str]]:
    """Yield the labels that do not run into one another: where, whether they begin, end or are centred there."""
    last = -_FREE
    for x, said in _ticks(scale):
        side = "begin" if x < 5 else "end" if x > 95 else "middle"
        width = len(said) * _CHARACTER
        begin = x - width * {"begin": 0.0, "middle": 0.5, "end": 1.0}[side]
        if begin - last >= _FREE:
            yield x, side, said
            last = begin + width


def _ticks(scale: Scale) -> Iterator[tuple[float, str]]:
    """Yield where the axis is marked, and with which time: round moments, and where each stretch begins."""
    day = None
    for stretch in scale.stretches:
        if stretch.folded:
            continue
        for at in _marks(stretch):
            local = timezone.localtime(at)
            new_day, day = local.date() != day, local.date()
            yield (
                stretch.place(at),
                _time(local, stretch, new_day and scale.stretches[-1].until.date() != scale.stretches[0].began.date()),
            )


def _marks(stretch: Stretch) -> Iterator[datetime]:
    yield stretch.began
    seconds = (stretch.until - stretch.began).total_seconds()
    step = next((step for step in _STEPS if stretch.width * step / seconds >= _APART), None) if seconds else None
    if step is None:
        return
    first = ceil(stretch.began.timestamp() / step) * step
    for number in range(int(100 / _APART) + 1):
        at = stretch.began + timedelta(seconds=first - stretch.began.timestamp() + number * step)
        if stretch.began < at <= stretch.until:
            yield at


def _time(local: datetime, stretch: Stretch, dated: bool) -> str:
    fine = (stretch.until - stretch.began).total_seconds() < 5
    said = f"{local:%H:%M:%S}" + (f".{local.microsecond // 1000:03d}" if fine else "")
    return f"{local:%m-%d} {said}" if dated else said


def is_drawn(row: Row) -> bool:
    """Tell whether a row has a line in the chart."""
    return row.began is not None and row.kind not in (Kind.NOW, Kind.PATCH, Kind.GATHER, Kind.RACE)
