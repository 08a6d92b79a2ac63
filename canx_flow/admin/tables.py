"""The tables of a run's page: its steps, timers, events and children, each with how many rows were left out.

Called by `page`. Each is drawn by a template of its own: steps.html, waits.html, events.html, children.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..core.pretty import printable
from ..insight import reading
from ..insight.messages import Message
from ..insight.reading import OpenWait
from ..insight.timeline import CALLED, INTERRUPTED, Row, Timeline
from ..models import WorkflowRun
from ..states import RecordState
from . import fragments, links, words
from .values import Failure, Value, failure, value

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: Failed attempts of one step that are shown, the newest; the engine itself keeps fifty.
MOST_ERRORS = 5


@dataclass(frozen=True, slots=True)
class Step:
    name: SafeString
    kind: str
    state: SafeString
    wait: SafeString | str
    attempts: int
    failures: Sequence[Failure]
    failures_left_out: int
    #: The number of the first attempt that is shown; none where failures and attempts do not match.
    first_failure: int | None
    result: Value | None
    started: SafeString | str
    took: str


@dataclass(frozen=True, slots=True)
class Wait:
    step: SafeString | str
    kind: str
    event: SafeString | str
    due: SafeString | str
    held: bool


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


@dataclass(frozen=True, slots=True)
class Child:
    run: SafeString
    label: str
    state: SafeString


_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Table(Generic[_Row]):
    """The rows of one table that are shown, and how many there are beside them."""

    rows: Sequence[_Row]
    left_out: int


def steps(timeline: Timeline) -> Table[Step]:
    """Return the steps that were read, oldest first: the older ones are left out."""
    return Table([_step(row, timeline.now) for row in timeline.rows], timeline.left_out)


def waits(timeline: Timeline, most: int) -> Table[Wait]:
    """Return the first `most` timers."""
    shown = [_wait(wait, timeline.now) for wait in timeline.waits[:most]]
    return Table(shown, len(timeline.waits) - len(shown))


def mail(timeline: Timeline, most: int) -> Table[Mail]:
    """Return the last `most` events."""
    shown = [_mail(message, timeline.now) for message in timeline.messages[-most:]]
    return Table(shown, len(timeline.messages) - len(shown) + timeline.unread_left_out)


def children(run: WorkflowRun, site: AdminSite, most: int) -> Table[Child]:
    """Read the last `most` children, newest first; whether there are more than one beside them is not asked."""
    found = reading.children(run, most + 1)
    shown = [_child(child, site) for child in found[:most]]
    return Table(shown, len(found) - len(shown))


def _step(row: Row, now: datetime) -> Step:
    return Step(
        name=fragments.name(row.name),
        kind=str(words.KINDS.get(row.kind, row.kind)),
        state=fragments.badge(row.state, words.ROW_STATES),
        wait=fragments.due(row.wait.due_at, now) if row.wait is not None else "",
        attempts=row.attempts,
        failures=[failure(error, now) for error in row.errors[-MOST_ERRORS:]],
        failures_left_out=(left_out := max(len(row.errors) - MOST_ERRORS, 0)),
        first_failure=left_out + 1 if _is_each_attempt_known(row) else None,
        result=value(row.result),
        started=fragments.moment(row.began, now),
        took=words.took(row.duration()),
    )


def _is_each_attempt_known(row: Row) -> bool:
    """Tell whether every attempt has a stored error: `retry` counts anew, and the engine keeps only the last errors."""
    succeeded = row.state == RecordState.COMPLETED
    return row.state not in (CALLED, INTERRUPTED) and len(row.errors) == row.attempts - succeeded


def _wait(wait: OpenWait, now: datetime) -> Wait:
    return Wait(
        step=fragments.name(wait.step) if wait.step else "",
        kind=str(words.KINDS.get(wait.kind, wait.kind)),
        event=_event(wait.event, wait.key) if wait.child is None else printable(str(wait.child)),
        due=fragments.due_in_full(wait.due_at, now),
        held=wait.held,
    )


def _event(name: str | None, key: str | None) -> SafeString | str:
    if name is None:
        return ""
    return fragments.name(name) if key is None else format_html("{} {}", fragments.name(name), fragments.name(key))


def _mail(message: Message, now: datetime) -> Mail:
    return Mail(
        name=fragments.name(message.name),
        key=fragments.name(message.key) if message.key is not None else "",
        payload=value(message.payload),
        sent=fragments.moment(message.sent_at, now),
        broadcast=message.broadcast,
        reader=fragments.name(message.consumed_by) if message.consumed_by is not None else "",
        read=fragments.moment(message.consumed_at, now),
    )


def _child(run: WorkflowRun, site: AdminSite) -> Child:
    return Child(links.run_link(site, run.id), printable(str(run.workflow)), fragments.badge(run.state))
