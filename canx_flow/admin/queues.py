"""The page of queues: what is due in each, since when, what runs, sleeps and ends, and which workers serve it.

Mixed into the admin of runs, whose permission it shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from .. import conf
from ..core import clock
from ..core.pretty import printable
from ..insight import queues, traffic
from ..insight.advice import worker_for
from ..insight.overdue import MOST as MOST_DUE
from ..insight.queues import Queue
from ..insight.serving import Serving
from ..insight.speech import number, span
from ..insight.traffic import Traffic
from ..models import Worker, WorkflowRun
from . import fragments, links, live, tabs, words
from .limits import limit_rows
from .pausing import PausingMixin
from .steering import paused, whose

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: Workers that are named one by one.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Steering:
    """A queue's limits, whether it is paused, and the address of the page that changes both; each empty for none."""

    limits: str
    paused: SafeString | str
    change: str


@dataclass(frozen=True, slots=True)
class Passing:
    """How many runs of a queue sleep or wait, the address of these (empty for none), and how many have finished within
    the last minute."""

    suspended: str
    url: str
    finished: SafeString


@dataclass(frozen=True, slots=True)
class Row:
    """One queue. `level`: `bad` where runs are due and no live worker serves it, `warn` where there is only none."""

    #: The name itself: by it the page knows the row again.
    key: str
    name: SafeString
    url: str
    due: str
    due_url: str
    oldest: SafeString | str
    running: str
    passing: Passing
    workers: SafeString | str
    level: str
    command: str
    steering: Steering


class QueuesMixin(PausingMixin):
    """The page `queues/` beside the list of runs."""

    queues_template = "admin/canx_flow/queues.html"

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_queues"
        return [path("queues/", self.admin_site.admin_view(self.queues_view), name=name), *super().get_urls()]

    def queues_view(self, request: HttpRequest) -> HttpResponse:
        """Show all queues to users who may see runs."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return live.overview(request, partial(self._draw_queues, request))

    def _draw_queues(self, request: HttpRequest) -> TemplateResponse:
        now = clock.now()
        found, passing = queues.read(conf.get().database, now), traffic.read(conf.get().database, now)
        named = links.may_view(self.admin_site, Worker, request)
        changes, payloads = self.has_manage_queue_permission(request), self.has_payloads_permission(request)
        more: dict[str, Any] = {
            "title": _("Queues"), "left_out": found.left_out, "here": "queues",
            "rows": _rows(found.rows, passing, self.admin_site, linked=named, changes=changes, payloads=payloads),
            "since": "" if passing.since is None else fragments.moment(passing.since, now, briefly=True),
            "limits": limit_rows(conf.get().database, now),
            "paused": [
                (
                    format_html("{}{}", fragments.name(row.workflow), whose(row.by, row.reason if payloads else "")),
                    self.pause_url("resume", row.workflow) if changes else "",
                )
                for row in queues.paused_workflows(conf.get().database)
            ],
        }  # fmt: skip
        return self.ask(request, more, self.queues_template)


def _rows(
    found: Sequence[Queue], passing: Traffic, site: AdminSite, *, linked: bool, changes: bool, payloads: bool
) -> list[Row]:
    url = links.listing(site, WorkflowRun)
    return [
        Row(
            key=queue.name, name=fragments.name(queue.name),
            url=f"{url}?{urlencode({'state': 'unfinished', 'queue': queue.name})}",
            due=f"{'≥' if queue.is_capped else ''}{number(min(queue.due, MOST_DUE))}",
            due_url=f"{url}?{urlencode({'state': 'all', 'queue': queue.name, 'due': 'now'})}" if queue.due else "",
            oldest=_oldest(queue, site), running=number(queue.running),
            passing=_passing(queue.name, passing, url),
            workers=_workers(queue.workers, site, linked=linked), level=_level(queue),
            command=f"manage.py {worker_for(queue.name)}" if _level(queue) else "",
            steering=Steering(
                limits=", ".join(f"{name} {_value(value)}" for name, value in queue.limits.items()),
                paused=_paused(queue, payloads=payloads), change=_change(queue, site) if changes else "",
            ),
        )
        for queue in found
    ]  # fmt: skip


def _value(value: Any) -> str:
    return pgettext("limit of a queue", "none") if value is None else str(value)


def _paused(queue: Queue, *, payloads: bool) -> SafeString | str:
    if queue.state is None or not queue.state.paused:
        return ""
    return paused(queue.state.paused_by, queue.state.paused_reason if payloads else "")


def _change(queue: Queue, site: AdminSite) -> str:
    return reverse("admin:canx_flow_workflowrun_queue", args=[queue.name], current_app=site.name)


def _level(queue: Queue) -> str:
    if queue.served or queue.over:
        return ""
    return "bad" if queue.due else "warn"


def _oldest(queue: Queue, site: AdminSite) -> SafeString | str:
    if queue.oldest is None:
        return ""
    return format_html("{} {}", span(queue.oldest.age), links.run_link(site, queue.oldest.run_id))


def _passing(queue: str, found: Traffic, url: str | None) -> Passing:
    suspended = f"{'≥' if found.is_capped else ''}{number(found.suspended.get(queue, 0))}"
    query = urlencode({"state": tabs.SUSPENDED, "queue": queue})
    return Passing(suspended, f"{url}?{query}" if suspended != number(0) else "", _finished(queue, found))


def _finished(queue: str, found: Traffic) -> SafeString:
    """Say how many runs have ended, and how many of them have failed."""
    ended, failed = found.ended.get(queue, 0), found.failed.get(queue, 0)
    said = f"{'≥' if found.is_short else ''}{number(ended)}"
    if not failed:
        return format_html("{}", said)
    of_those = ngettext("{number} failed", "{number} failed", failed).format(number=number(failed))
    return format_html('{} <span class="canx-reason-bad">({})</span>', said, of_those)


def _workers(workers: Sequence[Serving], site: AdminSite, *, linked: bool) -> SafeString | str:
    """Name the workers that serve it, silent ones with a badge."""
    if not workers:
        return ""
    named = sorted(workers, key=lambda worker: not worker.lives)[:_NAMED]
    said = format_html_join(", ", "{}", ((_worker(worker, site, linked=linked),) for worker in named))
    more = len(workers) - len(named)
    return format_html("{} {}", said, _("and {number} more").format(number=number(more))) if more else said


def _worker(worker: Serving, site: AdminSite, *, linked: bool) -> SafeString:
    link = fragments.link(links.page(site, Worker, worker.id) if linked else None, printable(worker.name))
    return link if worker.lives else format_html("{} {}", link, fragments.badge(words.SILENT, words.WORKER_STATES))
