"""Parking: runs whose workflow no live worker knows wait, visibly, until one does.

Called by a worker's chores and by the inline driver. How they go on is in `unparking`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import connections

from ..core import arrows
from ..exceptions import UnknownWorkflow
from ..models import RunQuerySet, Worker, WorkflowRun
from ..models.conditions import TRUE
from ..states import STOPPING
from .codes import codes_of, lock
from .db.engine import transaction
from .transitions import park_stopping, take

UNKNOWN = "UnknownWorkflow"

_BATCH = 500


class Parked(NamedTuple):
    """A run that was parked. `again`: for the reason that it was parked for before, and it has not gone on since."""

    id: UUID
    workflow: str
    version: str
    again: bool


def park_unknown(alias: str, live: Sequence[Worker], queues: Sequence[str] = (), limit: int = _BATCH) -> list[Parked]:
    """Park ready runs whose workflow no live worker knows: up to so many of each."""
    known = {tuple(identity) for worker in live for identity in json.loads(worker.workflows)}
    ready = WorkflowRun.objects.using(alias).filter(ready=TRUE, generation__gte=0)  # As `canx_run_ready_code` wants it.
    parked: list[Parked] = []
    for workflow, version in codes_of(ready):
        if (workflow, version) not in known:
            of_code = ready.filter(workflow=workflow, version=version)
            of_queues = of_code.filter(queue__in=queues) if queues else of_code
            ids, again = _park(alias, of_queues, f"{workflow}@{version}" if version else workflow, limit)
            parked += [Parked(run_id, workflow, version, run_id in again) for run_id in ids]
    return parked


def _park(alias: str, runs: RunQuerySet, label: str, limit: int) -> tuple[Sequence[UUID], set[UUID]]:
    """Park some of these; return which, and those of them that were parked for this reason before."""
    reason = f"{UNKNOWN}: no worker knows {label!r}. It goes on when a worker starts that does."
    with transaction(connections[alias]):
        # One that only has to end needs no code.
        ids = lock(runs.exclude(state=STOPPING, has_undo=False).order_by("-priority", "id"), limit)
        locked = WorkflowRun.objects.using(alias).filter(id__in=ids)
        again = set(locked.filter(reason=reason).values_list("id", flat=True))
        stopping = set(locked.filter(state=STOPPING).values_list("id", flat=True))
        take(alias, arrows.PARK, [run_id for run_id in ids if run_id not in stopping], reason=reason, error=None)
        for run_id in stopping:
            park_stopping(alias, arrows.PARK, run_id, reason, UnknownWorkflow)
    return ids, again
