"""Where a run stands, and the runs of a workflow."""

from __future__ import annotations

from uuid import UUID

from ..core import naming
from ..core.current import refuse_in_body
from ..core.twins import twin
from ..insight.status import status_of
from ..models import RunQuerySet, WorkflowRun
from ..status import RunStatus
from . import named


def get_run(run_id: UUID | str, *, workflow: str | None = None) -> RunStatus:
    """Return where a run stands now."""
    refuse_in_body("status")
    return status_of(named.get(run_id, workflow))


def runs(workflow: str | None = None) -> RunQuerySet:
    """Return all runs, or one workflow's, as a queryset on the runs' database."""
    refuse_in_body("runs")
    every = WorkflowRun.objects.using(named.alias())
    return every if workflow is None else every.filter(workflow=naming.checked(workflow, "workflow name", 200))


aget_run = twin(get_run)
