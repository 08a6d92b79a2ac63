"""The admin of workers: which are alive, when each was last heard of, and what it does."""

from __future__ import annotations

import json

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core import clock
from ..core.naming import label
from ..core.pretty import printable
from ..insight import reading
from ..models import Worker
from ..states import WorkerState
from . import fragments, links, words
from .read_only import ReadOnlyMixin

#: Workflows and runs that are named one by one.
MOST = 100


class WorkerAdminMixin(ReadOnlyMixin):
    """Everything about workers but the ModelAdmin itself."""

    list_display = ("named", "state_badge", "heard_of", "runs_on", "listens_to", "concurrency", "does", "version")
    list_display_links = ("named",)
    list_filter = ("state",)
    ordering = ("state", "-started_at", "id")  # "alive" comes before "dead" and "stopped".
    sortable_by = ()
    fields = (
        "named", "state_badge", "heard_of", "where", "listens_to", "concurrency", "version", "started", "ended",
        "given_up", "knows", "activities",
    )  # fmt: skip
    readonly_fields = fields

    @admin.display(description=gettext_lazy("worker"))
    def named(self, worker: Worker) -> str:
        return printable(str(worker))

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, worker: Worker) -> SafeString:
        return fragments.badge(state(worker), words.WORKER_STATES)

    @admin.display(description=gettext_lazy("last heartbeat"))
    def heard_of(self, worker: Worker) -> SafeString | str:
        return fragments.moment(worker.beat_at)

    @admin.display(description=gettext_lazy("host"))
    def where(self, worker: Worker) -> str:
        return f"{printable(worker.host)}:{worker.pid}"

    @admin.display(description=gettext_lazy("host"), empty_value="")
    def runs_on(self, worker: Worker) -> str:
        """Say the same in the list, which shows a worker without a name by its host and PID already."""
        return self.where(worker) if worker.name else ""

    @admin.display(description=gettext_lazy("queues"))
    def listens_to(self, worker: Worker) -> SafeString | str:
        queues = json.loads(worker.queues)
        return format_html_join(" ", "{}", ((fragments.name(queue),) for queue in queues)) if queues else _("all")

    @admin.display(description=gettext_lazy("runs in flight"))
    def does(self, worker: Worker) -> int:
        return len(reading.reports(worker)) if worker.state == WorkerState.ALIVE else 0

    @admin.display(description=gettext_lazy("started"))
    def started(self, worker: Worker) -> SafeString | str:
        return fragments.moment_in_full(worker.started_at)

    @admin.display(description=gettext_lazy("ended"))
    def ended(self, worker: Worker) -> SafeString | str:
        return fragments.moment_in_full(worker.ended_at)

    @admin.display(description=gettext_lazy("abandoned threads"))
    def given_up(self, worker: Worker) -> int:
        return worker.abandoned

    @admin.display(description=gettext_lazy("workflows"))
    def knows(self, worker: Worker) -> SafeString:
        labels = [label(name, version) for name, version in json.loads(worker.workflows)]
        return _listed([(fragments.name(label),) for label in labels[:MOST]], len(labels) - MOST)

    @admin.display(description=gettext_lazy("what it said last"))
    def activities(self, worker: Worker) -> SafeString:
        reports = reading.reports(worker)
        rows = [
            (format_html("{} {}", links.run_link(self.admin_site, run_id), fragments.name(report.step or "")),)
            for run_id, report in list(reports.items())[:MOST]
        ]
        return _listed(rows, len(reports) - MOST)


class WorkerAdmin(WorkerAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Workers, as they are registered unless a project registers an admin of its own."""


def state(worker: Worker) -> str:
    """Return the worker's state; `silent` for one that is alive by its row and sent no heartbeat for a lease."""
    return words.SILENT if reading.is_silent(worker, clock.now()) else worker.state


def _listed(rows: list[tuple[SafeString]], left_out: int) -> SafeString:
    more = format_html("<li>{}</li>", _("and %d more") % left_out) if left_out > 0 else ""
    return format_html('<ul class="canx-list">{}{}</ul>', format_html_join("", "<li>{}</li>", rows), more)
