"""The admin of events: what was sent to single runs, and to all that wait."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import conf
from ..insight import display
from ..models import Event, WorkflowRun
from . import fragments, links
from .read_only import ReadOnlyMixin


class EventAdminMixin(ReadOnlyMixin):
    """Everything about events but the ModelAdmin itself."""

    list_display = ("named", "narrowed", "to", "sent", "reader")
    list_display_links = ("named",)
    search_fields = ("id",)  # Has the box drawn; `search` says what it finds.
    search_help_text = gettext_lazy("An event's name or key, or the id of the run that it was sent to.")
    ordering = ("-id",)
    unlisted = ("payload",)
    sortable_by = ()
    fields = ("named", "narrowed", "to", "sent", "reader", "content", "dedup")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave out what is no event any more, but the memory of one."""
        events: QuerySet[Any] = super().get_queryset(request)
        return events.filter(~Q(consumed_by="") | Q(consumed_by=None))

    def get_search_results(
        self,
        request: HttpRequest,  # noqa: ARG002
        queryset: QuerySet[Any],
        search_term: str,
    ) -> tuple[QuerySet[Any], bool]:
        return search(queryset, search_term.strip()), False

    @admin.display(description=gettext_lazy("event"))
    def named(self, event: Event) -> SafeString:
        return fragments.name(event.name)

    @admin.display(description=gettext_lazy("key"), empty_value="")
    def narrowed(self, event: Event) -> SafeString | str:
        return fragments.name(event.key) if event.key is not None else ""

    @admin.display(description=gettext_lazy("sent to"))
    def to(self, event: Event) -> SafeString | str:
        return links.run_link(self.admin_site, event.run_id) if event.run_id else _("all that wait for it")

    @admin.display(description=gettext_lazy("sent"))
    def sent(self, event: Event) -> SafeString | str:
        return fragments.moment(event.created_at)

    @admin.display(description=gettext_lazy("read by"), empty_value="")
    def reader(self, event: Event) -> SafeString | str:
        """Return what read the event. A broadcast's readers are known to their runs, not to the event."""
        if event.run_id is None:
            return ""
        if event.consumed_at is None:
            return _("unread")
        return format_html("{} {}", fragments.name(event.consumed_by or ""), fragments.moment(event.consumed_at))

    @admin.display(description=gettext_lazy("payload"))
    def content(self, event: Event) -> SafeString:
        shown = display.payload(event.payload, event.name, event.consumed_by, _workflow(event))
        return format_html('<pre class="canx-value">{}</pre>', shown)

    @admin.display(description=gettext_lazy("dedup id"), empty_value="")
    def dedup(self, event: Event) -> SafeString | str:
        return fragments.name(event.dedup_id) if event.dedup_id is not None else ""


class EventAdmin(EventAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Events, as they are registered unless a project registers an admin of its own."""


def _workflow(event: Event) -> str:
    if event.run_id is None:
        return ""
    runs = WorkflowRun.objects.using(conf.get().database).filter(id=event.run_id)
    return runs.values_list("workflow", flat=True).first() or ""


def search(events: QuerySet[Any], text: str) -> QuerySet[Any]:
    if not text:
        return events
    found = Q(name=text) | Q(key=text)
    with suppress(ValueError):
        found |= Q(run_id=UUID(text))
    return events.filter(found)
