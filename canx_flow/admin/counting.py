"""A paginator that does not count a million rows to show a hundred. Used by every list of ours.

Past the limit a list says "≥10000" and offers the pages up to there; filters and the search reach the rest.
"""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property


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
        rows: Any = self.object_list
        found = rows.order_by()[: self.limit + 1].count()
        return AtLeast(self.limit) if found > self.limit else found
