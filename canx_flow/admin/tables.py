"""The tables of a run's page: its steps, timers, events and children, each with how many rows were left out.

Called by `page`. Each is drawn by a template of its own: steps.html, waits.html, events.html, children.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import quote, urlencode

from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..core.naming import label
from ..core.pretty import printable
from ..insight import display
from ..insight.messages import Message
from ..insight.reading import OpenWait
from ..insight.rows import Row
from ..insight.timeline import MOST_CHILDREN, Timeline
from ..models import WorkflowRun
from ..states import Kind, RecordState
from . import chart, fragments, links, rounds, words
from .rounds import Attempt
from .values import Failure, Value, value

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: Failed attempts of one step that are in view, the newest; the others are folded up. The engine itself keeps fifty.
MOST_ERRORS = 3
#: Characters of a value in a cell: what is longer is cut before it is written readably.
IN_CELL = 2_000


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed attempts of a step, oldest first: those that are folded up, and those in view."""

    folded: Sequence[Attempt]
    in_view: Sequence[Attempt]
    #: How many of the folded ones are attempts, and how many older ones are not stored any more.
    earlier: int
    gone: int
    #: Whether there was more than one attempt, so that the step's time is counted from the first.
    several: bool
    #: The last of them, with its traceback, unless the page's head has that; and where all tracebacks are shown.
    last: Failure | None
    url: str


@dataclass(frozen=True, slots=True)
class Step:
    name: SafeString
    anchor: str
    kind: str
    state: SafeString
    wait: SafeString | str
    attempts: int
    failures: Failures | None
    result: Value | None
    started: SafeString | str
    took: str
    #: Its name, if a fork may begin there.
    key: str
    #: From where the page shows this step, however many there are.
    url: str


@dataclass(frozen=True, slots=True)
class Wait:
    step: SafeString | str
    kind: str
    event: SafeString | str
    due: SafeString | str
    held: bool
    #: The step whose wait an event sent from here is for.
    awaits: str
    #: Whether waking the run means this one.
    wakes: bool
    #: Of no other wait of the run: by it a page knows the row again. So have events and children.
    key: str


@dataclass(frozen=True, slots=True)
class Mail:
    """An event: sent to this run, or a broadcast that it has read."""

    name: SafeString
    key: SafeString | str
    payload: Value | None
    sent: SafeString | str
    broadcast: bool
    reader: SafeString | str
    read: SafeString | str
    number: str


@dataclass(frozen=True, slots=True)
class Child:
    run: SafeString
    label: str
    state: SafeString
    key: str


_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Table(Generic[_Row]):
    """The rows of one table that are shown, and how many there are beside them."""

    rows: Sequence[_Row]
    left_out: int


def steps(timeline: Timeline, site: AdminSite) -> Table[Step]:
    """Return the steps that were read, oldest first: the older ones are left out."""
    return Table([_step(row, timeline, site) for row in timeline.rows], timeline.left_out)


def waits(timeline: Timeline, most: int) -> Table[Wait]:
    """Return the first `most` timers."""
    nearest = next((wait for wait in timeline.suspended_on if wait.due_at is not None), None)
    shown = [_wait(wait, timeline.now, wakes=wait is nearest) for wait in timeline.waits[:most]]
    return Table(shown, len(timeline.waits) - len(shown))


def mail(timeline: Timeline, site: AdminSite, most: int) -> Table[Mail]:
    """Return the last `most` events."""
    shown = [_mail(message, timeline, site) for message in timeline.messages[-most:]]
    return Table(shown, len(timeline.messages) - len(shown) + timeline.unread_left_out)


def children(timeline: Timeline, site: AdminSite) -> Table[Child]:
    """Return the last children, newest first; whether there are more than one beside them is not asked."""
    found, most = timeline.relatives.born, MOST_CHILDREN
    shown = [_child(child, site) for child in found[:most]]
    return Table(shown, len(found) - len(shown))


def _step(row: Row, timeline: Timeline, site: AdminSite) -> Step:
    return Step(
        name=fragments.name(row.name),
        anchor=chart.anchor(row.name),
        kind=str(words.KINDS.get(row.kind, row.kind)),
        state=fragments.badge(row.state, words.ROW_STATES),
        wait=fragments.due(row.wait.due_at, timeline.now) if row.wait is not None else "",
        attempts=row.attempts,
        failures=_failures(row, timeline, site) if row.errors else None,
        result=_result(row, timeline.run, site),
        started=fragments.moment(row.began, timeline.now),
        took=words.took(row.duration()),
        key=row.name if row.kind != Kind.UNDO else "",
        url=f"?{urlencode({'step': row.name})}#{quote(chart.anchor(row.name))}",
    )


def _failures(row: Row, timeline: Timeline, site: AdminSite) -> Failures:
    attempts, gone = rounds.of(row, timeline)
    shown = len(attempts) - MOST_ERRORS if len(attempts) > MOST_ERRORS + 1 else 0
    return Failures(
        folded=attempts[:shown],
        in_view=attempts[shown:],
        earlier=sum(attempt.failure is not None for attempt in attempts[:shown]),
        gone=gone,
        several=max(row.attempts, len(row.errors) + (row.state == RecordState.COMPLETED)) > 1,
        last=attempts[-1].failure if row.name not in _told_above(timeline) else None,
        url=whole(site, timeline.run, f"attempts-{row.id}") if row.id is not None and timeline.payloads else "",
    )


def _told_above(timeline: Timeline) -> tuple[str, ...]:
    """Return the step whose own traceback stands in the page's head."""
    return timeline.error.steps[:1] if timeline.error is not None else ()


def whole(site: AdminSite, run: WorkflowRun, what: str) -> str:
    """Return the address of the whole of a value of a run."""
    return links.page(site, WorkflowRun, run.pk, "value", what) or ""


def _result(row: Row, run: WorkflowRun, site: AdminSite) -> Value | None:
    """Return what it has returned; what is long is neither loaded nor decoded."""
    return value(display.large(row.stored, IN_CELL, row.names) or row.result, whole(site, run, f"step-{row.id}"))


def _wait(wait: OpenWait, now: datetime, *, wakes: bool) -> Wait:
    return Wait(
        step=fragments.name(wait.step) if wait.step else "",
        kind=str(words.KINDS.get(wait.kind, wait.kind)),
        event=_awaited(wait),
        due=fragments.due_in_full(wait.due_at, now),
        held=wait.held,
        awaits=wait.step if wait.kind == Kind.WAIT else "",
        wakes=wakes,
        key=f"{wait.kind} {wait.step}",
    )


def _awaited(wait: OpenWait) -> SafeString | str:
    """Return what a wait is for: a child, the task of another executor, or an event."""
    if wait.child is not None:
        return printable(str(wait.child))
    return fragments.name(wait.key or "") if wait.kind == Kind.DELEGATE else _event(wait.event, wait.key)


def _event(name: str | None, key: str | None) -> SafeString | str:
    if name is None:
        return ""
    return fragments.name(name) if key is None else format_html("{} {}", fragments.name(name), fragments.name(key))


def _mail(message: Message, timeline: Timeline, site: AdminSite) -> Mail:
    now, url = timeline.now, whole(site, timeline.run, f"event-{message.id}")
    return Mail(
        name=fragments.name(message.name),
        key=fragments.name(message.key) if message.key is not None else "",
        payload=value(display.large(message.stored, IN_CELL, message.names) or message.payload, url),
        sent=fragments.moment(message.sent_at, now),
        broadcast=message.broadcast,
        reader=fragments.name(message.consumed_by) if message.consumed_by is not None else "",
        read=fragments.moment(message.consumed_at, now),
        number=str(message.id),
    )


def _child(run: WorkflowRun, site: AdminSite) -> Child:
    named = printable(label(run.workflow, run.version))
    return Child(links.run_link(site, run.id), named, fragments.badge(run.state), str(run.id))
