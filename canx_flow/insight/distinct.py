"""The values that a column has, found by jumps through its index: one look for each, however many rows have it.

Called by the filters of the admin's list, and by `queues`.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connections

from ..models import WorkflowRun

#: Values that are looked for.
MOST = 100

#: The columns that begin an index, and the condition of that index, as SQLite wants it in words.
_CONDITIONS = {
    "workflow": "",
    "queue": "NOT (queue = 'default')",
    "error_type": "error_type IS NOT NULL",
}
_LEFT_OUT = ("queue", "default")
_TABLE = WorkflowRun._meta.db_table


def values(alias: str, column: str) -> Sequence[str]:
    """Return the first `MOST` values of this column of all runs, in order: workflow, queue (but the default one) or
    error_type."""
    found = _found(alias, column, _CONDITIONS[column])
    return [value for value in found if (column, value) != _LEFT_OUT]


def due_queues(alias: str) -> Sequence[str]:
    """Return the first `MOST` queues in which runs are due, in order; on MySQL and MariaDB those that any run was in.

    Of due runs alone their DISTINCT would read all.
    """
    match connections[alias].vendor:
        case "mysql":
            return [_LEFT_OUT[1], *values(alias, "queue")]
        case "postgresql":
            return _found(alias, "queue", "ready")
    return _found(alias, "queue", "ready = 1")


def _found(alias: str, column: str, condition: str) -> list[str]:
    statement = _jumps(column, condition)
    if connections[alias].vendor == "mysql":
        # Its recursive statements do not jump. DISTINCT does: each index that has a condition elsewhere has all rows.
        statement = f"SELECT DISTINCT {column} FROM {_TABLE} ORDER BY {column} LIMIT {MOST}"  # noqa: S608 - ours
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
        return [str(row[0]) for row in cursor.fetchall() if row[0] is not None]


def _jumps(column: str, condition: str) -> str:
    where = f" WHERE {condition}" if condition else ""
    beyond = f" WHERE {f'{condition} AND ' if condition else ''}{column} > found.value"
    first = f"SELECT {column} FROM {_TABLE}{where} ORDER BY {column} LIMIT 1"  # noqa: S608 - ours
    further = f"SELECT {column} FROM {_TABLE}{beyond} ORDER BY {column} LIMIT 1"  # noqa: S608 - ours
    return (
        f"WITH RECURSIVE found (value, place) AS (SELECT * FROM (SELECT ({first}) AS value, 1 AS place) start "  # noqa: S608
        f"UNION ALL SELECT ({further}), place + 1 FROM found WHERE value IS NOT NULL AND place < {MOST}) "
        f"SELECT value FROM found WHERE value IS NOT NULL ORDER BY place"
    )
