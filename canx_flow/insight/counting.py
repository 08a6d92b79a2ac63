"""Counts of several sets of rows in one statement, each up to a limit. Called by `evidence` and by the admin's tabs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import QuerySet


def capped(alias: str, sets: Sequence[QuerySet[Any]], most: int) -> list[int]:
    """Count each of these sets up to `most`: one statement, which looks at no more rows than it counts."""
    counted: list[int | None] = []
    parts: list[str] = []
    values: list[Any] = []
    for rows in sets:
        try:
            sql, given = rows.order_by().values("pk")[:most].query.get_compiler(alias).as_sql()
        except EmptyResultSet:
            counted.append(0)
            continue
        parts.append(f"(SELECT COUNT(*) FROM ({sql}) counted)")  # noqa: S608 - of querysets
        values += given
        counted.append(None)
    if not parts:
        return [count or 0 for count in counted]
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(parts)}", values)
        found = iter(cursor.fetchone())
    return [int(next(found)) if count is None else count for count in counted]
