"""Which runs have failed attempts: of those whose steps did fail, the newest ones. Called by a filter of the admin.

A step is tried again and may succeed; what its run says in the end tells nothing of that. So the steps are asked.
"""

from __future__ import annotations

from typing import Any

from django.db import models

from .runs import WorkflowRun
from .steps import StepRecord

#: Runs that are found at most. On MySQL and MariaDB, which cannot index the few steps that have failed: runs that are
#: looked at, the newest ones.
MOST = 10_000


class HasFailedAttempts(models.Lookup):  # type: ignore[type-arg]
    """The condition that the run of this id has a step with a failed attempt; for `filter`.

    A lookup, since Django compares other conditions with 1 for SQLite, which then takes no index.
    """

    lookup_name = "has_failed_attempts"
    prepare_rhs = False

    def __init__(self, column: str = "id") -> None:
        super().__init__(models.F(column), MOST)

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        text, parameters = self.process_lhs(compiler, connection)
        return f"{text} IN ({self._newest()})", parameters

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        """Ask for an array, which it takes for ten: a query's rows, without statistics, it takes for half the table."""
        text, parameters = self.process_lhs(compiler, connection)
        return f"{text} = ANY(ARRAY({self._newest()}))", parameters

    def as_mysql(self, compiler: Any, connection: Any) -> Any:
        """Look at the newest runs. In brackets of its own: MySQL takes no LIMIT right inside of IN."""
        text, parameters = self.process_lhs(compiler, connection)
        runs, steps = WorkflowRun._meta.db_table, StepRecord._meta.db_table
        newest = f"SELECT id FROM {runs} ORDER BY id DESC LIMIT {self.rhs}"  # noqa: S608 - ours
        failed = f"SELECT 1 FROM {steps} s WHERE s.run_id = newest.id AND s.errors IS NOT NULL"  # noqa: S608 - ours
        return f"{text} IN (SELECT id FROM ({newest}) newest WHERE EXISTS ({failed}))", parameters  # noqa: S608 - ours

    def _newest(self) -> str:
        return (
            f"SELECT DISTINCT run_id FROM {StepRecord._meta.db_table} "  # noqa: S608 - ours
            f"WHERE errors IS NOT NULL ORDER BY run_id DESC LIMIT {self.rhs}"
        )
