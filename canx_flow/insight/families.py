"""The child runs that a page of steps has called, each with its first steps: two queries, however many there are.

Called by the admin's page of a run, which nests them in their calls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID

from .. import conf
from ..models import StepRecord, WorkflowRun
from .gantt import Kin
from .rows import Row, rows_of

#: Children of one page, and steps of all of them.
MOST_CHILDREN = 50
MOST_STEPS = 300
_SEEN = ("id", "workflow", "version", "state", "owner_id", "created_at", "started_at", "finished_at")
_STEP = ("id", "run_id", "seq", "name", "kind", "state", "attempts", "event_id", "started_at", "finished_at")


def of(rows: Iterable[Row]) -> Mapping[UUID, Kin]:
    """Read the children of these rows, by their ids."""
    alias = conf.get().database
    ids = list(dict.fromkeys(row.child for row in rows if row.child is not None))[:MOST_CHILDREN]
    if not ids:
        return {}
    records: dict[UUID, list[StepRecord]] = defaultdict(list)
    steps = StepRecord.objects.using(alias).filter(run_id__in=ids).order_by("run_id", "seq").only(*_STEP)
    for record in steps[:MOST_STEPS]:
        record.errors = None  # Else it would be asked for, one by one.
        record.result = None
        records[record.run_id].append(record)
    runs = WorkflowRun.objects.using(alias).filter(id__in=ids).only(*_SEEN)
    return {run.id: Kin(run, rows_of(run, records[run.id])) for run in runs}
