"""Indexes that are partial where the database can."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, models
from django.db.models import Q

from canx_flow.core.columns import PartialIndex
from canx_flow.models import Timer


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("where", "fixed"),
    [
        (Q(held=False), ["held"]),
        (Q(held=False, due_at__isnull=False), ["held"]),
        (~Q(held=False), []),
        (Q(held=False) | Q(kind="wait"), []),
        (Q(due_at__isnull=False), []),
        (Q(due_at__isnull=True, kind__gt="a"), ["due_at"]),
    ],
)
def test_a_column_that_the_condition_fixes_leads_only_where_no_index_is_partial(where: Q, fixed: list[str]) -> None:
    """PostgreSQL would read an index that begins with such a column from end to end."""
    index = PartialIndex(fields=["event", "key"], where=where, name="some")
    statement = str(index.create_sql(Timer, connection.SchemaEditorClass(connection, collect_sql=True)))
    columns, partly, _condition = statement.partition(" WHERE ")
    is_partial = connection.features.supports_partial_indexes
    names = ["event", "key"] if is_partial else [*fixed, "event", "key"]
    assert columns.endswith(f"({', '.join(map(connection.ops.quote_name, names))})")
    assert bool(partly) == is_partial


def test_it_is_made_again_by_a_migration() -> None:
    """What it is made of is what it says of itself."""
    index = PartialIndex(fields=["due_at"], where=Q(held=False), name="some")
    path, arguments, kwargs = index.deconstruct()
    again: Any = PartialIndex(*arguments, **kwargs)
    assert path == "canx_flow.core.columns.PartialIndex"
    assert (again, again.where) == (index, Q(held=False))
    assert issubclass(PartialIndex, models.Index)
