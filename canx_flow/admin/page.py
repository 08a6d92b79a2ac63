"""Everything the page of one run shows, ready to be drawn: plain data made from its timeline. Called by `runs`.

The templates beside change_form.html draw it, one for each part. What is long is cut here, and what was cut is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..core.options import Progress
from ..core.pretty import pretty, printable
from ..insight import display, reading
from ..insight.display import Shown, ShownError
from ..insight.reading import OpenWait
from ..insight.timeline import CALLED, INTERRUPTED, Message, Row, Timeline
from ..models import Worker, WorkflowRun
from ..states import RecordState
from . import fragments, links, words
from .why import why

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: Rows of one table on the page, and of one for those who ask for more (`?rows=more`). A run may have any number.
MOST_ROWS = 100
MORE_ROWS = 1000
#: Failed attempts of one step that are shown, the newest; the engine itself keeps fifty.
MOST_ERRORS = 5
#: Characters of a value that stand in a table's cell; the whole of it unfolds.
IN_CELL = 80

_NEWLINE = re.compile(r"\n\s*")

Fact = tuple[str, SafeString | str]


@dataclass(frozen=True, slots=True)
class Value:
    """A stored value: on one line, or folded up behind its beginning."""

    text: str
    beginning: str
    left_out: int
    note: str

    @property
    def folded(self) -> bool:
        return self.beginning != self.text


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt, or what ended the run."""

    summary: str
    traceback: str
    at: SafeString | str


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


@dataclass(frozen=True, slots=True)
class Page:
    """`…_left_out`: rows that are not shown, older ones."""

    state: SafeString
    why: SafeString
    facts: Sequence[Fact]
    progress: str
    failure: Failure | None
    arguments: Value | None
    result: Value | None
    attributes: Value | None
    steps: Sequence[Step]
    steps_left_out: int
    #: Some of these would be shown to who asks for more.
    more: bool
    waits: Sequence[Wait]
    waits_left_out: int
    mail: Sequence[Mail]
    mail_left_out: int
    children: Sequence[Child]
    children_left_out: bool


def rows_wanted(request: HttpRequest) -> int:
    return MORE_ROWS if request.GET.get("rows") == "more" else MOST_ROWS


def make(timeline: Timeline, site: AdminSite, request: HttpRequest, most: int = MOST_ROWS) -> Page:
    """Build the page of a run, as of the timeline's moment, with the last `most` rows of each table."""
    run, now = timeline.run, timeline.now
    born = WorkflowRun.objects.using(run._state.db).filter(parent_id=run.id).order_by("-id")
    children = list(born.only("id", "workflow", "state")[: most + 1])
    return Page(
        state=fragments.badge(run.state),
        why=why(timeline),
        facts=list(facts(timeline, site, request)),
        progress=progress(timeline.progress),
        failure=_failure(error, now) if (error := timeline.error) is not None else None,
        arguments=value(timeline.arguments),
        result=value(timeline.result),
        attributes=value(attributes(run)),
        steps=[_step(row, now) for row in timeline.rows],
        steps_left_out=timeline.left_out,
        more=most < MORE_ROWS,
        waits=[_wait(wait, now) for wait in timeline.waits[:most]],
        waits_left_out=max(len(timeline.waits) - most, 0),
        mail=[_mail(message, now) for message in timeline.messages[-most:]],
        mail_left_out=max(len(timeline.messages) - most, 0) + timeline.unread_left_out,
        children=[_child(child, site) for child in children[:most]],
        children_left_out=len(children) > most,
    )


# -- about the run ---------------------------------------------------------------------------------


def facts(timeline: Timeline, site: AdminSite, request: HttpRequest) -> Iterator[Fact]:
    """Yield the facts of a run, leaving out those that have their default value."""
    run, now = timeline.run, timeline.now
    candidates: list[Fact] = [
        (_("Id"), format_html('<code class="canx-id">{}</code>', run.id)),
        (_("Workflow"), fragments.name(timeline.label)),
        (_("Subject"), links.subject_named(site, run, request)),
        (_("Key"), fragments.name(run.key) if run.key is not None else ""),
        (_("Queue"), fragments.name(run.queue)),
        (_("Priority"), str(run.priority) if run.priority else ""),
        (_("Parent"), links.run_link(site, run.parent_id) if run.parent_id else ""),
        (_("Generation"), str(run.generation) if run.generation else ""),
        (_("Created"), fragments.moment_in_full(run.created_at, now)),
        (_("Started"), fragments.moment_in_full(run.started_at, now)),
        (_("Finished"), fragments.moment_in_full(run.finished_at, now)),
        (_("Duration"), words.took(reading.duration(run, now))),
        (_("Deadline"), fragments.moment_in_full(run.deadline_at, now) if run.finished_at is None else ""),
        (_("Worker"), _worker(site, run, request)),
        (_("Recoveries"), str(run.recoveries) if run.recoveries else ""),
        (_("Last call"), _control(run, now)),
    ]
    return (fact for fact in candidates if fact[1])


def _worker(site: AdminSite, run: WorkflowRun, request: HttpRequest) -> SafeString | str:
    if run.owner_id is None:
        return ""
    url = links.page(site, Worker, run.owner_id) if links.may_view(site, Worker, request) else None
    return fragments.link(url, printable(str(run.owner or run.owner_id)))


def _control(run: WorkflowRun, now: datetime) -> SafeString | str:
    """Say who called what last."""
    if not run.control:
        return ""
    said = format_html("{} {}", run.control, fragments.moment(run.control_at, now))
    if run.control_by:
        said = format_html(_("{} by {}"), said, printable(run.control_by))
    return format_html("{}: {}", said, printable(run.control_reason)) if run.control_reason else said


def progress(stored: Progress | None) -> str:
    """Write `3 of 10: parcels`."""
    if not stored:
        return ""
    done, total, message = (stored.get(name) for name in ("done", "total", "message"))
    counted = _("%(done)s of %(total)s") % {"done": done, "total": total} if total is not None else str(done)
    return printable(f"{counted}: {message}" if message else counted)


def attributes(run: WorkflowRun) -> Shown | None:
    if not run.attributes:
        return None
    text = pretty(run.attributes)
    return Shown(text[: display.LIMIT], max(len(text) - display.LIMIT, 0))


# -- values and failures ---------------------------------------------------------------------------


def value(shown: Shown | None) -> Value | None:
    if shown is None:
        return None
    line = _NEWLINE.sub(" ", shown.text[: 4 * IN_CELL])
    fits = line == shown.text and len(line) <= IN_CELL
    return Value(shown.text, line if fits else f"{line[:IN_CELL].rstrip()} …", shown.left_out, shown.note)


def _failure(error: ShownError, now: datetime) -> Failure:
    return Failure(error.summary, error.traceback, fragments.moment(error.at, now))


# -- rows of tables --------------------------------------------------------------------------------


def _step(row: Row, now: datetime) -> Step:
    return Step(
        name=fragments.name(row.name),
        kind=str(words.KINDS.get(row.kind, row.kind)),
        state=fragments.badge(row.state, words.ROW_STATES),
        wait=fragments.due(row.wait.due_at, now) if row.wait is not None else "",
        attempts=row.attempts,
        failures=[_failure(error, now) for error in row.errors[-MOST_ERRORS:]],
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
        event=_event(wait.event, wait.key),
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
