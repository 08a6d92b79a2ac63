"""The admin of runs: their list, and the page of one.

Subclass `RunAdminMixin` beside the ModelAdmin of your choice; see the package's own words on how to register that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import conf
from ..core import clock
from ..core.pretty import printable
from ..exceptions import RunNotFound
from ..insight import reading, timeline
from ..insight.why import Why, why, whys
from ..models import WorkflowRun
from . import copying, fragments, history, links, live, page, tables, tabs, words
from . import why as drawn
from .bulk_acting import BulkActingMixin
from .counting import CappedPaginator, PartsPaginator
from .dashboard import DashboardMixin
from .exporting import JsonMixin
from .filters import (
    AlikeFilter,
    AttemptsFilter,
    AttributeFilter,
    CreatedFilter,
    DueFilter,
    ErrorFilter,
    PeriodFilter,
    QueueFilter,
    StateFilter,
    WorkflowFilter,
)
from .forking import ForkingMixin
from .history import HistoryMixin
from .live import LiveMixin
from .neighbours import NeighboursMixin
from .queues import QueuesMixin
from .read_only import LeanList, ReadOnlyMixin
from .search import search
from .sending import SendingMixin
from .starting import StartingMixin
from .subjects import SubjectFilter
from .whole import WholeMixin
from .workflows import WorkflowPagesMixin

#: None of these changes but together with another column, by which a page that refreshes itself knows it.
_LARGE = ("arguments", "result", "first_attributes")


class RunList(LeanList):
    """A page of the list, with where each run stands."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.result_count:
            self.result_list = self.queryset.none()  # Counting has read the table already.
        elif isinstance(self.paginator, PartsPaginator) and self._is_whole():
            self.result_list = self.paginator.between(0, self.result_count)
        _attach_reasons(self.result_list, payloads=self.model_admin.has_payloads_permission(request))
        links.attach_permissions(self.model_admin.admin_site, self.result_list, request)

    def _is_whole(self) -> bool:
        """Return whether all runs are shown at once: those, Django does not ask the paginator for."""
        return not self.multi_page or (self.show_all and self.can_show_all)


class RunAdminMixin(
    DashboardMixin, QueuesMixin, WorkflowPagesMixin, StartingMixin, SendingMixin, ForkingMixin, BulkActingMixin,
    JsonMixin, NeighboursMixin, HistoryMixin, WholeMixin, LiveMixin, ReadOnlyMixin,
):  # fmt: skip
    """Everything about runs but the ModelAdmin itself."""

    list_display = ("run", "state_badge", "goes_on", "about", "times")
    list_display_links = ("run",)
    list_filter = (
        StateFilter, WorkflowFilter, QueueFilter, DueFilter, ErrorFilter, AttemptsFilter, CreatedFilter, PeriodFilter,
        AttributeFilter, SubjectFilter, AlikeFilter,
    )  # fmt: skip
    search_fields = ("id",)  # Has the box drawn; `search` says what it finds.
    search_help_text = gettext_lazy("An id or its beginning, a key, a workflow, a subject: 17, or shop.Order 17.")
    ordering = ("-id",)  # Ids begin with the time: newest first, by the primary key.
    sortable_by = ()  # No other column has an index.
    unlisted = ("arguments", "result", "error", "progress", "attributes", "first_attributes", "fingerprint")
    fields = ()  # The page is drawn by templates, not by a form.

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowRun]:
        """Leave out what may be megabytes: the page of a run reads as much of it as it shows."""
        return super().get_queryset(request).defer(*_LARGE)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RunList]:  # noqa: ARG002
        return RunList

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun], per_page: int, *arguments: Any, **keywords: Any
    ) -> Paginator[WorkflowRun]:
        group = request.GET.get(StateFilter.parameter_name)
        if self.paginator is CappedPaginator and group is not None and group in tabs.GROUPS:
            paginator = PartsPaginator(queryset, per_page, *arguments, **keywords)
            paginator.conditions = tabs.conditions(group)
            paginator.is_cut = group == tabs.ATTENTION and tabs.is_cut()
            return paginator
        return super().get_paginator(request, queryset, per_page, *arguments, **keywords)

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: QuerySet[WorkflowRun],
        search_term: str,
    ) -> tuple[QuerySet[WorkflowRun], bool]:
        return search(queryset, search_term), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list; who asks for no part of it is shown what needs attention first."""
        if request.method == "GET" and not request.GET and self.has_view_permission(request):
            return HttpResponseRedirect(f"?{StateFilter.parameter_name}={tabs.default()}")
        chosen = request.GET.get(StateFilter.parameter_name)
        others = [(name, value) for name, value in request.GET.items() if name not in (StateFilter.parameter_name, "p")]
        more = {
            "title": capfirst(self.opts.verbose_name_plural),
            # Counted when they are drawn: a list that has not changed is not.
            "tabs": SimpleLazyObject(partial(tabs.tabs, request, chosen)),
            "tab_params": others,
            "json_url": f"json/?{request.GET.urlencode()}",
        }
        return super().changelist_view(request, {**more, **(extra_context or {})})

    # -- columns ---------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("run"))
    def run(self, run: WorkflowRun) -> SafeString:
        return fragments.short_id(run.id)

    @admin.display(description=gettext_lazy("workflow"))
    def labelled(self, run: WorkflowRun) -> SafeString:
        if not run.version:
            return format_html("{}", printable(run.workflow))
        return format_html('{}<span class="canx-quiet">@{}</span>', printable(run.workflow), printable(run.version))

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, run: WorkflowRun) -> SafeString:
        return fragments.badge(run.state)

    @admin.display(description=gettext_lazy("where it stands"), empty_value="")
    def goes_on(self, run: WorkflowRun) -> SafeString:
        """Say why the run does not move, what it does, or how it ended."""
        return drawn.in_list(_why(run), clock.now())

    @admin.display(description=gettext_lazy("workflow"))
    def about(self, run: WorkflowRun) -> SafeString:
        """Say of which workflow it is, and below that what it is about."""
        subject = self.subject(run)
        return format_html("{} <small>{}</small>", self.labelled(run), subject) if subject else self.labelled(run)

    @admin.display(description=gettext_lazy("created"))
    def times(self, run: WorkflowRun) -> SafeString:
        """Say when it was created, and below that how long it has taken."""
        took = self.duration(run)
        if not took:
            return format_html("{}", self.created(run))
        said = (_("took {span}") if run.finished_at else _("for {span}")).format(span=took)
        return format_html("{} <small>{}</small>", self.created(run), said)

    @admin.display(description=gettext_lazy("subject"), empty_value="")
    def subject(self, run: WorkflowRun) -> SafeString | str:
        return links.subject_link(self.admin_site, run, seen=links.is_permitted(run))

    @admin.display(description=gettext_lazy("created"))
    def created(self, run: WorkflowRun) -> SafeString | str:
        return fragments.moment(run.created_at, briefly=True)

    @admin.display(description=gettext_lazy("took"), empty_value="")
    def duration(self, run: WorkflowRun) -> str:
        return words.took(reading.duration(run, clock.now()), briefly=True)

    # -- the page of one run ---------------------------------------------------------------------------

    def live_facts(self, thing: WorkflowRun) -> Iterator[Any]:
        return live.of_run(thing)

    def page_context(self, request: HttpRequest, thing: WorkflowRun) -> dict[str, Any]:
        """Return what change_form.html draws beside what every such page has."""
        try:
            loaded = timeline.load(
                thing.id,
                characters=tables.IN_CELL,
                most=page.MOST_ROWS,
                actor=history.whose(request),
                wanted=page.wanted(request, thing),
                payloads=self.has_payloads_permission(request),
            )
        except RunNotFound as gone:  # Deleted in this very moment.
            raise Http404(str(gone)) from gone
        buttons = self.buttons(request, loaded.run)
        own = partial(links.page, self.admin_site, self.model, loaded.run.pk)
        return {
            "tab": copying.tab(loaded),
            "copies": list(copying.copies(loaded.run, self.admin_site, request, buttons)),
            "json_url": own("json") if self.has_json_permission(request, loaded.run) else None,
            "beside": {"newer": own("newer"), "older": own("older")},
            "page": page.make(loaded, self.admin_site, request),
            "title": loaded.label,
            "subtitle": "",
            "buttons": buttons,
            "advice": drawn.advised(loaded, {button["name"]: button for button in buttons}),
            # Links from the rows of the page to what may be done there.
            "urls": {button["name"]: button["url"] for button in buttons},
        }


class RunAdmin(RunAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Runs, as they are registered unless a project registers an admin of its own."""


def _attach_reasons(runs: Iterable[WorkflowRun], *, payloads: bool) -> None:
    """Have every run of a page know why it does not move: read once for all of them, when the first is asked for."""
    runs = list(runs)

    @cache
    def found() -> Mapping[UUID, Why]:
        return whys(conf.get().database, runs)

    for run in runs:
        run.__dict__["_whys"], run.__dict__["_payloads"] = found, payloads


def _why(run: WorkflowRun) -> Why:
    """Return why this run does not move, as `_attach_reasons` finds it, or for itself, if it came another way.

    Then it is not known who looks, so what an error says is left out.
    """
    found = run.__dict__.get("_whys")
    known = why(run) if found is None else found()[run.id]
    return known if run.__dict__.get("_payloads") else known.without_payloads()
