"""Runs that have failed alike: with the same type of error, and a message of the same pattern.

The newest failed runs are grouped by what is stored beside their errors; each group is then counted by an index, up to
a limit. Three queries. Called by the admin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q

from ..core.failures import cause_of, pattern_of
from ..exceptions import StoredError
from ..models import WorkflowRun
from ..models.conditions import failed_like, failed_with
from ..states import FAILED
from . import counting, display
from .display import ShownError

#: The newest failed runs that are looked at, and up to how many runs of one group are counted.
MOST_RUNS, MOST_COUNTED = 1_000, 1_000


class Failed(NamedTuple):
    """A failed run, as far as its group needs it."""

    id: UUID
    workflow: str
    type: str | None
    fingerprint: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that have failed alike, the newest first. `fingerprint` is `None` where they are grouped by type alone."""

    type: str | None
    fingerprint: str | None
    runs: Sequence[Failed]
    #: How many there are among all, up to `MOST_COUNTED`, and one more if there are more.
    number: int
    #: What the newest of them has failed with.
    error: ShownError | None

    @property
    def example(self) -> Failed:
        return self.runs[0]

    @property
    def is_whole(self) -> bool:
        """Whether all of them were looked at."""
        return self.number <= len(self.runs)

    @property
    def moments(self) -> Sequence[datetime]:
        """When they have failed, in order."""
        return sorted(run.at for run in self.runs if run.at is not None)

    @property
    def workflows(self) -> Sequence[str]:
        """Of which workflows they are, the most frequent first."""
        return [name for name, _number in Counter(run.workflow for run in self.runs).most_common()]

    @property
    def upto(self) -> UUID:
        """The newest of them."""
        return max(run.id for run in self.runs)

    @property
    def pattern(self) -> str:
        """What their messages have in common; empty for a group by type, whose messages differ."""
        return "" if self.fingerprint is None or self.error is None else _pattern(self.error)


def newest(alias: str) -> list[Failed]:
    """Read the newest failed runs."""
    runs = WorkflowRun.objects.using(alias).states(FAILED).order_by("-id")
    rows = runs.values_list("id", "workflow", "error_type", "error_print", "finished_at")[:MOST_RUNS]
    return [Failed(*row) for row in rows]


def groups(alias: str, failed: Sequence[Failed], most: int, *, by_type: bool, concealed: bool) -> list[Group]:
    """Group these, the largest group first. `by_type`: whatever their messages say; `concealed`: without those."""
    found: dict[tuple[str | None, str | None], list[Failed]] = {}
    for run in failed:
        found.setdefault((run.type, None if by_type else run.fingerprint), []).append(run)
    largest = sorted(found.items(), key=lambda item: (-len(item[1]), item[1][0].id.int))[:most]
    numbers = _counted(alias, [key for key, _runs in largest])
    errors = _errors(alias, [runs[0] for _key, runs in largest], concealed=concealed)
    return [
        Group(*key, runs, max(number, len(runs)), errors.get(runs[0].id))
        for (key, runs), number in zip(largest, numbers, strict=True)
    ]


def kinds(failed: Sequence[Failed], *, by_type: bool) -> int:
    """Count the groups that these make."""
    return len({(run.type, None if by_type else run.fingerprint) for run in failed})


def _counted(alias: str, keys: Sequence[tuple[str | None, str | None]]) -> list[int]:
    runs = WorkflowRun.objects.using(alias).all()
    return counting.capped(alias, [runs.filter(_condition(*key), state=FAILED) for key in keys], MOST_COUNTED + 1)


def _condition(kind: str | None, fingerprint: str | None) -> Q:
    if fingerprint is not None:
        return failed_like(fingerprint)
    return failed_with(kind) if kind is not None else Q(id__in=())


def _errors(alias: str, runs: Sequence[Failed], *, concealed: bool) -> dict[UUID, ShownError | None]:
    workflows = dict(map(attrgetter("id", "workflow"), runs))
    stored = WorkflowRun.objects.using(alias).filter(id__in=list(workflows)).values_list("id", "error")
    return {run_id: display.run_error(text, workflows[run_id], concealed=concealed) for run_id, text in stored}


def _pattern(error: ShownError) -> str:
    stored: StoredError = {"type": error.type, "message": error.message}  # type: ignore[typeddict-item]
    if error.step is not None and error.is_step_s:
        stored["step"] = error.step
    return pattern_of(cause_of(stored)[1])
