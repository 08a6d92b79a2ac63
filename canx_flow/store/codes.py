"""The workflows and versions that runs are of, found by an index that they lead, and runs of one, locked.

Used by `parking` and `unparking`. Each step is a look-up, however many runs there are of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from django.db import connections

from ..models import RunQuerySet

#: A workflow's name and version.
Code = tuple[str, str]


def codes_of(runs: RunQuerySet) -> Iterator[Code]:
    """Yield each code that these runs are of, in its order."""
    code = next_code(runs, None)
    while code is not None:
        yield code
        code = next_code(runs, code)


def next_code(runs: RunQuerySet, code: Code | None) -> Code | None:
    """Return the first code behind this one (`None`: of all) that these runs are of."""
    found = runs.order_by("workflow", "version").values_list("workflow", "version")
    if code is None:
        return found.first()
    workflow, version = code
    # Each is one place in the index; that both are asked at once, no planner sees.
    return found.filter(workflow=workflow, version__gt=version).first() or found.filter(workflow__gt=workflow).first()


def lock(runs: RunQuerySet, limit: int) -> Sequence[UUID]:
    """Lock up to so many of these, but for those that another transaction has locked; return their ids."""
    skip = connections[runs.db].features.has_select_for_update_skip_locked
    return list(runs.select_for_update(skip_locked=skip).values_list("id", flat=True)[:limit])
