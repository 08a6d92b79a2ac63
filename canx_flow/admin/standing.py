"""Where runs stand: at which step, when and how each goes on, and what ended those that failed.

Three questions to the database at most, however many runs.

Called by the list for a page of runs. The page of one run draws its timeline instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from .. import conf
from ..insight import reading
from ..insight.display import ShownError
from ..insight.reading import OpenWait
from ..models import WorkflowRun
from ..states import FAILED, UNFINISHED

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
    """Read where each of these runs stands, by its id."""
    alias = conf.get().database
    owned = [run for run in runs if reading.is_owned(run)]
    suspended = [run.id for run in runs if run.state in UNFINISHED and not reading.is_owned(run)]
    steps = reading.reported_steps(alias, owned)
    waits = reading.first_waits(alias, suspended) if suspended else {}
    errors = reading.errors(alias, [run for run in runs if run.state == FAILED])
    return {run.id: _standing(steps.get(run.id), waits.get(run.id), errors.get(run.id)) for run in runs}


def _standing(step: str | None, wait: OpenWait | None, error: ShownError | None) -> Standing:
    return Standing(step, error=error) if wait is None else Standing(wait.step or None, wait)
