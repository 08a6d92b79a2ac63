"""The head of a run's page: its state and why, its progress, its error and the facts about it. Called by `page`.

Drawn by summary.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..core.options import Progress
from ..core.pretty import printable
from ..insight import reading
from ..insight.timeline import Timeline
from ..models import Worker, WorkflowRun
from . import fragments, links, values, words
from .values import Failure
from .why import why

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

Fact = tuple[str, SafeString | str]


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
    error = timeline.error
    return Summary(
        state=fragments.badge(timeline.run.state),
        why=why(timeline),
        progress=_progress(timeline.progress),
        failure=values.failure(error, timeline.now) if error is not None else None,
        facts=list(_facts(timeline, site, request)),
    )


def _facts(timeline: Timeline, site: AdminSite, request: HttpRequest) -> Iterator[Fact]:
    """Yield the facts of a run, leaving out those that have their default value."""
    run, now = timeline.run, timeline.now
    candidates: list[Fact] = [
        (_("Id"), format_html('<code class="canx-id">{}</code>', run.id)),
        (_("Workflow"), fragments.name(timeline.label)),
        (_("Code"), _("changed since the start; it has gone on with the new code") if run.code_changed else ""),
        (_("Subject"), links.subject_named(site, run, request)),
        (_("Key"), fragments.name(run.key) if run.key is not None else ""),
        (_("Queue"), fragments.name(run.queue)),
        (_("Priority"), str(run.priority) if run.priority else ""),
        (_("Parent"), links.run_link(site, run.parent_id) if run.parent_id else ""),
        (_("Generation"), _generation(run, now)),
        (_("Forked from"), _forked_from(site, run)),
        (_("Forks"), format_html_join(", ", "{}", ((links.run_link(site, fork_id),) for fork_id in timeline.forks))),
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


def _generation(run: WorkflowRun, now: datetime) -> SafeString | str:
    """Say how often the run has begun anew, and when it last did."""
    if run.continued_at is None:
        return ""
    return format_html(_("{}, since {}"), run.generation, fragments.moment(run.continued_at, now))


def _forked_from(site: AdminSite, run: WorkflowRun) -> SafeString | str:
    """Say which run this one was given its first steps by, and which step was the first of its own."""
    if run.forked_from_id is None:
        return ""
    return format_html(_("{} at {}"), links.run_link(site, run.forked_from_id), fragments.name(run.forked_at))


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


def _progress(stored: Progress | None) -> str:
    """Write `3 of 10: parcels`."""
    if not stored:
        return ""
    done, total, message = (stored.get(name) for name in ("done", "total", "message"))
    counted = _("%(done)s of %(total)s") % {"done": done, "total": total} if total is not None else str(done)
    return printable(f"{counted}: {message}" if message else counted)
