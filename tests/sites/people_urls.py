"""The default site, and one of a class of the project's own under another name."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from django.urls import path

from canx_flow.admin import EventAdmin, RunAdmin, ScheduleAdmin, WorkerAdmin
from canx_flow.models import Event, Schedule, Worker, WorkflowRun


class DeskSite(admin.AdminSite):
    """For everybody who is active, be they staff or not."""

    site_header = "The desk"
    index_title = "At your service"

    def has_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active)


desk = DeskSite(name="desk")
desk.register(WorkflowRun, RunAdmin)
desk.register(Worker, WorkerAdmin)
desk.register(Event, EventAdmin)
desk.register(Schedule, ScheduleAdmin)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("staff/desk/", desk.urls),
]
