"""Which tests are `short`: all that a pair of Python and Django runs on a database that has the rest with another.

Called by conftest. The newest pair and the oldest run each test at least once: on a database of their own those that
are not `once`, on SQLite those that are, which the pair between the two leaves out. What does not speak to a database,
or speaks to it as the rest of the engine does, is not tried with each pair of both. What a page or a benchmark says is
shown with the newest pair alone.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
#: Where a version of Django may take a database otherwise: statements, querysets, transactions, connections.
PLACES = (
    *("admin/test_list.py", "checks", "insight", "management/test_pruneflows.py", "store", "test_after_commit.py"),
    *("test_atomic.py", "test_migrations.py", "test_partitions.py", "test_rivals.py", "test_routers.py"),
    *("worker/chores", "worker/test_traced.py", "worker/test_turn.py", "worker/test_wakeup.py"),
)
NEWEST_ONLY = ("benchmarks", "docs")


def mark_short(items: list[pytest.Item]) -> None:
    """Mark these tests."""
    for item in items:
        is_once = item.get_closest_marker("once") is not None
        if _lies_in(PLACES, item.path) or (is_once and not _lies_in(NEWEST_ONLY, item.path)):
            item.add_marker("short")


@cache
def _lies_in(places: tuple[str, ...], file: Path) -> bool:
    return any(file.is_relative_to(TESTS / place) for place in places)
