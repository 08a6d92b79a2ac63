"""The admins of runs, workers, events and schedules on unfold's ModelAdmin, and what a project's own are made from.

    from canx_flow.contrib.unfold.admin import UnfoldRunMixin
    from unfold.admin import ModelAdmin

    class ShopRunAdmin(UnfoldRunMixin, ModelAdmin):
        list_per_page = 50

Where the app is installed, importing it registers `RunAdmin`, `WorkerAdmin`, `EventAdmin` and `ScheduleAdmin` on the
default site.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin
from django.db.models import Model
from django.forms import Media
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from ...admin import EventAdminMixin, RunAdminMixin, ScheduleAdminMixin, WorkerAdminMixin
from ...admin import WorkflowRunInline as PlainInline
from ...admin import WorkflowRunsMixin as PlainRunsMixin
from ...models import Event, Schedule, Worker, WorkflowRun

if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Any]
else:
    _Base = object

#: The style sheet takes its colours and sizes from unfold's; named after those that it changes, it is read after them.
_PAGES = Media(css={"all": ["canx_flow/admin.css", "canx_flow/dashboard.css", "canx_flow/unfold.css"]})
_INLINE = Media(css={"all": ["canx_flow/admin.css", "canx_flow/graph.css", "canx_flow/unfold.css"]})
_TEMPLATES = "canx_flow_unfold"


class StyledMixin(_Base):
    """Adds the style sheet to every page of an admin, and titles to those of ours: unfold's templates write none."""

    writes_title = True

    @property
    def media(self) -> Media:
        return super().media + _PAGES


class UnfoldRunMixin(StyledMixin, RunAdminMixin):
    """Everything about runs but unfold's ModelAdmin itself."""

    change_form_template = f"{_TEMPLATES}/run.html"

    def ask(self, request: HttpRequest, context: dict[str, Any], template: str | None = None) -> TemplateResponse:
        """Draw a page that asks; unfold's header leads back to the run by its `original`."""
        return super().ask(request, {"original": context.get("run"), **context}, template)


class UnfoldWorkerMixin(StyledMixin, WorkerAdminMixin):
    """Everything about workers but unfold's ModelAdmin itself."""


class UnfoldEventMixin(StyledMixin, EventAdminMixin):
    """Everything about events but unfold's ModelAdmin itself."""

    change_list_template = f"{_TEMPLATES}/events.html"


class UnfoldScheduleMixin(StyledMixin, ScheduleAdminMixin):
    """Everything about schedules but unfold's ModelAdmin itself."""

    change_list_template = f"{_TEMPLATES}/schedules.html"
    change_form_template = f"{_TEMPLATES}/schedule.html"


class WorkflowRunInline(PlainInline):
    """The newest runs of an object, for the ModelAdmin of any model."""

    @property
    def media(self) -> Media:
        return super().media + _INLINE


class WorkflowRunsMixin(PlainRunsMixin):
    """The button *Runs (3)*, for unfold's ModelAdmin of any model."""

    runs_template = f"{_TEMPLATES}/object_with_runs.html"


class RunAdmin(UnfoldRunMixin, ModelAdmin):  # type: ignore[misc]
    """Runs, as they are registered unless a project registers an admin of its own."""


class WorkerAdmin(UnfoldWorkerMixin, ModelAdmin):  # type: ignore[misc]
    """Workers, as they are registered unless a project registers an admin of its own."""


class EventAdmin(UnfoldEventMixin, ModelAdmin):  # type: ignore[misc]
    """Events, as they are registered unless a project registers an admin of its own."""


class ScheduleAdmin(UnfoldScheduleMixin, ModelAdmin):  # type: ignore[misc]
    """Schedules, as they are registered unless a project registers an admin of its own."""


def _register() -> None:
    """Take the place of Django's admins on the default site, and of its front page unless that is the project's own."""
    ours: dict[type[Model], Any] = {
        WorkflowRun: RunAdmin, Worker: WorkerAdmin, Event: EventAdmin, Schedule: ScheduleAdmin,
    }  # fmt: skip
    for model, admin_class in ours.items():
        if admin.site.is_registered(model):
            admin.site.unregister(model)
        admin.site.register(model, admin_class)
    if admin.site.index_template == "admin/canx_flow/index.html":
        admin.site.index_template = f"{_TEMPLATES}/index.html"


if apps.is_installed("canx_flow.contrib.unfold"):
    _register()
