"""The dashboard: what fails, how many runs are in which state, start and end, what is due, which steps take long.

A page beside the list of runs, and in short a block of the admin's index. Each part is read by a fixed number of
bounded queries; plain functions of `insight` read them, this module puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib.admin.sites import AdminSite, all_sites
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import conf, states
from ..core import clock
from ..insight import alike, counting, queues, slowest, throughput
from ..insight.alike import Failed, Group
from ..insight.kept import Kept
from ..insight.queues import Queues
from ..insight.slowest import Slow
from ..insight.speech import number
from ..insight.throughput import DAY, HOUR, MINUTE, Throughput
from ..models import Worker, WorkflowRun
from . import fragments, links, live, plot, tabs, words
from .alike import Failures, by_type_alone, failures
from .plot import Plot

if TYPE_CHECKING:
    from .acting import ActingMixin as _Base
else:
    _Base = object

#: Kinds of failures, and slow steps, that are shown.
MOST_FAILURES, MOST_STEPS = 10, 10
#: The same in the index's block, and the newest runs that it looks at for their ends.
FEW_FAILURES, FEW_RUNS = 3, 2_000
#: Seconds for which a process shows there what it has read: the index is where everybody begins.
FRESH = 10.0
_SCALES = {
    MINUTE: gettext_lazy("per minute"),
    HOUR: gettext_lazy("per hour"),
    DAY: gettext_lazy("per day"),
}
_EXTENTS = {
    MINUTE: gettext_lazy("In the last hour"),
    HOUR: gettext_lazy("In the last 24 hours"),
    DAY: gettext_lazy("In the last 30 days"),
}
_NONE = "\N{EN DASH}"
#: In the order in which they are shown; of those that have completed, an index has none to be counted.
_COUNTED = (
    states.FAILED, states.PARKED, states.RUNNING, states.PENDING, states.RETRYING, states.SLEEPING, states.WAITING,
    states.PAUSED, states.STOPPING, states.CANCELLED,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tile:
    """One number, with what it counts, and where that is listed."""

    label: SafeString | str
    number: Any
    url: str
    note: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True)
class Ends:
    """Runs that started, completed and failed: totals, bars and table. `since`: before this, ends are not known."""

    per: str
    extent: str
    started: str
    completed: str
    failed: str
    since: SafeString | str
    plot: Plot


@dataclass(frozen=True, slots=True)
class Step:
    """One of the slowest steps."""

    workflow: SafeString
    step: SafeString
    calls: str
    p50: str
    p95: str
    longest: SafeString
    #: Of no other row: by it the page knows the row again.
    key: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """The parts of the page; the index's block has no `steps`."""

    failures: Failures
    states: Sequence[Tile]
    health: Sequence[Tile]
    ends: Ends
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Facts:
    """What all users are shown, as it was found at the moment `at`; `numbers`: how many runs are in each state."""

    at: datetime
    failed: Sequence[Failed]
    groups: Sequence[Group]
    ends: Throughput
    numbers: Mapping[str, int]
    queues: Queues


#: By database, time zone, and whether what errors say may be known.
_kept: Kept[tuple[str, str, bool], Facts] = Kept(most=50)


def forget() -> None:
    """Read what the index shows anew when it is asked for next."""
    _kept.forget()


class DashboardMixin(_Base):
    """The page `dashboard/` beside the list of runs."""

    dashboard_template = "admin/canx_flow/dashboard.html"

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_dashboard"
        page = path("dashboard/", self.admin_site.admin_view(self.dashboard_view), name=name)
        return [page, *super().get_urls()]

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Show it to users who may see runs."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        per = request.GET.get("per", MINUTE)
        per = per if per in _SCALES else MINUTE
        return live.overview(request, partial(self._draw_dashboard, request, per))

    def _draw_dashboard(self, request: HttpRequest, per: str) -> TemplateResponse:
        scales = [(name, label, name == per) for name, label in _SCALES.items()]
        more = {"title": _("Dashboard"), "board": board(self, request, per), "scales": scales, "here": "dashboard"}
        return self.ask(request, more, self.dashboard_template)


def block(request: HttpRequest) -> Mapping[str, Any]:
    """Return what the index's block shows; nothing to users who may not see runs, or where it has no page."""
    site = _site(request)
    admin = site.get_model_admin(WorkflowRun) if site is not None and site.is_registered(WorkflowRun) else None
    if site is None or not isinstance(admin, DashboardMixin) or not admin.has_view_permission(request):
        return {}
    found = board(admin, request, MINUTE, briefly=True)
    return {"board": found, "url": reverse("admin:canx_flow_workflowrun_dashboard", current_app=site.name)}


def _site(request: HttpRequest) -> AdminSite | None:
    name = getattr(request, "current_app", None)
    return next((site for site in all_sites if site.name == name), None)


def board(admin: Any, request: HttpRequest, per: str, *, briefly: bool = False) -> Dashboard:
    """Put it together, as of one moment; `briefly`: for the index's block, which is some seconds old."""
    alias, by_type, site = conf.get().database, by_type_alone(request), admin.admin_site
    read = partial(_read, alias, per, by_type=by_type, briefly=briefly)
    key = alias, timezone.get_current_timezone_name(), by_type
    facts = _kept.get(key, read, FRESH) if briefly else read()
    return Dashboard(
        failures=failures(admin, request, facts.failed, facts.groups, facts.at),
        states=_states(site, facts), health=_health(admin, request, facts.queues), ends=_ends(facts.ends, facts.at),
        steps=[] if briefly else [_step(slow, site) for slow in slowest.steps(alias, MOST_STEPS)],
    )  # fmt: skip


def _read(alias: str, per: str, *, by_type: bool, briefly: bool) -> Facts:
    now, failed = clock.now(), alike.newest(alias)
    runs = WorkflowRun.objects.using(alias).all()
    counted = counting.capped(alias, [runs.states(state) for state in _COUNTED], tabs.MOST + 1)
    most = FEW_FAILURES if briefly else MOST_FAILURES
    return Facts(
        at=now, failed=failed, groups=alike.groups(alias, failed, most, by_type=by_type, concealed=by_type),
        ends=throughput.read(alias, now, per, failed, FEW_RUNS if briefly else throughput.MOST_RUNS),
        numbers=dict(zip(_COUNTED, counted, strict=True)), queues=queues.read(alias, now),
    )  # fmt: skip


# -- numbers ---------------------------------------------------------------------------------------


def _states(site: AdminSite, facts: Facts) -> list[Tile]:
    """Say how many runs are in each state; of those that have completed, the last ones."""
    url, ends = links.listing(site, WorkflowRun), facts.ends
    tiles = [
        Tile(fragments.badge(state), _up_to(count, tabs.MOST), f"{url}?state={state}")
        for state, count in facts.numbers.items()
        if count or state in (states.FAILED, states.RUNNING, states.PENDING)
    ]
    note = str(_EXTENTS[ends.per])
    completed = Tile(fragments.badge(states.COMPLETED), _completed(ends), f"{url}?state=completed", note)
    return [*tiles, completed]


def _up_to(count: int, most: int) -> str:
    return f"≥{number(most)}" if count > most else number(count)


def _completed(ends: Throughput) -> str:
    at_least = "≥" if _is_cut(ends) else ""
    return f"{at_least}{number(ends.total[1])}"


def _is_cut(ends: Throughput) -> bool:
    return ends.since is not None


def _health(admin: Any, request: HttpRequest, found: Queues) -> list[Tile]:
    """Return what is due, for how long, and by how many workers it is done."""
    site = admin.admin_site
    at = reverse("admin:canx_flow_workflowrun_queues", current_app=site.name) if hasattr(admin, "queues_view") else ""
    workers = links.listing(site, Worker) if links.may_view(site, Worker, request) else None
    silent = sum(not worker.lives for worker in found.workers)
    live, oldest = len(found.workers) - silent, found.oldest
    level = "bad" if any(queue.due and not queue.served for queue in found.rows) else ""
    tiles = [
        Tile(_("Due"), _capped(found), at, level=level),
        Tile(_("Oldest due"), _NONE if oldest is None else words.took(oldest.age, briefly=True), at, level=level),
        Tile(_("Live workers"), number(live), workers or "", level="" if live else "bad"),
    ]
    return [*tiles, Tile(_("Silent workers"), number(silent), workers or "", level="warn" if silent else "")]


def _capped(found: Queues) -> str:
    at_least = "≥" if found.left_out or any(queue.is_capped for queue in found.rows) else ""
    return f"{at_least}{number(found.due)}"


def _ends(found: Throughput, now: datetime) -> Ends:
    started, completed, failed = found.total
    return Ends(
        per=found.per, extent=str(_EXTENTS[found.per]), started=f"{'≥' if found.is_capped else ''}{number(started)}",
        completed=f"{'≥' if _is_cut(found) else ''}{number(completed)}",
        failed=f"{'≥' if found.failed_since is not None else ''}{number(failed)}",
        since=fragments.moment(found.since, now, briefly=True) if _is_cut(found) else "",
        plot=plot.plot(found),
    )  # fmt: skip


def _step(slow: Slow, site: AdminSite) -> Step:
    return Step(
        workflow=fragments.name(slow.workflow), step=fragments.name(slow.step), calls=number(slow.calls),
        p50=words.took(slow.p50, briefly=True), p95=words.took(slow.p95, briefly=True),
        longest=links.run_link(site, slow.run_id), key=f"{slow.workflow} / {slow.step}",
    )  # fmt: skip
