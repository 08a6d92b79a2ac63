"""The page of one run, ready to be drawn: plain data made from its timeline. Called by `runs`.

The templates beside change_form.html draw it, one for each part. What is long is cut here, and what was cut is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.http import HttpRequest

from ..core.pretty import pretty
from ..insight import display
from ..insight.display import Shown
from ..insight.timeline import Timeline
from ..models import WorkflowRun
from . import tables
from .summary import Summary, summarize
from .tables import Child, Mail, Step, Table, Wait
from .values import Value, value

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: Rows of one table on the page, and of one for those who ask for more (`?rows=more`). A run may have any number.
MOST_ROWS = 100
MORE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Values:
    """What was given to the run, what it returned, and what it was tagged with."""

    arguments: Value | None
    result: Value | None
    attributes: Value | None


@dataclass(frozen=True, slots=True)
class Page:
    """The parts of the page, in the order they are drawn."""

    summary: Summary
    values: Values
    steps: Table[Step]
    waits: Table[Wait]
    mail: Table[Mail]
    children: Table[Child]
    #: Whether some of the rows that were left out would be shown to those who ask for more.
    more: bool


def rows_wanted(request: HttpRequest) -> int:
    return MORE_ROWS if request.GET.get("rows") == "more" else MOST_ROWS


def make(timeline: Timeline, site: AdminSite, request: HttpRequest, most: int = MOST_ROWS) -> Page:
    """Build the page of a run, as of the timeline's moment, with the last `most` rows of each table."""
    run = timeline.run
    return Page(
        summary=summarize(timeline, site, request),
        values=Values(value(timeline.arguments), value(timeline.result), value(_attributes(run))),
        steps=tables.steps(timeline),
        waits=tables.waits(timeline, most),
        mail=tables.mail(timeline, most),
        children=tables.children(run, site, most),
        more=most < MORE_ROWS,
    )


def _attributes(run: WorkflowRun) -> Shown | None:
    if not run.attributes:
        return None
    text = pretty(run.attributes)
    return Shown(text[: display.LIMIT], max(len(text) - display.LIMIT, 0))
