"""Runs that stand at the beginning of an arrow with every column dirty, and how they must stand at its end."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import ANY
from uuid import UUID, uuid4

from django.db import models

from canx_flow.core import clock
from canx_flow.core.arrows import Arrow, ByState, Set, Timers
from canx_flow.core.failures import kind_of
from canx_flow.models import Timer, WorkflowRun
from canx_flow.states import ENDED, FAILED, PARKED, PAUSED, PENDING, Kind

NAME = "arrows.any"
WAITS = (Kind.SLEEP, Kind.RETRY, Kind.WAIT, Kind.DEADLINE, Kind.OUTAGE, Kind.EXPIRE, Kind.CANCEL_ON)
#: Of start policies: they go with the end, whichever it is.
OF_POLICIES = {Kind.EXPIRE, Kind.CANCEL_ON}

Row = dict[str, Any]


def dirty_run(state: str, timers: Collection[str] = WAITS, **more: Any) -> UUID:
    """A run in this state with timers of these kinds: no column is as a new run has it, but for those given."""
    values = {field.attname: _dirty(field) for field in WorkflowRun._meta.concrete_fields}
    values.update(workflow=NAME, version="", state=state, ready=state == PENDING, owner_id=None, arguments="[[],{}]")
    if state not in ENDED:
        values.update(ending="")  # Nothing is decided.
    values.update(has_undo=False, policies="{}")  # It has some, so its end does more.
    values.update(more)
    run = WorkflowRun.objects.create(**values)
    held = state in {PAUSED, PARKED, FAILED}
    later = clock.now() + timedelta(hours=1)
    Timer.objects.bulk_create(
        Timer(run_id=run.id, kind=kind, step=kind if kind in WAITS[:3] else "", due_at=later, held=held)
        for kind in timers
    )
    return run.id


def _dirty(field: models.Field[Any, Any]) -> Any:
    """A value that no new run has in this column."""
    match field:
        case models.UUIDField() | models.ForeignKey():
            return uuid4()
        case models.BooleanField():
            return True
        case models.DateTimeField():
            return clock.now() - timedelta(hours=3)
        case models.JSONField():
            return {"dirty": True}
        case models.IntegerField():
            return 2
        case models.FloatField():
            return 7200.0
    return f"dirty {uuid4().hex[:8]}" if field.max_length else json.dumps("dirty")


def row_of(run_id: UUID) -> Row:
    """The whole row as it is stored."""
    return WorkflowRun.objects.values().get(id=run_id)


def timers_of(run_id: UUID) -> dict[str, bool]:
    """The run's timers by kind, each with whether it is held."""
    return dict(Timer.objects.filter(run_id=run_id).values_list("kind", "held"))


def row_after(before: Row, arrow: Arrow, since: datetime, given: Mapping[str, Any], now: Row) -> Row:
    """The row that the table says: `given` are also the columns that are set beside the arrow."""
    after = {**before, **{column: value for column, value in given.items() if column not in arrow.sets}}
    for column, value in arrow.sets.items():
        match value:
            case Set.GIVEN:
                after[column] = given[column]
            case Set.NOW:
                assert now[column] is not None
                assert since <= now[column] <= clock.now()
                after[column] = ANY
            case Set.NOW_IF_NULL:
                assert before[column] is not None
            case Set.ERROR_TYPE:
                after[column] = kind_of(now["error"])[0]
            case Set.ERROR_PRINT:
                after[column] = kind_of(now["error"])[1]
            case Set.ONE_MORE:
                after[column] = before[column] + 1
            case ByState():
                after[column] = value.values[before["state"]]
            case _:
                after[column] = value
    return after


def timers_after(before: dict[str, bool], arrow: Arrow) -> dict[str, bool]:
    """The timers that the table says."""
    if arrow.ends:
        before = {kind: held for kind, held in before.items() if kind not in OF_POLICIES}
    match arrow.timers:
        case Timers.KEPT:
            return before
        case Timers.DELETED:
            return {}
        case Timers.DELETED_BUT_EVENT:
            return {kind: held for kind, held in before.items() if kind == Kind.CANCEL_ON}
        case Timers.RELEASED:
            return dict.fromkeys(before, False)
        case Timers.KEPT_FOR_RETRY:
            before = {
                kind: held for kind, held in before.items() if kind not in {Kind.DEADLINE, Kind.OUTAGE, Kind.CANCEL}
            }
    return dict.fromkeys(before, True)
