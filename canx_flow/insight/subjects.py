"""The runs of one object of the project, the newest first, as they were started with `using(subject=…)`.

Called by the admin's inline and by `{% workflow_runs %}`. Four queries at most, however many runs there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Model

from .. import conf
from ..models import RunQuerySet, WorkflowRun

#: Runs of one object that are counted: of more there are "1,000+".
MOST_COUNTED = 1000

#: May hold megabytes, and nothing of it is shown here.
_UNREAD = ("arguments", "result", "error", "progress", "first_attributes", "attributes")


@dataclass(frozen=True, slots=True)
class RunsOf:
    """The newest runs of an object, and how many it has; `at_least`: there are more than were counted."""

    runs: tuple[WorkflowRun, ...]
    number: int
    at_least: bool

    @property
    def counted(self) -> str:
        """The number as it is written: `3`, or `1000+`."""
        return f"{self.number}+" if self.at_least else str(self.number)


def runs_of(subject: Model, most: int) -> RunsOf:
    """Read the newest runs of a saved object; ValueError if it is not saved."""
    found = _all(subject)
    runs = tuple(found.defer(*_UNREAD).order_by("-id")[:most])
    if len(runs) < most:
        return RunsOf(runs, len(runs), at_least=False)
    return RunsOf(runs, *_counted(found))


def count(subject: Model) -> RunsOf:
    """Count the runs of a saved object and read none."""
    return RunsOf((), *_counted(_all(subject)))


def _all(subject: Model) -> RunQuerySet:
    return WorkflowRun.objects.using(conf.get().database).for_subject(subject)


def _counted(found: RunQuerySet) -> tuple[int, bool]:
    number = found.order_by()[: MOST_COUNTED + 1].count()
    return min(number, MOST_COUNTED), number > MOST_COUNTED
