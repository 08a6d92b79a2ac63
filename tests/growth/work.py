"""How much a database reads for what a block does: a fact that does not depend on how busy the machine is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connections

from canx_flow.models import Event, RunAttribute, RunHistory, RunKey, Schedule, StepRecord, Timer, WorkflowRun

#: Pages, rows or hundreds of instructions of a few look-ups. The indexes of the tables here have more.
LITTLE = 60
#: The tables that grow; of others the whole is little.
BIG = {
    model._meta.db_table
    for model in (Event, RunAttribute, RunHistory, RunKey, Schedule, StepRecord, Timer, WorkflowRun)
}
_EVERY = 100  # of SQLite's instructions
_EXPLAINED = (
    "LOAD 'auto_explain'",
    "SET auto_explain.log_min_duration = 0",
    "SET auto_explain.log_analyze = on",
    "SET auto_explain.log_timing = off",
    "SET auto_explain.log_buffers = on",
    "SET auto_explain.log_format = json",
    "SET auto_explain.log_level = notice",
)


@dataclass
class Work:
    """What was read: pages (PostgreSQL), rows (MariaDB, MySQL), hundreds of instructions (SQLite)."""

    spent: int = 0
    #: The tables that were read from end to end without an index, as far as the database tells: not MySQL's.
    scanned: list[str] = field(default_factory=list)
    #: Of each table the most pages that a statement has read so: PostgreSQL's alone.
    pages: dict[str, int] = field(default_factory=dict)
    #: Each statement with its plan, for whoever reads why a test failed.
    plans: list[str] = field(default_factory=list)

    def assert_little(self, little: int = LITTLE) -> None:
        """Fail if so much, or a whole table, was read."""
        assert self.spent <= little, str(self)
        assert not self.scanned, str(self)

    def __str__(self) -> str:
        return "\n".join([f"spent {self.spent}, scanned {self.scanned}", *self.plans])


@contextmanager
def measured(alias: str = "default") -> Iterator[Work]:
    """Measure what the block reads on this thread's connection. Statements are measured where they really run."""
    connection = connections[alias]
    connection.ensure_connection()
    with _MEASURES[connection.vendor](connection) as work:
        yield work


@contextmanager
def _postgresql(connection: Any) -> Iterator[Work]:
    work = Work()

    def explained(notice: Any) -> None:
        text = notice.message_primary or ""
        if " plan:\n" in text:
            plan = json.loads(text.partition(" plan:\n")[2])
            nodes = list(_nodes(plan["Plan"], 1))
            work.spent += _pages(plan["Plan"])
            scans = [(node["Relation Name"], _pages(node)) for _depth, node in nodes if _is_scan(node)]
            work.scanned += [table for table, _number in scans]
            work.pages.update((table, max(number, work.pages.get(table, 0))) for table, number in scans)
            lines = ["  " * depth + _line(node) for depth, node in nodes]
            work.plans.append("\n".join([plan["Query Text"].strip(), *lines]))

    raw = connection.connection
    with connection.cursor() as cursor:
        for statement in _EXPLAINED:
            cursor.execute(statement)
    raw.add_notice_handler(explained)
    try:
        yield work
    finally:
        # In a transaction PostgreSQL tells of a statement when the next one begins.
        with connection.cursor() as cursor:
            cursor.execute("SET auto_explain.log_min_duration = -1")
        raw.remove_notice_handler(explained)


def _nodes(node: dict[str, Any], depth: int) -> Iterator[tuple[int, dict[str, Any]]]:
    yield depth, node
    for part in node.get("Plans", ()):
        yield from _nodes(part, depth + 1)


def _pages(node: dict[str, Any]) -> int:
    return node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0)


def _is_scan(node: dict[str, Any]) -> bool:
    # To read the first pages, where many of their rows are wanted, is as good as an index.
    return node["Node Type"] == "Seq Scan" and _pages(node) > LITTLE and node["Relation Name"] in BIG


def _line(node: dict[str, Any]) -> str:
    where = node.get("Index Name") or node.get("Relation Name") or node.get("Subplan Name") or ""
    conditions = [f"{name}: {node[name]}" for name in ("Index Cond", "Filter") if name in node]
    rows = f"{node['Actual Rows']} rows x {node['Actual Loops']}"
    return " ".join([node["Node Type"], where, f"({rows}, {_pages(node)} pages)", *conditions])


@contextmanager
def _sqlite(connection: Any) -> Iterator[Work]:
    work, statements = Work(), []
    raw = connection.connection

    def step() -> int:
        work.spent += 1
        return 0

    raw.set_progress_handler(step, _EVERY)
    raw.set_trace_callback(statements.append)
    try:
        yield work
    finally:
        raw.set_progress_handler(None, 0)
        raw.set_trace_callback(None)
        for statement in statements:
            if statement.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
                lines = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}")]
                work.plans.append("\n  ".join([statement, *lines]))
                scans = [line.split()[1] for line in lines if line.startswith("SCAN") and " USING " not in line]
                work.scanned += [table for table in scans if table in BIG]


@contextmanager
def _mysql(connection: Any) -> Iterator[Work]:
    work = Work()

    def note(execute: Any, sql: str, *rest: Any) -> Any:
        work.plans.append(sql)
        return execute(sql, *rest)

    before = _rows_read(connection)
    with connection.execute_wrapper(note):
        yield work
    work.spent = _rows_read(connection) - before


def _rows_read(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(count) for _name, count in cursor.fetchall())


_MEASURES = {"postgresql": _postgresql, "sqlite": _sqlite, "mysql": _mysql}
