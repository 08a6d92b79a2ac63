"""Where runs stand: at which step, when and how each goes on, and what ended those that failed.

Three questions to the database at most, however many runs.

Called by the list for a page of runs. The page of one run draws its timeline instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from .. import conf
from ..insight import display, timeline
from ..insight.display import ShownError
from ..insight.timeline import OpenWait
from ..models import Worker, WorkflowRun
from ..states import FAILED, RUNNING, STOPPING, UNFINISHED, WorkerState

R = TypeVar("R", bound=Iterable[WorkflowRun])


@dataclass(frozen=True, slots=True)
class Standing:
    """`step`: what its worker last said, or that of the wait that is due first. `error`: what ended it."""

    step: str | None = None
    wait: OpenWait | None = None
    error: ShownError | None = None


def attach(runs: R) -> R:
    """Have every run of a page know where it stands. The same page, whose rows are now loaded."""
    found = standings(list(runs))
    for run in runs:
        run.__dict__["_standing"] = found[run.id]
    return runs


def of(run: WorkflowRun) -> Standing:
    """Return what `attach` found for this run, and read it for a run that came another way."""
    known: Standing | None = run.__dict__.get("_standing")
    return known if known is not None else standings([run])[run.id]


def standings(runs: Sequence[WorkflowRun]) -> dict[UUID, Standing]:
    working = {run.id: run.owner_id for run in runs if run.state in (RUNNING, STOPPING) and run.owner_id is not None}
    suspended = [run.id for run in runs if run.state in UNFINISHED and run.id not in working]
    steps = _steps(working)
    waits = timeline.first_waits(conf.get().database, suspended) if suspended else {}
    errors = _errors([run for run in runs if run.state == FAILED])
    return {run.id: _standing(steps.get(run.id), waits.get(run.id), errors.get(run.id)) for run in runs}


def _standing(step: str | None, wait: OpenWait | None, error: ShownError | None) -> Standing:
    return Standing(step, error=error) if wait is None else Standing(wait.step or None, wait)


def _errors(failed: Sequence[WorkflowRun]) -> dict[UUID, ShownError | None]:
    """Read the stored errors of the failed runs of a page alone, for they hold tracebacks."""
    if not failed:
        return {}
    workflows = {run.id: run.workflow for run in failed}
    stored = WorkflowRun.objects.using(conf.get().database).filter(id__in=list(workflows))
    return {run: display.run_error(error, workflows[run]) for run, error in stored.values_list("id", "error")}


def _steps(owners: dict[UUID, Any]) -> dict[UUID, str | None]:
    """Return the step that each worker reported with its last heartbeat; one read for each worker, not each run."""
    if not owners:
        return {}
    alive = Worker.objects.using(conf.get().database).filter(state=WorkerState.ALIVE)
    workers = alive.filter(id__in=set(owners.values()))
    said: dict[Any, dict[str, Any]] = {
        worker: json.loads(activity) for worker, activity in workers.values_list("id", "activity")
    }
    return {run: said.get(owner, {}).get(str(run), {}).get("step") for run, owner in owners.items()}
