"""What has ended the waits of runs that still run: timers that others have fired, events that came.

Called by a worker's turn, for runs of its own in which a branch is blocked while others go on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from ..core import clock
from ..core.changes import Wait, WaitEnd
from ..models import Event, StepRecord
from ..states import Kind, RecordState

_MOST = 1000  # waits of a run, and events, that are looked at in one go
_EVENT = ("id", "run_id", "name", "key", "created_at")
_BROADCASTS = timedelta(minutes=1)  # that are looked at: whoever waits has looked for older ones himself


def ended(alias: str, waits: Mapping[UUID, Sequence[Wait]]) -> dict[UUID, list[WaitEnd]]:
    """Return which of these waits have ended, by run; an event may be one that the run has read already."""
    ends: dict[UUID, list[WaitEnd]] = defaultdict(list)
    for run_id, found in _fired(alias, waits):
        ends[run_id].append(found)
    if any(_is_for_event(wait) for some in waits.values() for wait in some):
        for run_id, found in _sent(alias, waits):
            ends[run_id].append(found)
    return ends


def _fired(alias: str, waits: Mapping[UUID, Sequence[Wait]]) -> list[tuple[UUID, WaitEnd]]:
    asked = {(run_id, wait.step): wait for run_id, some in waits.items() for wait in _due_first(some)}
    records = StepRecord.objects.using(alias).filter(run_id__in=waits, name__in={step for _run_id, step in asked})
    rows = records.exclude(state=RecordState.OPEN).values_list("run_id", "name", "state", "finished_at")
    found = ((run_id, asked.get((run_id, step)), state, at) for run_id, step, state, at in rows)
    return [(run_id, WaitEnd(wait, state, at=at)) for run_id, wait, state, at in found if wait is not None]


def _is_for_event(wait: Wait) -> bool:
    return wait.event is not None and wait.kind != Kind.LIMIT


def _due_first(waits: Sequence[Wait]) -> Sequence[Wait]:
    if len(waits) <= _MOST:
        return waits
    # Of those that an earlier activation has opened it is not known when they are due.
    return sorted(waits, key=lambda wait: (wait.due_at is not None, wait.due_at))[:_MOST]


def _sent(alias: str, waits: Mapping[UUID, Sequence[Wait]]) -> list[tuple[UUID, WaitEnd]]:
    names = {wait.event for some in waits.values() for wait in some if _is_for_event(wait)}
    events = Event.objects.using(alias).filter(name__in=names)
    directed = events.filter(run_id__in=waits, consumed_at=None).order_by("id")
    broadcasts = events.filter(run_id=None, created_at__gte=clock.now() - _BROADCASTS).order_by("id")
    found = []
    for event_id, to, name, _key, at in directed.values_list(*_EVENT)[:_MOST]:
        if to is not None:
            found += [(to, WaitEnd(w, None, event_id, at)) for w in waits[to] if w.event == name]
    for event_id, _to, name, key, at in broadcasts.values_list(*_EVENT)[:_MOST]:
        for run_id, some in waits.items():
            matching = (wait for wait in some if wait.event == name and wait.key == key)
            found += [(run_id, WaitEnd(wait, None, event_id, at)) for wait in matching]
    return found
