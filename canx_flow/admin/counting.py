"""Paginators that do not count a million rows to show a hundred. Used by every list of ours.

Past the limit a list says "≥10000" and offers the pages up to there; filters and the search reach the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.paginator import Page, Paginator
from django.utils.functional import cached_property

from ..models import RunQuerySet
from ..states import UNFINISHED


class AtLeast(int):
    """A count that was stopped. Prints as `≥10000`, wherever the admin prints a count."""

    capped = True

    def __str__(self) -> str:
        return f"≥{int(self)}"


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to `limit` rows."""

    limit = 10_000

    @cached_property
    def count(self) -> int:
        found = 0
        for rows in self.parts():
            found += rows.order_by()[: self.limit + 1 - found].count()
            if found > self.limit:
                return AtLeast(self.limit)
        return found

    def parts(self) -> Iterator[Any]:
        """Yield the rows in the parts by which they are counted."""
        yield self.object_list


class UnfinishedPaginator(CappedPaginator):
    """For runs that have not finished. Of each state an index has them in order; of all those states none has.

    So each is asked for by itself, up to the place that is wanted. In one order, a list of a few runs that have not
    finished would read the many that have.
    """

    object_list: RunQuerySet

    def parts(self) -> Iterator[RunQuerySet]:
        for state in UNFINISHED:
            yield self.object_list.states(state)

    def between(self, bottom: int, top: int) -> RunQuerySet:
        """Return the runs at these places."""
        # A run may go from one of the states to another meanwhile: it is one all the same.
        found = {run_id for runs in self.parts() for run_id in runs.order_by("-id").values_list("id", flat=True)[:top]}
        return self.object_list.filter(id__in=sorted(found, reverse=True)[bottom:top])

    def page(self, number: Any) -> Page[Any]:
        number = self.validate_number(number)
        top = min(number * self.per_page, self.count)
        return Page(self.between((number - 1) * self.per_page, top), number, self)
