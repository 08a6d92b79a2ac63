"""An arrow of the state machine as the SET clause of a statement, the same for every database.

Called by the hand-written statements.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ...core.arrows import Arrow, ByState, Set


@cache
def assignments(arrow: Arrow, *, now: str = "%s", **given: str) -> str:
    """Return what stands between SET and WHERE; parameters are what is given and the moment, in the table's order.

    `given`: expressions for columns that are given, where a parameter will not do.
    """
    return ", ".join(
        f"{column} = {_expression(column, value, given.get(column, '%s'), now)}" for column, value in arrow.sets.items()
    )


def _expression(column: str, value: Any, given: str, now: str) -> str:
    match value:
        case Set.GIVEN:
            return given
        case Set.NOW:
            return now
        case Set.NOW_IF_NULL:
            return f"COALESCE({column}, {now})"
        case Set.ONE_MORE:
            return f"{column} + 1"
        case ByState():
            (_, default), *others = value.values.items()
            cases = "".join(f" WHEN {_literal(before)} THEN {_literal(after)}" for before, after in others)
            return f"CASE state{cases} ELSE {_literal(default)} END"
        case Set():
            raise TypeError(f"{column} is not set by a hand-written statement")
    return _literal(value)


def _literal(value: Any) -> str:
    """Return a constant of the table as every database reads it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else f"'{value}'"
