"""The admin of events: what was sent to single runs, and to all that wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Max, Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext, pgettext_lazy

from .. import conf
from ..core import naming
from ..insight import display, names
from ..insight.stored import Stored
from ..models import Event, StepRecord
from . import fragments, links
from .counting import CappedPaginator
from .live import LiveMixin
from .read_only import ReadOnlyMixin
from .sending import BroadcastingMixin
from .whole import WholeMixin

#: Events among which names and keys are looked for: no index has those of events that were sent to single runs.
NEWEST = 100_000
#: Events that are found, more than which a list does not count.
_MOST = CappedPaginator.limit


class EventAdminMixin(BroadcastingMixin, WholeMixin, LiveMixin, ReadOnlyMixin):
    """Everything about events but the ModelAdmin itself."""

    list_display = ("named", "narrowed", "to", "sent", "reader")
    list_display_links = ("named",)
    search_fields = ("id",)  # Has the box drawn; `search` says what it finds.
    search_help_text = gettext_lazy(
        "An event's name or key, among the newest 100,000, or the id of the run that it was sent to."
    )
    ordering = ("-id",)
    unlisted = ("payload",)
    sortable_by = ()
    fields = ("named", "narrowed", "to", "sent", "reader", "content", "dedup")
    readonly_fields = fields

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out the payload for who may not see any."""
        found = super().get_fields(request, obj)
        return found if self.has_payloads_permission(request) else [name for name in found if name != "content"]

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
        child = naming.child_of(event.name)
        if child is not None:
            return format_html(_("The end of the child {run}"), run=fragments.short_id(child))
        return fragments.name(event.name)

    @admin.display(description=gettext_lazy("key"), empty_value="")
    def narrowed(self, event: Event) -> SafeString | str:
        return fragments.name(event.key) if event.key is not None else ""

    @admin.display(description=gettext_lazy("sent to"))
    def to(self, event: Event) -> SafeString | str:
        return links.run_link(self.admin_site, event.run_id) if event.run_id else _("all that wait for it")

    @admin.display(description=pgettext_lazy("moment", "sent"))
    def sent(self, event: Event) -> SafeString | str:
        return fragments.moment(event.created_at)

    @admin.display(description=gettext_lazy("read by"), empty_value="")
    def reader(self, event: Event) -> SafeString | str:
        """Return what read the event. A broadcast's readers are known to their runs, not to the event."""
        if event.run_id is None:
            return ""
        if event.consumed_at is None:
            return pgettext("event", "unread")
        return format_html("{} {}", fragments.name(event.consumed_by or ""), fragments.moment(event.consumed_at))

    @admin.display(description=gettext_lazy("payload"))
    def content(self, event: Event) -> SafeString:
        """Draw what was sent; the end of a child is on the child's own page."""
        child = naming.child_of(event.name)
        if child is not None:
            return format_html(_("The end of the child {run}"), run=links.run_link(self.admin_site, child))
        large = display.large(Stored(event.payload, len(event.payload)), display.LIMIT)
        shown = large or display.shown(event.payload, names.of_lone_event(conf.get().database, event))
        drawn = format_html('<pre class="canx-value" tabindex="0">{}</pre>', shown)
        url = links.page(self.admin_site, Event, event.pk, "value", "payload") if large is not None else None
        return format_html("{} {}", drawn, fragments.link(url, _("Show all"))) if url else drawn

    @admin.display(description=gettext_lazy("dedup id"), empty_value="")
    def dedup(self, event: Event) -> SafeString | str:
        return fragments.name(event.dedup_id) if event.dedup_id is not None else ""


class EventAdmin(EventAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Events, as they are registered unless a project registers an admin of its own."""


def search(events: QuerySet[Any], text: str) -> QuerySet[Any]:
    """Find the events that `text` may mean: of a run all, of a name the broadcasts, and both and a key of the newest.

    Each way is asked by itself, with what an index knows.
    """
    if not text:
        return events
    found = {key for way in _ways(events, text) for key in way.values_list("id", flat=True)[: _MOST + 1]}
    return events.filter(id__in=sorted(found, reverse=True)[: _MOST + 1])


def _ways(events: QuerySet[Any], text: str) -> Iterator[QuerySet[Any]]:
    newest = Event.objects.using(events.db).aggregate(newest=Max("id"))["newest"] or 0
    yield events.filter(Q(name=text) | Q(key=text), id__range=(newest - NEWEST + 1, newest)).order_by("-id")
    yield events.filter(run_id=None, name=text).order_by("-name", "-key", "-created_at", "-id")
    with suppress(ValueError):
        run_id = UUID(text)
        records = StepRecord.objects.using(events.db).filter(run_id=run_id, event_id__isnull=False)
        read = list(records.order_by("-seq").values_list("event_id", flat=True)[:_MOST])
        yield events.filter(run_id=run_id, id__in=read).order_by("-id")
        yield events.filter(run_id=run_id, consumed_at=None).order_by()
