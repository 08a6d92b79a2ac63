"""The page of one run, ready to be drawn: plain data made from its timeline. Called by `runs`.

The templates beside change_form.html draw it, one for each part. What is long is cut here, and what was cut is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.utils.translation import pgettext_lazy

from ..core import codec
from ..core.failures import steps_of
from ..core.pretty import printable
from ..insight import display, paths, windows
from ..insight.display import Shown
from ..insight.graph import Graph
from ..insight.stored import Stored
from ..insight.timeline import Timeline
from ..insight.windows import FAILED, GOING, UNDO, Wanted
from ..models import Event, StepRecord, Timer, WorkflowRun
from . import chart, graphs, history, links, tables
from .chart import Chart
from .graphs import Drawing
from .history import Told
from .summary import Summary, summarize
from .tables import Child, Mail, Step, Table, Wait, whole
from .values import Value, value

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: Rows of one table on the page. A run may have any number.
MOST_ROWS = windows.ROWS
_CHOICES = {
    "": pgettext_lazy("steps", "All"),
    FAILED: pgettext_lazy("steps", "Failed"),
    GOING: pgettext_lazy("steps", "Not over"),
    UNDO: pgettext_lazy("steps", "Undo"),
}


@dataclass(frozen=True, slots=True)
class Values:
    """What was given to the run, what it returned, and what it was tagged with."""

    arguments: Value | None
    result: Value | None
    attributes: Value | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the choices above the steps: all, those that failed, those that are not over."""

    only: str
    label: str
    number: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Paging:
    """Where in the steps the page is: rows `first` to `last` of `total`, and which begin the windows beside it."""

    choices: Sequence[Choice]
    first: int
    last: int
    total: int
    before: int
    after: int
    last_first: int
    only: str
    #: The step whose failure ended the run, or which is tried again; and whether it is on this page.
    failed: str
    failed_anchor: str
    failed_shown: str
    failed_here: bool


@dataclass(frozen=True, slots=True)
class Page:
    """The parts of the page, in the order they are drawn."""

    summary: Summary
    values: Values | None
    chart: Chart | None
    paging: Paging
    steps: Table[Step] | None
    waits: Table[Wait] | None
    mail: Table[Mail] | None
    children: Table[Child]
    #: Of its workflow, with where this run has been and stands.
    graph: Drawing | None
    history: Told


def number(request: HttpRequest, name: str) -> int | None:
    """Return the number of a step that is asked for by this parameter; `None` if none is."""
    given = request.GET.get(name, "")
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 9 else None


def wanted(request: HttpRequest, run: WorkflowRun) -> Wanted:
    """Return which steps are asked for; where nothing is, those around the one that failed, else the last."""
    first = number(request, "from")
    only = request.GET.get("steps", "")
    step = request.GET.get("step", "") or (_culprit(run) if not only else "")
    return Wanted(first, step.replace("\0", ""), only)


def _culprit(run: WorkflowRun) -> str:
    """Return the first step that ended the run: a name, not what its error says."""
    try:
        steps = steps_of(codec.loads_plain(run.error)) if run.error else []
    except Exception:  # noqa: BLE001 - damage, of any kind: then the last rows are shown
        return ""
    return steps[0] if steps and isinstance(steps[0], str) else ""


def make(timeline: Timeline, site: AdminSite, request: HttpRequest, most: int = MOST_ROWS) -> Page:
    """Build the page of a run, as of the timeline's moment."""
    user = request.user
    steps = links.may_look(user, StepRecord)
    return Page(
        summary=summarize(timeline, site, request),
        values=_values(timeline, site) if timeline.payloads else None,
        chart=chart.chart(timeline, site) if steps else None,
        paging=_paging(timeline),
        steps=tables.steps(timeline, site) if steps else None,
        waits=tables.waits(timeline, most) if links.may_look(user, Timer) else None,
        mail=tables.mail(timeline, site, most) if links.may_look(user, Event) else None,
        children=tables.children(timeline, site),
        graph=graphs.drawing(_graph(timeline)) if steps else None,
        history=history.told(timeline.history, site, timeline.now, whose=history.whose(request)),
    )


def _graph(timeline: Timeline) -> Graph:
    run, report = timeline.run, timeline.report
    called = report.step if report is not None else None
    return paths.with_run(paths.recent(run.workflow), run, called or "")


def _values(timeline: Timeline, site: AdminSite) -> Values:
    """Return the run's own values; of what is long, what it begins with, as it is stored."""
    run = timeline.run
    attributes = codec.dumps_plain(run.attributes) if run.attributes else None
    return Values(
        value(_large(run.arguments) or timeline.arguments, whole(site, run, "arguments")),
        value(_large(run.result) or timeline.result, whole(site, run, "result")),
        value(_large(attributes) or timeline.attributes, whole(site, run, "attributes")),
    )


def _large(text: str | None) -> Shown | None:
    return None if text is None else display.large(Stored(text, len(text)), display.LIMIT)


def _paging(timeline: Timeline) -> Paging:
    window = timeline.window
    failed = next((step for step in timeline.error.steps), "") if timeline.error is not None else ""
    return Paging(
        choices=[
            Choice(only, str(label), window.counts[only], window.only == only)
            for only, label in _CHOICES.items()
            if only != UNDO or window.counts[only]
        ],
        first=window.first,
        last=window.last,
        total=window.total,
        before=max(1, window.first - window.most),
        after=min(window.first + window.most, window.last_first),
        last_first=window.last_first,
        only=window.only,
        failed=failed,
        failed_anchor=chart.anchor(failed),
        failed_shown=printable(failed),
        failed_here=any(record.name == failed for record in window.records),
    )
