"""What has ended the waits of runs that still run: timers that others have fired, events that came.

Called by a worker's turn, for runs of its own in which a branch is blocked while others go on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, Window
from django.db.models.functions import RowNumber

from ..core import clock
from ..core.changes import Wait, WaitEnd
from ..models import Event, StepRecord
from ..states import Kind, RecordState
from .children import batches

_MOST = 1000  # waits of a run that are looked at in one go
_MOST_ALIKE = 100  # events: a wait ends with the first that its run has not read, and is told of all others in vain
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
    for_events = [(run_id, wait) for run_id, some in waits.items() for wait in some if _is_for_event(wait)]
    #: By what an event of theirs has: run and name, or, of a broadcast, name and key.
    asked: dict[tuple[UUID | str, str | None], list[tuple[UUID, Wait]]] = defaultdict(list)
    for run_id, wait in for_events:
        asked[run_id, wait.event].append((run_id, wait))
        asked[str(wait.event), wait.key].append((run_id, wait))
    events = Event.objects.using(alias).filter(name__in={wait.event for _run_id, wait in for_events})
    directed = events.filter(run_id__in=waits, consumed_at=None)
    found = _few_of_each(directed, "run_id", "name", first="id")
    broadcasts = events.filter(run_id=None, created_at__gte=clock.now() - _BROADCASTS)
    for some in _of_keys(broadcasts, {wait.key for _run_id, wait in for_events}):
        found += _few_of_each(some, "name", "key", first="-id")
    return [
        (run_id, WaitEnd(wait, None, event_id, at))
        for event_id, to, name, key, at in found
        for run_id, wait in asked.get((name, key) if to is None else (to, name), ())
    ]


def _of_keys(events: QuerySet[Event], keys: Collection[str | None]) -> Iterator[QuerySet[Event]]:
    """Yield the events with one of these keys, as an index finds them: those without a key stand apart in it."""
    for some in batches([key for key in keys if key is not None]):
        yield events.filter(key__in=some)
    if None in keys:
        yield events.filter(key=None)


def _few_of_each(events: QuerySet[Event], *alike: str, first: str) -> list[Any]:
    """Return the first of all that are alike in this: else thousands of one name or key would hide all others."""
    nth = Window(RowNumber(), partition_by=alike, order_by=first)
    return list(events.annotate(nth=nth).filter(nth__lte=_MOST_ALIKE).order_by("id").values_list(*_EVENT))
