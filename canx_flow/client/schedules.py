"""What may be asked of a schedule: pause, resume, trigger, backfill, and when it ticks next.

`canx_flow.schedules`, the admin and the commands call these functions. Everything happens in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID, uuid4, uuid5

from ..core import clock, naming
from ..core import schedules as declarations
from ..core.current import identified, refuse_in_body
from ..core.durations import aware
from ..core.options import checked_note, checked_priority
from ..core.recurrence import Tick
from ..core.schedules import Scheduled
from ..exceptions import AlreadyStarted, ScheduleNotFound
from ..models import RunKey, Schedule, WorkflowRun
from ..store import history, rivals, schedules, telling, ticks
from ..store.afterwards import after_commit
from . import named

#: Ticks that one call looks at, or starts.
MOST = 10_000
_AT_ONCE = 500


def pause(name: str, reason: str = "", *, by: Any = None) -> bool:
    """Have a schedule not tick until it is resumed; see `canx_flow.schedules`."""
    refuse_in_body("pause")
    note = checked_note("pause", reason, by)
    alias, row = _existing(name)
    done = rivals.repeated(alias, lambda: schedules.pause(alias, row.name, note["control_reason"], note["control_by"]))
    return _found(done, name)


def resume(name: str, *, by: Any = None) -> bool:
    """Have a paused schedule tick again, from now on."""
    refuse_in_body("resume")
    checked_note("resume", "", by)
    alias, row = _existing(name)
    done = _found(rivals.repeated(alias, lambda: schedules.resume(alias, row.name)), name)
    after_commit(alias, telling.tell, alias, "timer")
    return done


def trigger(name: str, reason: str = "", *, by: Any = None, once: UUID | None = None) -> UUID:
    """Start a run of a schedule now, beside its ticks; return its id. AlreadyStarted if one was with this `once`."""
    refuse_in_body("trigger")
    note = checked_note("start", reason, by)
    alias, known = _existing(name)
    with identified(None, lambda: ("trigger", name)) as own:
        key = f"{name}@manual:{once or (uuid4() if own is None else uuid5(_OF_STEPS, own))}"

        def act() -> UUID:
            row = schedules.locked(alias, known.name)
            if row is None:
                raise not_found(name)
            given = {} if by is None and reason == "" else note
            run = ticks.triggered(alias, row, schedules.scheduled(row), key, given)
            if run is None:
                run_id = RunKey.objects.using(alias).get(workflow=row.workflow, key=key).run_id
                if once is not None:
                    state = WorkflowRun.objects.using(alias).values_list("state", flat=True).filter(id=run_id).first()
                    raise AlreadyStarted(run_id, state or "")
                return run_id
            if given:
                history.called(alias, [run.id], note)
            return run.id

        run_id = rivals.repeated(alias, act)
    after_commit(alias, telling.tell, alias)
    return run_id


def missing(name: str, start: datetime, end: datetime) -> list[datetime]:
    """Return the moments from `start` to `end`, both included, whose ticks have no run; `backfill` starts those."""
    scheduled = _scheduled(name)
    return list(_missing(named.alias(), scheduled, *_range(start, end)))


def backfill(
    name: str, start: datetime, end: datetime, *, priority: int | None = None, reason: str = "", by: Any = None
) -> list[UUID]:
    """Start the runs of the ticks from `start` to `end` that have none; return their ids, in order."""
    refuse_in_body("backfill")
    note = checked_note("start", reason, by)
    alias = named.alias()
    scheduled = _scheduled(name)
    begin, last = _range(start, end)
    columns = {} if by is None and reason == "" else note
    if priority is not None:
        columns = {**columns, "priority": checked_priority(priority)}

    def act() -> list[UUID]:
        rivals.lock_first(alias)
        moments = list(_missing(alias, scheduled, begin, last))
        found = []
        for first in range(0, len(moments), _AT_ONCE):
            found += ticks.start(alias, scheduled, moments[first : first + _AT_ONCE], columns)
        if found and "control" in columns:
            history.called(alias, [run.id for run in found], note)
        return [run.id for run in found]

    ids = rivals.repeated(alias, act)
    after_commit(alias, telling.tell, alias)
    return ids


def upcoming(name: str, n: int = 10) -> list[datetime]:
    """Return the nominal moments of the next `n` ticks, in the schedule's time zone."""
    zone = _scheduled(name).recurrence.zone
    return [tick.nominal.astimezone(zone) for tick in upcoming_ticks(name, n)]


def upcoming_ticks(name: str, n: int = 10) -> list[Tick]:
    """Return the next ticks: those of a paused schedule as if it were resumed now."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n must be an int, not {type(n).__name__}")
    if not 0 <= n <= MOST:
        raise ValueError(f"n must be from 0 to {MOST:,}, not {naming.shown(n)}")
    alias = named.alias()
    row, now = schedules.named(alias, name).first(), clock.now()
    scheduled = _scheduled(name)
    begin = now
    # Of one whose moment has passed the share of the window may be to come.
    if row is not None and not row.paused and row.nominal_at and row.next_at and row.next_at > now:
        begin = row.nominal_at - timedelta(microseconds=1)
    return scheduled.recurrence.upcoming(begin, n)


def all_rows() -> Sequence[Schedule]:
    """Return every schedule, those that no worker has written yet among them, in the order of names."""
    alias = named.alias()
    rows = {row.name: row for row in Schedule.objects.using(alias).select_related("last_run")}
    for declared in declarations.declared():
        if declared.name not in rows:
            schedules.insert(alias, declared)
            rows[declared.name] = schedules.named(alias, declared.name).select_related("last_run").get()
    return [rows[name] for name in sorted(rows)]


def row_of(name: str) -> Schedule:
    """Return a schedule's row; ScheduleNotFound for a name that none has."""
    return _existing(name)[1]


def not_found(name: Any) -> ScheduleNotFound:
    """Return the error for a name that no schedule has."""
    return ScheduleNotFound(
        f"there is no schedule {naming.shown(name)}: none is stored, and this process declares none"
    )


_OF_STEPS = UUID("6f0d7a52-5f3a-4d0e-9d43-1f0f3f4a5c55")


def _existing(name: str) -> tuple[str, Schedule]:
    """Return the alias and the row; of one that this process declares and no worker has written, a new row."""
    alias = named.alias()
    name = naming.checked(name, "schedule name", 200)
    row = schedules.named(alias, name).first()
    declared = declarations.get(name)
    if row is None and declared is not None:
        schedules.insert(alias, declared)
        row = schedules.named(alias, name).first()
    if row is None:
        raise not_found(name)
    return alias, row


def _scheduled(name: str) -> Scheduled:
    return schedules.scheduled(_existing(name)[1])


def _found(done: bool | None, name: str) -> bool:
    if done is None:
        raise not_found(name)
    return done


def _range(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    begin, last = aware(start, "start"), aware(end, "end")
    if last < begin:
        raise ValueError("end must not be earlier than start")
    if last > clock.now():
        raise ValueError("end must not be in the future: those ticks are to come")
    return begin, last


def _missing(alias: str, scheduled: Scheduled, begin: datetime, last: datetime) -> Iterator[datetime]:
    """Yield the moments without a run; ValueError if there are too many to look at."""
    found = []
    for tick in islice(scheduled.recurrence.after(begin - timedelta(microseconds=1)), MOST + 1):
        if tick.nominal > last:
            break
        found.append(tick.nominal)
    if len(found) > MOST:
        raise ValueError(f"start and end are too far apart: there are more than {MOST:,} ticks between them")
    for first in range(0, len(found), _AT_ONCE):
        some = {ticks.key_of(scheduled.name, moment): moment for moment in found[first : first + _AT_ONCE]}
        taken = RunKey.objects.using(alias).filter(workflow=scheduled.starting.workflow, key__in=list(some))
        there = set(taken.values_list("key", flat=True))
        yield from (moment for key, moment in some.items() if key not in there)
