"""From the page of a run to the one before or after it in the list that it was opened from.

Which that is, is looked for when it is asked for: the list may have changed, and no page pays for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import URLPattern
from django.utils.translation import gettext as _

from ..models import WorkflowRun
from . import links
from .acting import ActingMixin
from .counting import CappedPaginator

#: What of a list's address is no filter.
_NO_FILTERS = ("p", "all", "e")


class NeighboursMixin(ActingMixin):
    """The addresses of the newer and of the older run."""

    def get_urls(self) -> list[URLPattern]:
        older = self.own_page("older", partial(self.neighbour_view, older=True))
        return [older, self.own_page("newer", partial(self.neighbour_view, older=False)), *super().get_urls()]

    def neighbour_view(self, request: HttpRequest, object_id: str, *, older: bool) -> HttpResponse:
        """Lead to the next run of the list's filters, or say that there is none."""
        may = partial(self.has_view_permission, request)
        return self.with_run(request, object_id, may, partial(self._lead_on, older=older))

    def _lead_on(self, request: HttpRequest, run: WorkflowRun, older: bool) -> HttpResponse:
        found = list(self._beside(request, run, older))
        if not found:
            said = _("That was the oldest run of the list.") if older else _("That was the newest run of the list.")
            return self.nothing(request, said, run)
        filters = self.get_preserved_filters(request)
        url = links.page(self.admin_site, self.model, max(found) if older else min(found)) or ""
        return HttpResponseRedirect(f"{url}?{filters}" if filters else url)

    def _beside(self, request: HttpRequest, run: WorkflowRun, older: bool) -> Iterator[UUID]:
        """Yield the next run of each part of the list, which an index has in order."""
        paginator = self._paginator(request)
        beside: dict[str, Any] = {"id__lt": run.pk} if older else {"id__gt": run.pk}
        for part in paginator.parts() if isinstance(paginator, CappedPaginator) else [paginator.object_list]:
            rows = part.filter(**beside).order_by("-id" if older else "id")
            yield from rows.values_list("id", flat=True)[:1]

    def _paginator(self, request: HttpRequest) -> Any:
        """Return the paginator of the list whose filters the run's address has kept."""
        asked = copy.copy(request)
        filters = QueryDict(request.GET.get("_changelist_filters", ""), mutable=True)
        for name in _NO_FILTERS:
            filters.pop(name, None)
        asked.GET = QueryDict(filters.urlencode())
        try:
            return self.get_changelist_instance(asked).paginator
        except (IncorrectLookupParameters, DisallowedModelAdminLookup):
            asked.GET = QueryDict()
            return self.get_changelist_instance(asked).paginator
