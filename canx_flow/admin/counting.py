"""Paginators that do not count a million rows to show a hundred. Used by every list of ours.

Past the limit a list says "≥10000" and offers the pages up to there; filters and the search reach the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Q
from django.utils.functional import cached_property

from ..models import RunQuerySet


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


class PartsPaginator(CappedPaginator):
    """For runs in one of several states. Of each an index has them in order; of all those none has.

    So each is asked for by itself, up to the place that is wanted. In one order, a list of a few runs that have not
    finished would read the many that have.
    """

    object_list: RunQuerySet
    #: The conditions, no two of which hold for a run.
    conditions: Sequence[Q] = ()
    #: Whether these leave out some runs that they were meant for.
    is_cut = False

    @cached_property
    def count(self) -> int:
        found = super().count
        return AtLeast(found) if self.is_cut else found

    def parts(self) -> Iterator[RunQuerySet]:
        for condition in self.conditions:
            yield self.object_list.filter(condition)

    def between(self, bottom: int, top: int) -> RunQuerySet:
        """Return the runs at these places."""
        # A run may go from one of the states to another meanwhile: it is one all the same.
        found = {run_id for runs in self.parts() for run_id in runs.order_by("-id").values_list("id", flat=True)[:top]}
        return self.object_list.filter(id__in=sorted(found, reverse=True)[bottom:top])

    def page(self, number: Any) -> Page[Any]:
        number = self.validate_number(number)
        top = min(number * self.per_page, self.count)
        return Page(self.between((number - 1) * self.per_page, top), number, self)
