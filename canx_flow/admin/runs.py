"""The admin of runs: their list, and the page of one.

Subclass `RunAdminMixin` beside the ModelAdmin of your choice; see the package's own words on how to register that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import states
from ..core import clock
from ..core.pretty import printable
from ..exceptions import RunNotFound
from ..insight import overdue, reading, timeline
from ..insight.positions import Position, positions
from ..insight.reading import OpenWait
from ..models import WorkflowRun
from ..states import Kind
from . import fragments, links, page, words
from .acting import ActingMixin
from .counting import CappedPaginator, UnfinishedPaginator
from .filters import UNFINISHED, QueueFilter, StateFilter, WorkflowFilter
from .read_only import LeanList, ReadOnlyMixin
from .search import search

#: Characters of a reason or an error in the list.
_LINE = 80


class RunList(LeanList):
    """A page of the list, with where each run stands."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.result_count:
            self.result_list = self.queryset.none()  # Counting has read the table already.
        elif isinstance(self.paginator, UnfinishedPaginator) and self._is_whole():
            self.result_list = self.paginator.between(0, self.result_count)
        _attach_positions(self.result_list)
        links.attach_permissions(self.model_admin.admin_site, self.result_list, request)

    def _is_whole(self) -> bool:
        """Return whether all runs are shown at once: those, Django does not ask the paginator for."""
        return not self.multi_page or (self.show_all and self.can_show_all)


class RunAdminMixin(ActingMixin, ReadOnlyMixin):
    """Everything about runs but the ModelAdmin itself."""

    list_display = ("run", "labelled", "state_badge", "goes_on", "subject", "created", "duration")
    list_display_links = ("run",)
    list_filter = (StateFilter, WorkflowFilter, QueueFilter)
    search_fields = ("id",)  # Has the box drawn; `search` says what it finds.
    search_help_text = gettext_lazy("An id or its beginning, a key, a workflow, a subject: 17, or shop.Order 17.")
    ordering = ("-id",)  # Ids begin with the time: newest first, by the primary key.
    sortable_by = ()  # No other column has an index.
    unlisted = ("arguments", "result", "error", "progress", "attributes", "first_attributes", "fingerprint")
    fields = ()  # The page is drawn by templates, not by a form.

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RunList]:  # noqa: ARG002
        return RunList

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun], per_page: int, *arguments: Any, **keywords: Any
    ) -> Paginator[WorkflowRun]:
        if self.paginator is CappedPaginator and request.GET.get(StateFilter.parameter_name) == UNFINISHED:
            return UnfinishedPaginator(queryset, per_page, *arguments, **keywords)
        return super().get_paginator(request, queryset, per_page, *arguments, **keywords)

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: QuerySet[WorkflowRun],
        search_term: str,
    ) -> tuple[QuerySet[WorkflowRun], bool]:
        return search(queryset, search_term), False

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
    def goes_on(self, run: WorkflowRun) -> SafeString | str:
        """Say at which step the run is and when it goes on; of one that is stuck or has ended, why."""
        position = _position(run)
        if position.error is not None:
            return words.failure(position.error, _LINE)
        if run.state in (states.PARKED, states.FAILED, states.CANCELLED):
            return Truncator(printable(run.reason)).chars(_LINE)
        if overdue.waits_to_be_alone(run):
            return _("waits to run alone")
        step = fragments.name(position.step) if position.step else ""
        return format_html("{} {}", step, _goes_on(position.wait)) if position.wait is not None else step

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

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: WorkflowRun | None = None,
    ) -> HttpResponse:
        """Add this page's context. Django calls it once the user's permission to view the run is certain."""
        if obj is not None:
            context.update(self.page_context(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def page_context(self, request: HttpRequest, run: WorkflowRun) -> dict[str, Any]:
        """Return what change_form.html draws beside what every such page has."""
        most = page.rows_wanted(request)
        try:
            loaded = timeline.load(run.id, results=True, most=most)
        except RunNotFound as gone:  # Deleted in this very moment.
            raise Http404(str(gone)) from gone
        return {
            "page": page.make(loaded, self.admin_site, request, most),
            "title": loaded.label,
            "subtitle": "",
            "buttons": self.buttons(request, loaded.run),
        }

    def buttons(self, request: HttpRequest, run: WorkflowRun) -> list[dict[str, Any]]:
        """Return the buttons for what this user may do to the run in its present state."""
        return [
            {
                "name": verb.name,
                "label": verb.texts.label,
                "url": links.page(self.admin_site, self.model, run.pk, verb.name),
            }
            for verb in self.verbs
            if verb.applies(run.state) and self.has_verb_permission(request, verb, run)
        ]


class RunAdmin(RunAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Runs, as they are registered unless a project registers an admin of its own."""


def _attach_positions(runs: Iterable[WorkflowRun]) -> None:
    """Have every run of a page know where it stands: read once for all of them."""
    found = positions(list(runs))
    for run in runs:
        run.__dict__["_position"] = found[run.id]


def _position(run: WorkflowRun) -> Position:
    """Return what `_attach_positions` found for this run, and read it for a run that came another way."""
    known: Position | None = run.__dict__.get("_position")
    return known if known is not None else positions([run])[run.id]


def _goes_on(wait: OpenWait) -> SafeString | str:
    if wait.kind == Kind.CALL and wait.child is not None:
        return format_html(_("for child {}"), fragments.short_id(wait.child))
    if wait.kind == Kind.WAIT:
        awaited = format_html(_("for {}"), fragments.name(wait.event or ""))
        return format_html(_("{}, times out {}"), awaited, _due(wait)) if wait.due_at is not None else awaited
    return _due(wait)


def _due(wait: OpenWait) -> SafeString | str:
    return fragments.due(wait.due_at, briefly=True)
