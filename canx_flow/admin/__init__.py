"""canx_flow in Django's admin: runs, workers and events, to be looked at, and what may be done to runs.

Registered on the default site as soon as `django.contrib.admin` is installed. To change something, take the admin out
and put your own in, made from the same mixin:

    from django.contrib import admin
    from canx_flow.admin import RunAdminMixin
    from canx_flow.models import WorkflowRun

    admin.site.unregister(WorkflowRun)

    @admin.register(WorkflowRun)
    class MyRunAdmin(RunAdminMixin, admin.ModelAdmin):
        list_per_page = 50

Your app must stand after canx_flow in INSTALLED_APPS. On another AdminSite, register `RunAdmin`, `WorkerAdmin`,
`EventAdmin` and `ScheduleAdmin` there; for django-unfold there is the app `canx_flow.contrib.unfold`. Each part of the
run's page is a template of its own in `admin/canx_flow/workflowrun/`, which a project may replace by the same path.

Who may see runs has `canx_flow.view_workflowrun`; what comes from their code needs `canx_flow.view_payloads` beside it,
and each thing that may be done a permission of its own, such as `canx_flow.cancel_run`.

How the parts fit: `runs`, `workers` and `events` answer requests; so do `acting`, `bulk_acting`, `forking`,
`starting` and `sending` for what is done. What they show is computed by plain functions in `page`, `why` and
`confirming`, and drawn by templates and `fragments`. The verbs (`verb_…`) and `bulk` act, through `canx_flow.client`.
"""

from __future__ import annotations

from django.contrib import admin

from ..models import Event, Schedule, Worker, WorkflowRun
from .acting import ActingMixin
from .bulk_acting import BulkActingMixin
from .dashboard import DashboardMixin
from .events import EventAdmin, EventAdminMixin
from .forking import ForkingMixin
from .queues import QueuesMixin
from .read_only import ReadOnlyMixin
from .runs import RunAdmin, RunAdminMixin
from .schedules import ScheduleAdmin, ScheduleAdminMixin
from .sending import SendingMixin
from .starting import StartingMixin
from .subjects import WorkflowRunInline, WorkflowRunsMixin
from .workers import WorkerAdmin, WorkerAdminMixin

__all__ = [
    "ActingMixin",
    "BulkActingMixin",
    "DashboardMixin",
    "EventAdmin",
    "EventAdminMixin",
    "ForkingMixin",
    "QueuesMixin",
    "ReadOnlyMixin",
    "RunAdmin",
    "RunAdminMixin",
    "ScheduleAdmin",
    "ScheduleAdminMixin",
    "SendingMixin",
    "StartingMixin",
    "WorkerAdmin",
    "WorkerAdminMixin",
    "WorkflowRunInline",
    "WorkflowRunsMixin",
]

admin.site.register(WorkflowRun, RunAdmin)
admin.site.register(Worker, WorkerAdmin)
admin.site.register(Event, EventAdmin)
admin.site.register(Schedule, ScheduleAdmin)

# Which adds the banner, where the project's site has no index of its own.
if admin.site.index_template is None:
    admin.site.index_template = "admin/canx_flow/index.html"
