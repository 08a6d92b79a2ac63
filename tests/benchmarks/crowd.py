"""Runs that sleep for years, by the hundred thousand: copies, made by SQL, of one that a worker put to sleep."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import connection, models

from canx_flow.models import StepRecord, Timer, WorkflowRun

from . import workflows
from .places import Place
from .workers import Worker

_IDS = {
    "postgresql": "SELECT gen_random_uuid() AS id FROM generate_series(1, {count})",
    "sqlite": """WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
        SELECT lower(hex(randomblob(16))) AS id FROM n""",
}


def put_to_sleep(place: Place, count: int) -> None:
    """So many sleeping runs, each with its record and its timer; tables are in order afterwards."""
    run_id = workflows.nap.start(timedelta(days=3650).total_seconds())
    Worker(place, "--burst").wait()
    assert WorkflowRun.objects.get(id=run_id).state == "sleeping"
    _copy(run_id, count - 1)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
        cursor.execute("CHECKPOINT" if connection.vendor == "postgresql" else "PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _copy(run_id: UUID, count: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE copies AS {_IDS[connection.vendor].format(count=count)}")
        _copy_rows(WorkflowRun, "id", run_id)
        _copy_rows(StepRecord, "run_id", run_id)
        _copy_rows(Timer, "run_id", run_id)
        cursor.execute("DROP TABLE copies")


def _copy_rows(model: type[models.Model], to_run: str, run_id: UUID) -> None:
    """Every row of the run once more for each copy; a primary key that is a number is given anew."""
    generated = models.AutoField | models.BigAutoField
    columns = [field.column for field in model._meta.concrete_fields if not isinstance(field, generated)]
    chosen = ["copies.id" if column == to_run else f'row."{column}"' for column in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    given = run_id if connection.features.has_native_uuid_field else run_id.hex
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {model._meta.db_table} ({names}) SELECT {', '.join(chosen)} "
            f"FROM {model._meta.db_table} row, copies WHERE row.{to_run} = %s",
            [given],
        )
