"""The schedules' rows: what live workers declare is written there, what none declares is let go.

Called by workers, by `client` and by the inline driver. Each write names the row's revision, which rises with it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Greatest

from ..core import clock
from ..core.schedules import Scheduled
from ..core.ticking import ANEW
from ..models import Schedule, Worker
from ..states import WorkerState
from . import rivals
from .db.engine import transaction

#: For how long a schedule is kept that no live worker declares.
ORPHAN_DAYS = 7


def scheduled(row: Schedule) -> Scheduled:
    """Return the schedule that a row holds."""
    return Scheduled.stored(row.name, row.workflow, row.version, row.arguments, row.spec)


def change(alias: str, row: Schedule, **columns: Any) -> bool:
    """Write these columns of a row, unless it has changed since it was read; return whether they were written."""
    found = Schedule.objects.using(alias).filter(id=row.id, revision=row.revision)
    return found.update(revision=F("revision") + 1, **columns) == 1


def next_due(alias: str) -> datetime | None:
    """Return when a worker has to look at a schedule next; `None` if there is none to be looked at."""
    open_ = Schedule.objects.using(alias).filter(due_at__isnull=False)
    return open_.order_by("due_at").values_list("due_at", flat=True).first()


def next_tick(alias: str) -> datetime | None:
    """Return when the next tick is due that can come by itself, whether or not it is the first to be looked at."""
    open_ = Schedule.objects.using(alias).filter(due_at__isnull=False, next_at__isnull=False)
    # Sooner it is looked at for ticks that wait, later one that could not be read.
    moments = open_.annotate(tick_at=Greatest("next_at", "due_at")).order_by("tick_at")
    return moments.values_list("tick_at", flat=True).first()


def waiting_for(alias: str, run_ids: Collection[UUID]) -> list[int]:
    """Return the schedules whose ticks wait for the end of one of these runs."""
    waiting = Schedule.objects.using(alias).filter(due_at__isnull=False, last_run_id__in=run_ids)
    return list(waiting.exclude(buffered="[]").values_list("id", flat=True))


def insert(alias: str, declared: Scheduled, origin: str = Schedule.CODE) -> bool:
    """Store a schedule that has no row yet; return whether it has none by now but this."""
    row = Schedule(name=declared.name, origin=origin, **_columns(declared), **_from_now(declared))
    Schedule.objects.using(alias).bulk_create([row], ignore_conflicts=True)
    return Schedule.objects.using(alias).filter(name=declared.name).exists()


def add(alias: str, given: Scheduled) -> Schedule | None:
    """Store a schedule that is made in the admin; `None` if there is one of its name."""
    row = Schedule(name=given.name, origin=Schedule.ADMIN, **_columns(given), **_from_now(given))
    return row if rivals.stored(alias, row) else None


def restart(row: Schedule, declared: Scheduled) -> dict[str, Any]:
    """Return the columns of a schedule that ticks from now on: at no moment that has passed. Those that wait for a
    run's end are skipped."""
    found = {**_from_now(declared), **_skipped(row)}
    return {**found, "due_at": None} if row.paused else found


def _skipped(row: Schedule) -> dict[str, Any]:
    """Return the columns that count the ticks of a schedule which wait, as skipped."""
    count = len(json.loads(row.buffered))
    if not count:
        return {}
    return {
        "skipped": row.skipped + count, "skipped_since": row.skipped_since or clock.now(), "skip_reason": ANEW,
        "skip_holder": None, "skipped_ever": row.skipped_ever + count,
    }  # fmt: skip


def replace(alias: str, row: Schedule, declared: Scheduled, origin: str) -> bool:
    """Have a row hold this declaration. Where the moments are others, it ticks from now on."""
    if not _has_rule(row, declared):
        moments = restart(row, declared)
    elif _is_off(row, declared):
        moments = {**_from_now(declared), **({"due_at": None} if row.paused else {}), **_still_waiting(row)}
    else:
        moments = _due_again(row)
    return change(alias, row, origin=origin, orphaned_at=None, **_columns(declared), **moments)


def _has_rule(row: Schedule, declared: Scheduled) -> bool:
    """Return whether a row ticks by the rule of this declaration."""
    return _is_readable(row) and scheduled(row).recurrence == declared.recurrence


def _is_readable(row: Schedule) -> bool:
    """Return whether this code understands a row: one that it does not is for whoever declares it to write anew."""
    try:
        scheduled(row)
    except Exception:  # noqa: BLE001 - another version of this code, or a person, has written it
        return False
    return True


def _still_waiting(row: Schedule) -> dict[str, Any]:
    """Return the columns with which the ticks of a schedule that wait for a run's end go on waiting for it."""
    if row.buffered == "[]":
        return {}
    return {"buffered": row.buffered, "due_at": None if row.paused else clock.now()}


# -- what live workers declare ---------------------------------------------------------------------


def sync(alias: str, owner: UUID | None, declared: Sequence[Scheduled]) -> bool:
    """Write what the worker `owner` declares, as far as it is the youngest of those that declare it.

    And note which schedules no live worker declares, and delete those that were not declared for a week. Returns
    whether anything has changed.
    """
    rows = {row.name: row for row in Schedule.objects.using(alias).all()}
    if not rows and not declared:
        return False
    youngest, changed = _youngest(alias), False
    for mine in declared:
        if youngest.get(mine.name, owner) != owner:
            continue
        row = rows.get(mine.name)
        if row is None or _differs(row, mine):
            changed |= _write(alias, mine)
    return _note_orphans(alias, rows.values(), youngest) or changed


def _write(alias: str, declared: Scheduled) -> bool:
    """Write a declaration that a row does not hold: as that is once no tick of other workers is changing it."""
    with transaction(connections[alias]):
        row = locked(alias, declared.name)
        if row is None:
            return insert(alias, declared)
        return _differs(row, declared) and replace(alias, row, declared, Schedule.CODE)


def _differs(row: Schedule, declared: Scheduled) -> bool:
    starting = declared.starting
    stored = (row.workflow, row.version, row.arguments, row.spec, row.origin)
    if stored != (starting.workflow, starting.version, starting.arguments, declared.spec, Schedule.CODE):
        return True
    return _is_ahead(row) or _is_left(row) or _is_off(row, declared)


def _is_off(row: Schedule, declared: Scheduled) -> bool:
    """Return whether its next tick is at no moment of its rule any more: what is known of its time zone has changed."""
    moment = row.nominal_at
    return moment is not None and moment > clock.now() and not declared.recurrence.has(moment)


def _is_ahead(row: Schedule) -> bool:
    """Return whether the clock was set back, from where the next tick may be years away, and it follows that still."""
    if row.last_at is None or row.last_at <= clock.now() + timedelta(hours=1):
        return False
    return row.nominal_at is None or row.nominal_at > row.last_at


def _is_left(row: Schedule) -> bool:
    """Return whether nobody looks at it any more, as when none declared it, though it is not paused."""
    return row.due_at is None and not row.paused and (row.next_at is not None or row.buffered != "[]")


def _note_orphans(alias: str, rows: Iterable[Schedule], declared: Mapping[str, UUID]) -> bool:
    now, changed = clock.now(), False
    for row in rows:
        if row.origin != Schedule.CODE:
            continue
        if row.name in declared:
            # Whoever has found that none declares it may have written so after the one who does had looked at it.
            if (row.orphaned_at is not None or _is_left(row)) and _is_readable(row):
                changed |= change(alias, row, orphaned_at=None, **_due_again(row))
        elif row.orphaned_at is None:
            changed |= change(alias, row, orphaned_at=now, due_at=None)
        elif row.orphaned_at < now - timedelta(days=ORPHAN_DAYS):
            Schedule.objects.using(alias).filter(id=row.id, revision=row.revision).delete()
    return changed


def _youngest(alias: str) -> dict[str, UUID]:
    """Return the youngest live worker that declares each schedule."""
    found: dict[str, UUID] = {}
    live = Worker.objects.using(alias).filter(state=WorkerState.ALIVE).order_by("started_at", "id")
    for worker_id, text in live.values_list("id", "schedules"):
        for name in json.loads(text or "[]"):
            found[name] = worker_id
    return found


def live_ids(alias: str) -> set[UUID]:
    """Return the live workers."""
    return set(Worker.objects.using(alias).filter(state=WorkerState.ALIVE).values_list("id", flat=True))


def names_of(alias: str, workers: Iterable[UUID]) -> dict[UUID, frozenset[str]]:
    """Return the names of the schedules that each of these workers declares."""
    rows = Worker.objects.using(alias).filter(id__in=list(workers)).values_list("id", "schedules")
    return {worker_id: frozenset(json.loads(text or "[]")) for worker_id, text in rows}


# -- what people do --------------------------------------------------------------------------------


def named(alias: str, name: str) -> QuerySet[Schedule]:
    """Return the row of this name, to be locked or read."""
    return Schedule.objects.using(alias).filter(name=name)


def pause(alias: str, name: str, note: str, by: str) -> bool | None:
    """Have a schedule not tick; `False` if it did not before, `None` if there is none of this name."""
    return _held(alias, name, paused=True, note=note, paused_by=by, paused_at=clock.now(), due_at=None)


def resume(alias: str, name: str) -> bool | None:
    """Have a paused schedule tick again, from now on; `False` if it was not paused, `None` if there is none."""
    return _held(alias, name, paused=False, note="", paused_by="", paused_at=None)


def _held(alias: str, name: str, *, paused: bool, **columns: Any) -> bool | None:
    with transaction(connections[alias]):
        row = locked(alias, name)
        if row is None or row.paused == paused:
            return None if row is None else False
        if not paused:
            row.paused = False
            columns |= restart(row, scheduled(row))
        return change(alias, row, paused=paused, **columns)


def locked(alias: str, name: str) -> Schedule | None:
    """Lock a schedule's row until the transaction ends; return it."""
    found = named(alias, name)
    if connections[alias].features.has_select_for_update:
        return found.select_for_update().first()
    # SQLite's one lock is taken by a write.
    found.filter(Q(pk__isnull=False)).update(revision=F("revision"))
    return found.first()


def _columns(declared: Scheduled) -> dict[str, Any]:
    starting = declared.starting
    return {
        "workflow": starting.workflow,
        "version": starting.version,
        "arguments": starting.arguments,
        "spec": declared.spec,
    }


def _from_now(declared: Scheduled) -> dict[str, Any]:
    tick = declared.recurrence.first_after(clock.now())
    if tick is None:
        return {"nominal_at": None, "next_at": None, "due_at": None, "buffered": "[]"}
    return {"nominal_at": tick.nominal, "next_at": tick.due_at, "due_at": tick.due_at, "buffered": "[]"}


def _due_again(row: Schedule) -> dict[str, Any]:
    """Return the columns with which somebody looks at a schedule whose moments are what they were."""
    if _is_ahead(row):
        return restart(row, scheduled(row))
    if not _is_left(row):
        return {}
    return {"due_at": row.next_at if row.buffered == "[]" else clock.now()}
