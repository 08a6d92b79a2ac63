"""The head of a run's page: its state and why, its progress, its error and the facts about it. Called by `page`.

Drawn by summary.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from ..core import policies
from ..core.options import Progress
from ..core.pretty import printable
from ..insight import reading, speech
from ..insight.display import ShownError
from ..insight.timeline import Timeline
from ..models import Worker, WorkflowRun
from ..states import CANCELLED, FAILED, PARKED, PAUSED
from . import fragments, history, links, values, words
from . import why as drawn
from .values import Failure

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

Fact = tuple[str, SafeString | str]
#: The last calls that the sentence about a run tells of, with who made them and why.
_TOLD_BY_STATE = {("cancel", CANCELLED), ("pause", PAUSED)}


@dataclass(frozen=True, slots=True)
class Summary:
    """What the page says first. `facts`: pairs of a name and what is said."""

    state: SafeString
    why: SafeString
    progress: str
    failure: Failure | None
    facts: Sequence[Fact]


def summarize(timeline: Timeline, site: AdminSite, request: HttpRequest) -> Summary:
    """Build the head of the page, with the links that this user may follow."""
    return Summary(
        state=fragments.badge(timeline.run.state),
        why=drawn.on_page(timeline.why, timeline.now, site),
        progress=_progress(timeline.progress),
        failure=_failure(timeline, timeline.error),
        facts=list(_facts(timeline, site, request)),
    )


def _failure(timeline: Timeline, error: ShownError | None) -> Failure | None:
    """Return what ended the run, with the last traceback of the step that did; of a parked one what is not said yet."""
    if error is None:
        return None
    row = next((row for row in timeline.rows if row.name == error.step and row.errors), None)
    if row is not None and error.is_step_s:
        error = replace(error, traceback=row.errors[-1].traceback)
    failure = values.failure(error, timeline.now)
    if not _is_said(timeline, error):
        return failure
    return replace(failure, summary="") if failure.traceback else None


def _is_said(timeline: Timeline, error: ShownError) -> bool:
    """Tell whether the sentence about the run says what the error says: why it is parked, or what its step raised."""
    if timeline.run.state == PARKED:
        return error.message in timeline.run.reason
    return timeline.run.state == FAILED and error.is_step_s and bool(error.steps)


def _facts(timeline: Timeline, site: AdminSite, request: HttpRequest) -> Iterator[Fact]:
    """Yield the facts of a run, leaving out those that have their default value."""
    run, now = timeline.run, timeline.now
    candidates: list[Fact] = [
        (_("Id"), format_html('<code class="canx-id">{}</code>', run.id)),
        (_("Workflow"), fragments.link(links.workflow_page(site, run.workflow), fragments.name(timeline.label))),
        (_("Code"), _("changed since the start; it has gone on with the new code") if run.code_changed else ""),
        (_("Subject"), links.subject_named(site, run, request)),
        (_("Key"), fragments.name(run.key) if run.key is not None else ""),
        *_policies(run, now),
        (_("Queue"), fragments.name(run.queue)),
        (_("Priority"), str(run.priority) if run.priority else ""),
        (_("Parent"), links.run_link(site, run.parent_id) if run.parent_id else ""),
        (_("Generation"), _generation(run, now)),
        (_("Forked from"), _forked_from(site, run)),
        (_("Forks"), format_html_join(", ", "{}", ((links.run_link(site, fork_id),) for fork_id in timeline.forks))),
        (_("Created"), fragments.moment_in_full(run.created_at, now)),
        (_("Started"), fragments.moment_in_full(run.started_at, now)),
        (_("Finished"), fragments.moment_in_full(run.finished_at, now)),
        (pgettext("run", "Duration"), words.took(reading.duration(run, now))),
        (_("Deadline"), fragments.moment_in_full(run.deadline_at, now) if run.finished_at is None else ""),
        (_("Worker"), _worker(site, run, request)),
        (_("Recoveries"), str(run.recoveries) if run.recoveries else ""),
        (_("Last call"), _control(run, now, reason=timeline.payloads)),
    ]
    return (fact for fact in candidates if fact[1])


def _policies(run: WorkflowRun, now: datetime) -> Iterator[Fact]:
    """Yield the name that it holds until its end, until when it must have started, and the event that cancels it."""
    given = policies.read(run.policies)
    if given.singleton is not None:
        yield pgettext("run", "Singleton"), fragments.name(given.singleton)
    if given.expires_at is not None and run.started_at is None and run.finished_at is None:
        yield pgettext("run", "Expires"), fragments.due_in_full(given.expires_at, now)
    if given.cancel_on is not None and run.finished_at is None:
        names = format_html_join(" ", "{}", ((fragments.name(name),) for name in given.cancel_on if name is not None))
        yield _("Cancelled by event"), names


def _generation(run: WorkflowRun, now: datetime) -> SafeString | str:
    """Say how often the run has begun anew, and when it last did."""
    if run.continued_at is None:
        return ""
    since = fragments.moment(run.continued_at, now)
    return format_html(_("{number}, since {when}"), number=speech.number(run.generation), when=since)


def _forked_from(site: AdminSite, run: WorkflowRun) -> SafeString | str:
    """Say which run this one was given its first steps by, and which step was the first of its own."""
    if run.forked_from_id is None:
        return ""
    origin = links.run_link(site, run.forked_from_id)
    return format_html(_("{run} at {step}"), run=origin, step=fragments.name(run.forked_at))


def _worker(site: AdminSite, run: WorkflowRun, request: HttpRequest) -> SafeString | str:
    if run.owner_id is None:
        return ""
    url = links.page(site, Worker, run.owner_id) if links.may_view(site, Worker, request) else None
    return fragments.link(url, printable(str(run.owner or run.owner_id)))


def _control(run: WorkflowRun, now: datetime, *, reason: bool) -> SafeString | str:
    """Say who called what last, and why, to users who may see what comes from code; unless the sentence says it."""
    if not run.control or (run.control, run.state) in _TOLD_BY_STATE:
        return ""
    text = _("{what} {when} by {who}") if run.control_by else "{what} {when}"
    said = format_html(
        text, what=history.verb(run.control), when=fragments.moment(run.control_at, now), who=printable(run.control_by)
    )
    return format_html("{}: {}", said, printable(run.control_reason)) if reason and run.control_reason else said


def _progress(stored: Progress | None) -> str:
    """Write `3 of 10: parcels`."""
    if not stored:
        return ""
    done, total, message = (stored.get(name) for name in ("done", "total", "message"))
    counted = _("{done} of {total}").format(done=done, total=total) if total is not None else str(done)
    return printable(f"{counted}: {message}" if message else counted)
