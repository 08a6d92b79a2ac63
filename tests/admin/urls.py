"""Two admin sites side by side: the default one, and one of a project's own at /office/."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from canx_flow.admin import EventAdmin, RunAdmin, RunAdminMixin, WorkerAdmin
from canx_flow.admin.verb_retry import RETRY
from canx_flow.models import Event, Worker, WorkflowRun

office = admin.AdminSite(name="office")
office.register(WorkflowRun, RunAdmin)
office.register(Worker, WorkerAdmin)
office.register(Event, EventAdmin)

#: A site with runs alone, by an admin of the project's own.
annex = admin.AdminSite(name="annex")


@admin.register(WorkflowRun, site=annex)
class AnnexRunAdmin(RunAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Fewer columns, one verb, and a word of its own on the page."""

    list_display = ("run", "state_badge", "shouted")
    actions = ("retry_runs",)
    verbs = (RETRY,)

    @admin.display(description="loud")
    def shouted(self, run: WorkflowRun) -> str:
        return run.workflow.upper()


urlpatterns = [
    path("admin/", admin.site.urls),
    path("office/", office.urls),
    path("annex/", annex.urls),
]
