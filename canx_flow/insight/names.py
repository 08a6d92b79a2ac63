"""Whose a stored value is: the names under which `REDACT` is asked for it, the same wherever it is shown.

Called by the timeline, the export and the admin's page of an event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from .. import conf
from ..core import naming
from ..models import Event, StepRecord, WorkflowRun
from .redaction import CONCEALED, UNKNOWN, Names

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class RunNames:
    """The names of a run's values. `events`: what its waits have read, by id; `workflows`: of its children, by id."""

    workflow: str
    concealed: bool = False
    events: Mapping[int, Event] = field(default_factory=dict)
    workflows: Mapping[UUID, str] = field(default_factory=dict)

    @property
    def arguments(self) -> Names:
        return Names("arguments", self.workflow, concealed=self.concealed)

    @property
    def result(self) -> Names:
        return Names("result", self.workflow, concealed=self.concealed)

    @property
    def attributes(self) -> Names:
        return Names("attributes", self.workflow, concealed=self.concealed)

    @property
    def progress(self) -> Names:
        return Names("progress", self.workflow, concealed=self.concealed)

    def of_record(self, record: StepRecord) -> Names:
        """Return those of a record's result: it may be an event's payload, or a child's result."""
        if self.concealed:
            return CONCEALED
        if record.event_id is None:
            return Names("result", self.workflow, record.name)
        event = self.events.get(record.event_id)
        return UNKNOWN if event is None else self.of_event(event)

    def of_event(self, event: Event) -> Names:
        """Return those of an event that was sent to this run, or that it has read."""
        if self.concealed:
            return CONCEALED
        child = naming.child_of(event.name)
        if child is not None:
            return _of_child(self.workflows.get(child))
        return payload(event.name, self.workflow if event.run_id is not None else None)


def payload(event: str, workflow: str | None) -> Names:
    """Return those of an event's payload; `workflow`: of the run it was sent to, `None` for a broadcast."""
    return Names("event", workflow, event=event)


def _of_child(workflow: str | None) -> Names:
    """Return those of a child's result: its own, as on its own page."""
    return UNKNOWN if workflow is None else Names("result", workflow)


def workflows_of(alias: str, children: Collection[UUID]) -> dict[UUID, str]:
    """Read the workflow of each of these runs, where `REDACT` asks for it: a run that was pruned has none."""
    found: dict[UUID, str] = {}
    if conf.get().redact is None:
        return found
    ids = sorted(children)
    for begin in range(0, len(ids), _AT_ONCE):
        runs = WorkflowRun.objects.using(alias).filter(id__in=ids[begin : begin + _AT_ONCE])
        found.update(runs.values_list("id", "workflow"))
    return found


def of_lone_event(alias: str, event: Event) -> Names:
    """Return those of an event by itself, read for its page."""
    child = naming.child_of(event.name)
    if child is not None:
        return _of_child(workflows_of(alias, [child]).get(child))
    if event.run_id is None:
        return payload(event.name, None)
    workflow = WorkflowRun.objects.using(alias).filter(id=event.run_id).values_list("workflow", flat=True).first()
    return UNKNOWN if workflow is None else payload(event.name, workflow)
