"""The runs of an object on the object's own page in the admin: an inline, a button, and the filter that it leads to.

    from canx_flow.admin import WorkflowRunInline, WorkflowRunsMixin

    @admin.register(Order)
    class OrderAdmin(WorkflowRunsMixin, admin.ModelAdmin):
        inlines = [WorkflowRunInline]

Both show nothing to people who may not view runs, and nothing of what runs were given or have returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.checks import InlineModelAdminChecks
from django.db.models import Model, QuerySet
from django.forms import Media
from django.forms.models import BaseModelFormSet
from django.forms.utils import ErrorList
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..core import clock
from ..core.identity import subject_reference
from ..core.naming import label
from ..core.pretty import printable
from ..insight import subjects
from ..insight.subjects import RunsOf
from ..insight.why import whys
from ..models import WorkflowRun
from ..models.conditions import about
from . import fragments, links
from . import why as drawn

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

    _InlineBase = admin.options.InlineModelAdmin[Any, Any]
    _AdminBase = admin.ModelAdmin[Any]
    _FormsBase = BaseModelFormSet[Any, Any]
else:
    _FormsBase = BaseModelFormSet
    _InlineBase = admin.options.InlineModelAdmin
    _AdminBase = object

#: The parameter of the list of runs: `?subject=shop.Order:17`.
SUBJECT = "subject"


@dataclass(frozen=True, slots=True)
class Row:
    """A run as the inline draws it."""

    run: SafeString
    workflow: str
    state: SafeString
    stands: SafeString
    created: SafeString | str


class NoForms(_FormsBase):
    """Stands where Django has the forms of an inline: there is nothing to be typed, sent or saved."""

    can_delete = False
    model = WorkflowRun
    initial_forms: list[Any] = []
    extra_forms: list[Any] = []
    forms: list[Any] = []
    errors: list[Any] = []
    new_objects: list[Any] = []
    changed_objects: list[Any] = []
    deleted_objects: list[Any] = []
    media = Media()

    # Not the base's: it would ask for what is to be edited.
    def __init__(self, *_arguments: Any, inline: Any = None, instance: Model | None = None, **_keywords: Any) -> None:
        self.inline, self.instance, self.prefix = inline, instance, self.get_default_prefix()
        self.is_bound = False

    @classmethod
    def get_default_prefix(cls) -> str:
        return "canx_runs"

    @cached_property
    def found(self) -> RunsOf | None:
        """The object's runs; `None` for one that is not saved yet."""
        saved = self.instance is not None and self.instance.pk is not None and not self.instance._state.adding
        return subjects.runs_of(self.instance, self.inline.most) if saved and self.instance is not None else None

    @cached_property
    def rows(self) -> list[Row]:
        return [] if self.found is None else list(_rows(self.found, self.inline.admin_site))

    @property
    def all_url(self) -> str | None:
        """Where all of them are listed."""
        return None if self.instance is None else list_url(self.inline.admin_site, self.instance)

    @property
    def is_cut(self) -> bool:
        """Whether it has more than those that are shown."""
        return self.found is not None and (self.found.at_least or self.found.number > len(self.found.runs))

    def get_queryset(self) -> Any:
        return ()

    def non_form_errors(self) -> Any:
        return ErrorList()

    def is_valid(self) -> bool:
        return True

    def is_multipart(self) -> bool:
        return False

    def has_changed(self) -> bool:
        return False

    def save(self, commit: bool = True) -> list[Any]:  # noqa: ARG002
        return []

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True


class _Checks(InlineModelAdminChecks):
    """A run has no foreign key to its subject, so there is none to be checked."""

    def check(self, *_inline: Any, **_keywords: Any) -> list[Any]:
        return []


class WorkflowRunInline(_InlineBase):
    """The newest runs of an object, read-only. `most`: how many; ten."""

    model = WorkflowRun
    template = "admin/canx_flow/runs_of_object.html"
    formset = NoForms  # type: ignore[assignment]
    checks_class = _Checks
    verbose_name_plural = _("workflow runs")
    extra = max_num = 0
    can_delete = False
    most = 10

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:  # noqa: ARG002
        inline = self

        class Runs(NoForms):
            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                super().__init__(*arguments, inline=inline, **keywords)

        return Runs

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:  # noqa: ARG002
        return WorkflowRun.objects.none()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:  # noqa: ARG002
        return ()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False

    has_change_permission = has_delete_permission = has_add_permission

    @property
    def media(self) -> Media:
        return Media(css={"all": ["canx_flow/admin.css", "canx_flow/graph.css"]})


class WorkflowRunsMixin(_AdminBase):
    """Adds *Runs (3)* to the buttons of an object's page; whatever template that has, it is extended."""

    runs_template = "admin/canx_flow/object_with_runs.html"

    def render_change_form(self, request: HttpRequest, context: Any, *arguments: Any, **keywords: Any) -> HttpResponse:
        response = super().render_change_form(request, context, *arguments, **keywords)
        thing = keywords.get("obj")
        if thing is None or not isinstance(response, TemplateResponse):
            return response
        url = list_url(self.admin_site, thing)
        if url is not None and links.may_view(self.admin_site, WorkflowRun, request):
            usual = response.resolve_template(response.template_name)
            more = {"canx_usual": usual, "canx_runs": subjects.count(thing), "canx_runs_url": url}
            response.context_data = {**(response.context_data or {}), **more}
            response.template_name = self.runs_template
        return response


class SubjectFilter(admin.SimpleListFilter):
    """Runs of one object. It has no choices of its own: pages of objects lead to it."""

    title = _("subject")
    parameter_name = SUBJECT

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        chosen = self.value()
        return [(chosen, printable(chosen))] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        chosen = self.value()
        if not chosen:
            return queryset
        name, _colon, key = chosen.partition(":")
        return queryset.filter(about(name, key))


def list_url(site: AdminSite, thing: Model) -> str | None:
    """Return where the runs of an object are listed; `None` where runs are not registered."""
    url = links.listing(site, WorkflowRun)
    name, key = subject_reference(thing)
    return None if url is None else f"{url}?{urlencode({SUBJECT: f'{name}:{key}'})}"


def _rows(found: RunsOf, site: AdminSite) -> Iterator[Row]:
    now = clock.now()
    reasons = whys(conf.get().database, found.runs)
    for run in found.runs:
        yield Row(
            run=links.run_link(site, run.id), workflow=printable(label(run.workflow, run.version)),
            state=fragments.badge(run.state), stands=drawn.in_list(reasons[run.id].without_payloads(), now),
            created=fragments.moment(run.created_at, now, briefly=True),
        )  # fmt: skip
