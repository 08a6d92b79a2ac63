"""Fire timers that are due: one waking path for sleeps, retries, timeouts, delayed starts and deadlines.

Called by workers, and by the inline driver. Stored they are elsewhere: those of activations by `waits`, those of a
start by `starts`. A timer fires in a transaction that has locked its run first.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Exists, OuterRef, Q, QuerySet

from ..core import arrows, clock, codec
from ..core.failures import describe
from ..core.policies import EXPIRED
from ..exceptions import RunTimedOut
from ..models import Timer, WorkflowRun
from ..models.conditions import FALSE
from ..states import ENDED, FAILED, RUNNING, STOPPING, SUSPENDED, Kind, RecordState
from . import cancelling, children, names
from .cancelling import Row
from .db.assignments import assignments
from .db.databases import session_for
from .db.engine import transaction
from .db.portable import Portable
from .db.postgresql.statements import FIRE, FIRE_SINCE
from .db.tables import RUN, STEP, TIMER, none_of, placeholders
from .transitions import take

#: Timers fired in one transaction.
MOST = 500
#: Of waits that today's code does not come to any more, or a stopping run: they are held though theirs is suspended.
FORSAKEN = Q(held=True, run__state__in=(*SUSPENDED, STOPPING))
#: Timers that stop their runs, or let them start: they do more than one statement does.
_APART = (Kind.DEADLINE, Kind.CANCEL, Kind.EXPIRE, Kind.FREED)
#: Timers of records that are looked at again once these are due: which moment that was decides nothing.
_TRIED_AGAIN = (Kind.RETRY, Kind.LIMIT, Kind.DELEGATE)
_AT_ONCE = 1000  # timers that one statement deletes
_MOST_STUCK = 30_000  # timers read to find one whose run is not locked; as many as a statement takes parameters


#: A run that was failed by its deadline, and when: as `finished_at` says, to the microsecond.
Expiry = tuple[UUID, datetime]


@dataclass(slots=True)
class Fired:
    """What a batch of timers led to: runs made ready, and runs ended by their deadline."""

    seen: int = 0
    acted: int = 0
    woken: int = 0
    timed_out: Sequence[UUID] = ()
    #: Runs that are cancelled because their parents were stopped, or because they had not started in time.
    cancelled: Sequence[UUID] = ()
    #: Whether there were any of those: their parents may wait for them.
    ended: bool = False
    #: Some were stopped, so that timers of their children may be due by now.
    stopped: bool = False
    #: When this was: what they have as `finished_at`.
    at: datetime = field(default_factory=clock.now)
    #: A full batch, and other transactions have the runs of all of them locked: there may be others behind them.
    stuck: bool = False
    #: When the first of those that were not due yet is.
    next_due: datetime | None = None
    #: There may be more that are due, which have not been read yet.
    left: bool = False

    @property
    def may_be_more(self) -> bool:
        """Whether there may be more due timers than one batch takes: not while their runs are locked."""
        return self.stopped or (self.seen >= MOST and self.acted > 0)


def next_due(alias: str) -> datetime | None:
    """Return when the next timer is due; `None` if none is open."""
    return _open(alias).order_by("due_at").values_list("due_at", flat=True).first()


def fire(alias: str, expiring: set[Expiry] | None = None, since: datetime | None = None) -> Fired:
    """Fire up to `MOST` due timers. A run whose row another transaction has locked keeps its timers.

    `since`: those due at this moment or later, where to read all would be slow. On PostgreSQL this is one statement,
    elsewhere a short transaction. Should the answer be lost, `expiring` holds what may have been failed by it: ask
    `expired`.
    """
    most = MOST
    expiring = set() if expiring is None else expiring
    while (fired := _fire(alias, most, expiring, since)).stuck and most < _MOST_STUCK:
        most *= 4
    return fired


def expired(alias: str, expiring: Set[Expiry]) -> tuple[set[Expiry], set[Expiry]]:
    """Return which of these runs have failed by their deadline at that moment, and which may still do so."""
    ids = {run_id for run_id, _moment in expiring}
    # The timers first: what is committed between the two questions is seen by the second.
    open_still = set(_open(alias).filter(kind=Kind.DEADLINE, run_id__in=ids).values_list("run_id", flat=True))
    ended = WorkflowRun.objects.using(alias).filter(id__in=ids, state=FAILED, reason=RunTimedOut.__name__)
    failed = {(run_id, moment) for run_id, moment in ended.values_list("id", "finished_at") if moment is not None}
    certain = failed & expiring
    return certain, {each for each in expiring if each[0] in open_still and each not in certain}


def _fire(alias: str, most: int, expiring: set[Expiry], since: datetime | None) -> Fired:
    session, now = session_for(alias), clock.now()
    if session.writes_at_once:
        fired, late = _fire_at_once(session, now, most, since)
    else:
        fired, late = _fire_locked(session, now, most)
    fired.at = now
    if fired.acted < fired.seen:
        # In one transaction: were the deadlines committed alone, an error in the rest would keep them from being told.
        with transaction(session.connection):
            if late:
                expiring |= {(run_id, now) for run_id in late}
                past, fired.timed_out, fired.cancelled = _expire(alias, late, now)
                fired.acted += past
                fired.stopped = past > 0
            if fired.acted < fired.seen:
                _forget_orphans(alias, now)
        expiring.clear()
    fired.stuck = fired.seen >= most and not fired.acted
    return fired


def _fire_at_once(session: Portable, now: datetime, most: int, since: datetime | None) -> tuple[Fired, list[UUID]]:
    values = {"now": now, "most": most} if since is None else {"now": now, "most": most, "since": since}
    [(seen, acted, woken, late, due)] = session.prepared(FIRE if since is None else FIRE_SINCE, values)
    return Fired(seen, acted, woken, next_due=due), late


def _fire_locked(session: Portable, now: datetime, most: int) -> tuple[Fired, list[UUID]]:
    moment = session.moment(now)
    is_due = f"held = {session.false} AND due_at <= %s"
    session.connection.ensure_connection()
    seen = session.fetch(f"SELECT id, run_id, kind FROM {TIMER} WHERE {is_due} ORDER BY due_at LIMIT {most}", [moment])
    late = {run_id for _id, run_id, kind in seen if kind in _APART}
    run_ids = sorted({run_id for _id, run_id, _kind in seen} - late)
    fired = Fired(len(seen))
    if run_ids:
        with transaction(session.connection):
            in_order = f" ORDER BY id{session.lock_free_rows}"
            states = dict(session.fetch_of(f"SELECT id, state FROM {RUN} WHERE id", run_ids, in_order))
            if states:
                # Read again after the lock: another worker may have fired them meanwhile.
                timers = session.fetch(
                    f"SELECT id, run_id, kind, step, due_at FROM {TIMER} WHERE run_id IN ({placeholders(states)}) "
                    f"AND {_fires(session)}",
                    [*states, moment],
                )
                fired.woken = _act(session, timers, states)
                # Other timers of these runs may have fallen due meanwhile, and are among them.
                fired.acted = len({row[0] for row in seen} & {row[0] for row in timers})
    [(due,)] = session.fetch(f"SELECT MIN(due_at) FROM {TIMER} WHERE held = {session.false} AND due_at > %s", [moment])
    fired.next_due = session.read_moment(due)
    return fired, [run_id if isinstance(run_id, UUID) else UUID(run_id) for run_id in late]


def _fires(session: Portable) -> str:
    return f"held = {session.false} AND due_at <= %s AND {none_of(_APART)}"


def _act(session: Portable, timers: Sequence[Any], states: dict[Any, str]) -> int:
    """Delete these timers, after their records say so and their runs are ready; return how many were woken.

    A wait has ended when it was due, however late that is found: so races know which was the first.
    """
    if not timers:
        return 0
    of = f"WHERE run_id = %s AND name = %s AND state = '{RecordState.OPEN}'"
    for kind, state in ((Kind.SLEEP, RecordState.COMPLETED), (Kind.WAIT, RecordState.DUE)):
        ended = [(due_at, run_id, step) for _id, run_id, found, step, due_at in timers if found == kind]
        if ended:
            session.execute_many(f"UPDATE {STEP} SET state = '{state}', finished_at = %s {of}", ended)
    retries = [(run_id, step) for _id, run_id, kind, step, _due in timers if kind in _TRIED_AGAIN]
    if retries:
        session.execute_many(f"UPDATE {STEP} SET state = '{RecordState.DUE}' {of}", retries)
    _delete(session, [(timer_id, run_id) for timer_id, run_id, _kind, _step, _due in timers])
    woken = list({row[1] for row in timers if states[row[1]] in SUSPENDED})
    if woken:
        session.execute_of(f"UPDATE {RUN} SET {assignments(arrows.WAKE)} WHERE id", [], woken)
    undoing = list({row[1] for row in timers if states[row[1]] == STOPPING})
    if undoing:  # The owner of one that has an owner goes on by itself.
        rows = session.fetch_of(f"SELECT id FROM {RUN}{session.by_key} WHERE owner_id IS NULL AND id", undoing)
        undoing = [run_id for (run_id,) in rows]
    if undoing:
        session.execute_of(f"UPDATE {RUN} SET {assignments(arrows.WAKE_UNDO)} WHERE id", [], undoing)
    return len(woken) + len(undoing)


def _delete(session: Portable, timers: Sequence[tuple[Any, Any]]) -> None:
    """Delete the timers that were read, by their ids and those of their runs, and no others.

    Whoever gives back a place of a limit, ends an outage's pause or stops children lets timers fall due without a lock
    on their runs: what has fallen due since they were read has not acted.
    """
    for first in range(0, len(timers), _AT_ONCE):
        some = timers[first : first + _AT_ONCE]
        ids = [timer_id for timer_id, _run in some]
        session.delete(
            TIMER, "run_id", list({run_id for _timer, run_id in some}), f" AND id IN ({placeholders(ids)})", ids
        )


def _forget_orphans(alias: str, now: datetime) -> None:
    """Delete due timers of runs that are gone: they would be due for ever."""
    there = WorkflowRun.objects.using(alias).filter(id=OuterRef("run_id"))
    due = _open(alias).filter(due_at__lte=now)
    orphans = list(due.filter(~Exists(there)).values_list("run_id", flat=True)[:MOST])
    session_for(alias).delete(TIMER, "run_id", orphans)


def _expire(alias: str, late: Sequence[UUID], now: datetime) -> tuple[int, list[UUID], list[UUID]]:
    """Act on timers that stop their runs, or let them start; return how many did, and the runs that have failed, or are
    cancelled.
    """
    locked = cancelling.lock(alias, late)
    due = _open(alias).filter(kind__in=_APART, due_at__lte=now, run_id__in=[row.id for row in locked])
    timers = list(due.values_list("id", "run_id", "kind"))
    _delete(session_for(alias), [(timer_id, run_id) for timer_id, run_id, _kind in timers])
    kinds = {(run_id, kind) for _id, run_id, kind in timers}
    of_kind = {kind: {run_id for run_id, found in kinds if found == kind} for kind in _APART}
    unwanted = of_kind[Kind.CANCEL]
    timed_out = _time_out(alias, [row for row in locked if row.id in of_kind[Kind.DEADLINE] - unwanted], now)
    going = [row for row in locked if row.id in unwanted and row.state in children.GOING]
    children.take_back(alias, [row.id for row in locked if row.id in unwanted and row.state in ENDED])
    cancelled = cancelling.cancel(alias, going, now, children.PARENT_STOPPED)
    names.go_on(alias, list(of_kind[Kind.FREED]))
    # One that has started in time goes on, and has its timer no more.
    expired = [row for row in locked if row.id in of_kind[Kind.EXPIRE] - unwanted and row.started_at is None]
    cancelled += cancelling.cancel(alias, [row for row in expired if row.is_going], now, EXPIRED)
    return len(kinds), timed_out, cancelled


def _time_out(alias: str, late: Sequence[Row], now: datetime) -> list[UUID]:
    """Stop runs that a worker has, or that have something to undo, and end the others; return those that ended.

    One that is stopping already goes on with that.
    """
    if not late:
        return []
    error = codec.dumps_plain(
        describe(RunTimedOut(f"the run had not ended at its deadline, {now:%Y-%m-%d %H:%M:%S %Z}"))
    )
    reason = RunTimedOut.__name__
    owned = [row.id for row in late if row.state == RUNNING]
    take(alias, arrows.TIME_OUT_OWNED, owned, reason=reason, error=error)
    idle = [row for row in late if row.state in arrows.TIME_OUT.to]
    take(alias, arrows.TIME_OUT_TO_UNDO, [row.id for row in idle if row.has_undo], reason=reason, error=error)
    ended = [row.id for row in idle if not row.has_undo]
    take(alias, arrows.TIME_OUT, ended, now=now, reason=reason, error=error)
    return ended


def expire_claimed(alias: str, owner: UUID, run_id: UUID, epoch: int) -> None:
    """Have a run stopped that its owner has just claimed, for the first time, when it was to have started already."""
    with transaction(connections[alias]):
        rows = cancelling.lock(alias, [run_id])
        ours = WorkflowRun.objects.using(alias).filter(id=run_id, owner_id=owner, epoch=epoch, state=RUNNING)
        if rows and ours.exists():
            take(alias, arrows.CANCEL_OWNED, [run_id], beside={"started_at": None}, reason=EXPIRED)


def _open(alias: str) -> QuerySet[Timer]:
    return Timer.objects.using(alias).filter(held=FALSE, due_at__isnull=False)


def hasten(alias: str, run_ids: Sequence[UUID]) -> int:
    """End the pauses of these runs that were made for an outage; return how many there were."""
    waits = Timer.objects.using(alias).filter(run_id__in=run_ids, kind=Kind.OUTAGE, held=FALSE)
    return waits.filter(due_at__gt=clock.now()).update(due_at=clock.now())
