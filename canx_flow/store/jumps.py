"""The values that a column has among some rows, found by jumps through an index: a step each, however many have one.

Used for queues with limits, by `queue_rows` and `queue_looks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .db.portable import Portable


class Jumps(NamedTuple):
    """Which rows, as `FROM … WHERE …` with its values, and the order of the index that has them."""

    column: str
    rows: str
    values: Sequence[Any]
    order: str
    #: What holds of the next value and the one before: `>`, or `<` where the order is descending.
    beyond: str = ">"
    #: What holds of the first value, as ` AND …`: of two upper bounds SQLite takes the first, and reads on from that.
    begin: str = ""


def jumps(session: Portable, wanted: Jumps, most: int) -> list[Any]:
    """Return up to so many values: by one statement, or, where those do not jump, by one for each."""
    column, rows, values, order, beyond, begin = wanted
    first = f"SELECT {column} {rows}{begin} ORDER BY {order} LIMIT 1"
    further = f"SELECT {column} {rows} AND {column} {beyond} {{before}} ORDER BY {order} LIMIT 1"
    if session.recursion_jumps:
        statement = f"""
          WITH RECURSIVE found (value, number) AS (
            SELECT ({first}), 1
            UNION ALL
            SELECT ({further.format(before="found.value")}), number + 1 FROM found
            WHERE value IS NOT NULL AND number < %s
          )
          SELECT value FROM found WHERE value IS NOT NULL
        """
        return [value for (value,) in session.prepared(statement, [*values, *values, most])]
    found = session.prepared(first, values)
    seen = [value for (value,) in found]
    while found and len(seen) < most:
        found = session.prepared(further.format(before="%s"), [*values, seen[-1]])
        seen += [value for (value,) in found]
    return seen
