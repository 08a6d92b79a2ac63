"""Where each run of a list stands: at which step, when and how it goes on, and what ended it.

Three queries at most, however many runs. Called by the admin's list; the page of one run shows its timeline instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from .. import conf
from ..models import WorkflowRun
from ..states import FAILED, UNFINISHED
from . import reading
from .display import ShownError
from .reading import OpenWait


@dataclass(frozen=True, slots=True)
class Position:
    """`step`: what its worker last reported, or that of the wait that is due first. `error`: what ended it."""

    step: str | None = None
    wait: OpenWait | None = None
    error: ShownError | None = None


def positions(runs: Sequence[WorkflowRun]) -> dict[UUID, Position]:
    """Read where each of these runs stands, by its id."""
    alias = conf.get().database
    owned = [run for run in runs if reading.is_owned(run)]
    suspended = [run.id for run in runs if run.state in UNFINISHED and not reading.is_owned(run)]
    steps = reading.reported_steps(alias, owned)
    waits = reading.first_waits(alias, suspended) if suspended else {}
    errors = reading.errors(alias, [run for run in runs if run.state == FAILED])
    return {run.id: _position(steps.get(run.id), waits.get(run.id), errors.get(run.id)) for run in runs}


def _position(step: str | None, wait: OpenWait | None, error: ShownError | None) -> Position:
    return Position(step, error=error) if wait is None else Position(wait.step or None, wait)
