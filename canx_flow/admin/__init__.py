"""canx_flow in Django's admin: runs, workers and events, to be looked at, and two things to be done: cancel and retry.

Registered on the default site as soon as `django.contrib.admin` is installed. To change something, take the admin out
and put your own in, made from the same mixin:

    from django.contrib import admin
    from canx_flow.admin import RunAdminMixin
    from canx_flow.models import WorkflowRun

    admin.site.unregister(WorkflowRun)

    @admin.register(WorkflowRun)
    class MyRunAdmin(RunAdminMixin, admin.ModelAdmin):
        list_per_page = 50

Your app must stand after canx_flow in INSTALLED_APPS. On another AdminSite, register `RunAdmin`, `WorkerAdmin` and
`EventAdmin` there; with django-unfold, put its `ModelAdmin` beside the mixins. Each part of the run's page is a
template of its own in `admin/canx_flow/workflowrun/`, which a project may replace by the same path.

Who may see runs has `canx_flow.view_workflowrun`; cancel and retry need `canx_flow.cancel_run` and
`canx_flow.retry_run` beside it.

How the parts fit: `runs`, `workers` and `events` answer requests; `acting` does so for cancel and retry. What they
show is computed by plain functions in `page`, `why` and `confirming`, and drawn by templates and `fragments`.
`verbs` and `bulk` act, through `canx_flow.client`.
"""

from __future__ import annotations

from django.contrib import admin

from ..models import Event, Worker, WorkflowRun
from .acting import ActingMixin
from .events import EventAdmin, EventAdminMixin
from .read_only import ReadOnlyMixin
from .runs import RunAdmin, RunAdminMixin
from .workers import WorkerAdmin, WorkerAdminMixin

__all__ = [
    "ActingMixin",
    "EventAdmin",
    "EventAdminMixin",
    "ReadOnlyMixin",
    "RunAdmin",
    "RunAdminMixin",
    "WorkerAdmin",
    "WorkerAdminMixin",
]

admin.site.register(WorkflowRun, RunAdmin)
admin.site.register(Worker, WorkerAdmin)
admin.site.register(Event, EventAdmin)
