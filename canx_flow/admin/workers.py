"""The admin of workers: which are alive, when each was last heard of, and what it does."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext, pgettext_lazy

from .. import conf
from ..core import clock
from ..core.naming import label
from ..core.pretty import printable
from ..insight import counting, reading
from ..insight.reading import Report
from ..insight.speech import number, span
from ..models import Worker, WorkflowRun
from ..models.conditions import HAS_OWNER
from ..states import WorkerState
from ..store import host
from . import fragments, links, words
from .counting import CappedPaginator
from .live import LiveMixin
from .read_only import LeanList, ReadOnlyMixin
from .tabs import Tab

#: Workflows and runs that are named one by one: on a worker's page, and in its row; runs in hand that are counted.
MOST, IN_LIST, MOST_OWNED = 100, 3, 10_000


class WorkerList(LeanList):
    """A page of the list, with the runs that each worker has in hand: by the runs' own word."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        workers = list(self.result_list)
        runs = _owned([worker.id for worker in workers]).values_list("owner_id", "id")
        owned: dict[UUID, list[UUID]] = defaultdict(list)
        for owner, run_id in runs[:MOST_OWNED]:
            owned[owner].append(run_id)
        for worker in workers:
            worker.__dict__["_owned"] = owned[worker.id]
        self.result_list = workers


def _owned(ids: Sequence[UUID]) -> QuerySet[WorkflowRun]:
    runs = WorkflowRun.objects.using(conf.get().database)
    return runs.filter(HAS_OWNER, owner_id__in=ids).order_by("owner_id", "id")


#: Those that work, or should; those that do; those that were not heard of; and those that have left or died.
PRESENT, GONE = "present", "gone"
_TABS = {
    PRESENT: pgettext_lazy("workers", "Live and silent"),
    WorkerState.ALIVE: pgettext_lazy("workers", "Live"),
    words.SILENT: pgettext_lazy("workers", "Silent"),
    GONE: pgettext_lazy("workers", "Gone"),
}


def _condition(chosen: str) -> Q:
    """Return the condition that a worker is what a tab or the filter says."""
    heard = clock.now() - timedelta(seconds=conf.get().lease_seconds)
    alive = Q(state=WorkerState.ALIVE)
    conditions = {
        PRESENT: alive, WorkerState.ALIVE: alive & Q(beat_at__gte=heard), words.SILENT: alive & Q(beat_at__lt=heard),
        GONE: Q(state__in=(WorkerState.STOPPED, WorkerState.DEAD)),
    }  # fmt: skip
    return conditions.get(chosen, Q(state=chosen))


class StateFilter(admin.SimpleListFilter):
    """Alive, silent, or no longer there; whoever asks for none of these is shown those that are there."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        labels = words.WORKER_STATES
        single = (WorkerState.ALIVE, words.SILENT, WorkerState.STOPPED, WorkerState.DEAD)
        return [(PRESENT, _TABS[PRESENT]), (GONE, _TABS[GONE]), *((name, labels[name]) for name in single)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        return queryset.filter(_condition(self.value() or PRESENT))

    def choices(self, changelist: Any) -> Iterator[Any]:
        _every, *others = super().choices(changelist)
        for name, choice in zip((name for name, _label in self.lookup_choices), others, strict=True):
            yield {**choice, "selected": name == (self.value() or PRESENT)}


def tabs(chosen: str) -> list[Tab]:
    """Return the tabs above the list with their counts, in one statement."""
    workers = Worker.objects.using(alias := conf.get().database)
    counts = counting.capped(alias, [workers.filter(_condition(name)) for name in _TABS], CappedPaginator.limit)
    return [
        Tab(name, label, count, name == chosen, f"?state={name}")
        for (name, label), count in zip(_TABS.items(), counts, strict=True)
    ]


class WorkerAdminMixin(LiveMixin, ReadOnlyMixin):
    """Everything about workers but the ModelAdmin itself."""

    list_display = (
        "labelled", "state_badge", "heard_of", "listens_to", "does", "oldest_step", "left_behind", "release",
    )  # fmt: skip
    list_display_links = ("labelled",)
    list_filter = (StateFilter,)
    ordering = ("state", "-started_at", "id")  # "alive" comes before "dead" and "stopped".
    sortable_by = ()
    fields = (
        "named", "state_badge", "heard_of", "where", "listens_to", "at_once", "release", "started", "ended",
        "given_up", "knows", "in_hand", "activities",
    )  # fmt: skip
    readonly_fields = fields

    @admin.display(description=gettext_lazy("worker"))
    def named(self, worker: Worker) -> str:
        return printable(str(worker))

    @admin.display(description=gettext_lazy("worker"))
    def labelled(self, worker: Worker) -> SafeString:
        """Say its name, and below that where it is: which is the name of one that has none."""
        where = self.runs_on(worker)
        name = self.named(worker)
        return format_html("{} <small>{}</small>", name, where) if where else format_html("{}", name)

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, worker: Worker) -> SafeString:
        return fragments.badge(state(worker), words.WORKER_STATES)

    @admin.display(description=gettext_lazy("last heartbeat"))
    def heard_of(self, worker: Worker) -> SafeString | str:
        return fragments.moment(worker.beat_at)

    @admin.display(description=gettext_lazy("host"))
    def where(self, worker: Worker) -> str:
        return f"{printable(worker.host)}:{worker.pid}"

    def runs_on(self, worker: Worker) -> str:
        """Say the same in the list, which shows a worker without a name by its host and PID already."""
        return self.where(worker) if worker.name else ""

    @admin.display(description=gettext_lazy("queues"))
    def listens_to(self, worker: Worker) -> SafeString | str:
        queues = json.loads(worker.queues)
        return (
            format_html_join(" ", "{}", ((fragments.name(queue),) for queue in queues))
            if queues
            else pgettext("queues", "all")
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[WorkerList]:  # noqa: ARG002
        return WorkerList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        chosen = request.GET.get(StateFilter.parameter_name) or PRESENT
        more = {"title": capfirst(self.opts.verbose_name_plural), "tabs": tabs(chosen), "here": "workers"}
        return super().changelist_view(request, {**more, **(extra_context or {})})

    @admin.display(description=pgettext_lazy("worker", "busy"))
    def does(self, worker: Worker) -> SafeString | str:
        """Say how many runs it has in hand, of how many it may have; of one that does not work, which it holds or held.

        What it said last of them is still there after its death, when others have taken its runs over.
        """
        owned: list[UUID] = worker.__dict__.get("_owned", [])
        busy = f"{number(len(owned))}/{number(worker.concurrency)}"
        if state(worker) == WorkerState.ALIVE:
            return busy
        reports = reading.reports(worker)
        held = self._runs(owned or list(reports), reports, IN_LIST)
        if worker.state == WorkerState.ALIVE:
            return format_html("{} {}", busy, held)
        count = len(owned or reports)
        if owned:
            said = ngettext("holds {number} run", "holds {number} runs", count)
        else:
            said = ngettext("held {number} run", "held {number} runs", count)
        return format_html("{} {}", said.format(number=number(count)), held) if held else ""

    def _runs(self, ids: Sequence[UUID], reports: Mapping[UUID, Report], most: int) -> SafeString | str:
        """List runs with the steps in which they were, as far as their worker has said so."""
        rows = [
            (format_html("{} {}", links.run_link(self.admin_site, run_id), _step(reports.get(run_id))),)
            for run_id in ids[:most]
        ]
        return _listed(rows, len(ids) - most) if rows else ""

    @admin.display(description=gettext_lazy("oldest step now"), empty_value="")
    def oldest_step(self, worker: Worker) -> SafeString | str:
        """Say in which step it is for longest."""
        if worker.state != WorkerState.ALIVE:
            return ""
        steps = [
            (report.since, report.step) for report in reading.reports(worker).values() if report.since and report.step
        ]
        since, step = min(steps, default=(None, None))
        return format_html("{}, {}", fragments.name(step), span(clock.now() - since)) if since and step else ""

    @admin.display(description=gettext_lazy("concurrency"))
    def at_once(self, worker: Worker) -> str:
        return number(worker.concurrency)

    @admin.display(description=gettext_lazy("version"))
    def release(self, worker: Worker) -> SafeString:
        """Say its version, and below that how old its code may be."""
        since = fragments.moment(worker.started_at, briefly=True)
        started = format_html(_("started {when}"), when=since)
        return format_html("{} <small>{}</small>", printable(worker.version), started)

    @admin.display(description=pgettext_lazy("moment", "started"))
    def started(self, worker: Worker) -> SafeString | str:
        return fragments.moment_in_full(worker.started_at)

    @admin.display(description=pgettext_lazy("moment", "ended"))
    def ended(self, worker: Worker) -> SafeString | str:
        return fragments.moment_in_full(worker.ended_at)

    @admin.display(description=gettext_lazy("abandoned threads"))
    def given_up(self, worker: Worker) -> int:
        return worker.abandoned

    @admin.display(description=gettext_lazy("workflows"))
    def knows(self, worker: Worker) -> SafeString:
        labels = [label(name, version) for name, version in json.loads(worker.workflows)]
        return _listed([(fragments.name(label),) for label in labels[:MOST]], len(labels) - MOST)

    @admin.display(description=gettext_lazy("abandoned threads"), empty_value="")
    def left_behind(self, worker: Worker) -> int | str:
        return worker.abandoned or ""

    @admin.display(description=gettext_lazy("runs in hand"), empty_value="")
    def in_hand(self, worker: Worker) -> SafeString | str:
        """Name the runs whose owner it is."""
        owned = list(_owned([worker.id]).values_list("id", flat=True)[:MOST_OWNED])
        return self._runs(owned, reading.reports(worker), MOST) if owned else ""

    @admin.display(description=gettext_lazy("what it said last"))
    def activities(self, worker: Worker) -> SafeString | str:
        reports = reading.reports(worker)
        return self._runs(list(reports), reports, MOST)


class WorkerAdmin(WorkerAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Workers, as they are registered unless a project registers an admin of its own."""


def state(worker: Worker) -> str:
    """Return the worker's state; `silent` for one that is alive by its row and sent no heartbeat for a lease.

    One whose process is known to have ended is dead, though its row does not say so yet.
    """
    if worker.state == WorkerState.ALIVE and host.is_gone(worker):
        return WorkerState.DEAD
    return words.SILENT if reading.is_silent(worker, clock.now()) else worker.state


def _step(report: Report | None) -> SafeString | str:
    return fragments.name(report.step) if report is not None and report.step else ""


def _listed(rows: list[tuple[SafeString]], left_out: int) -> SafeString:
    more = format_html("<li>{}</li>", _("and {number} more").format(number=number(left_out))) if left_out > 0 else ""
    return format_html('<ul class="canx-list">{}{}</ul>', format_html_join("", "<li>{}</li>", rows), more)
