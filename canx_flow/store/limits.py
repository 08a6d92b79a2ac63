"""The limits of steps: who may call next, and who is woken when there is a place. Called by workers and the test kit.

A bucket's row is locked by whoever admits steps to it: so no start is reserved twice, and places are counted while
nobody else gives one. A place is a row that counts as long as the same worker has its run: no counter can drift, and
whatever takes a run from its worker (recovery, a cancel, a pause, a fence) frees its places by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q, QuerySet

from .. import conf
from ..core import clock
from ..core.changes import Change
from ..core.limits import FULL, Admission, Bucket, Limit, Request
from ..models import LimitHolder, Timer
from ..models.conditions import FALSE
from .db.databases import session_for, session_of
from .db.engine import transaction
from .db.portable import Portable
from .db.tables import BUCKET, HOLDER, PAUSED_WORKFLOW, QUEUE, RUN, TIMER, placeholders

#: Rows of buckets that are of no use any more, deleted at a time.
_FORGOTTEN = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Of the steps that wait for a place so many are looked at, the last to have come, while the bucket is locked: in a
#: paused queue no more begin to wait.
_NEWEST = " ORDER BY id DESC LIMIT 100"
#: Those that are woken are looked for among so many of the oldest, then among the next ones, so often at a time: in a
#: paused queue any number may wait.
OLDEST, LOOKS = 1000, 10
#: A limit that is not declared any more: it holds nobody up.
_GONE = Limit("")


def now_of(moment: datetime) -> int:
    """Return a moment as buckets have it."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def admit(
    connection: BaseDatabaseWrapper,
    bucket: Bucket,
    requests: Sequence[Request],
    *,
    patience: float,
    now: int | None = None,
) -> list[Admission]:
    """Answer all of these requests for one bucket, the first one first, in one transaction of its own.

    `patience`: how many seconds a start may be away for which its step waits with its place. `now`: else the
    database's clock.
    """
    session = session_of(connection)
    limit = conf.get().limits.get(bucket[0], _GONE)
    while True:
        with transaction(connection):
            found = _lock(session, bucket)
            if found is not None:
                tat, theirs = found
                desk = _Desk(session, bucket, limit, tat, theirs if now is None else now, patience)
                answers = [desk.admit(request) for request in requests]
                desk.store()
                return answers
        # In a transaction of its own: MySQL keeps a lock on the row of a rival that it meets.
        insert, unless = session.insert_unless_taken
        columns = f"name, {_key(session)}"
        session.execute(
            f"{insert} INTO {BUCKET} ({columns}, tat) VALUES (%s, %s, 0){unless.format(columns=columns)}", bucket
        )


class _Desk:
    """One bucket, locked, and what is given away of it."""

    def __init__(self, session: Portable, bucket: Bucket, limit: Limit, tat: int, now: int, patience: float) -> None:
        self._session = session
        self._bucket = bucket
        self._limit = limit
        self._before = self._tat = tat
        self._now = now
        self._patience = patience
        self._held: list[Request] = []
        self._free: int | None = None
        self._others_wait = False
        if limit.concurrency is not None:
            self._free = limit.concurrency - _count(session, bucket)
            self._others_wait = self._free > 0 and bool(_waiting(session, bucket, 1, _NEWEST))

    def admit(self, request: Request) -> Admission:
        at, missed = self._still_reserved(request)
        # Whoever comes now waits behind those that wait already.
        if self._free is not None and (self._free <= 0 or (self._others_wait and not request.waited)):
            return Admission(full=True, at=at, missed=missed)
        if self._limit.rate is not None and at is None:
            at, self._tat = self._limit.reserve(self._tat, self._now, request.use.cost)
        wait = max(0, (at or 0) - self._now) / 1_000_000
        if wait > self._patience:
            return Admission(wait, at, missed, later=True)
        if self._free is None:
            return Admission(wait, at, missed)
        self._free -= 1
        self._held.append(request)
        return Admission(wait, at, missed, holds=True)

    def _still_reserved(self, request: Request) -> tuple[int | None, int]:
        """Return the moment that is reserved for a request, unless it is long past; and how often that was so."""
        at, missed = request.reserved, request.missed
        if at is None or self._limit.rate is None:
            return None, missed
        return (at, missed) if self._now - at <= self._limit.grace(missed) else (None, missed + 1)

    def store(self) -> None:
        session = self._session
        if self._tat != self._before:
            session.execute(f"UPDATE {BUCKET} SET tat = %s WHERE {_of(session)}", [self._tat, *self._bucket])
        if self._held:
            since = session.moment(clock.now())
            session.execute_many(
                f"INSERT INTO {HOLDER} (name, {_key(session)}, run_id, step, epoch, since) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                [(*self._bucket, session.uuid(each.run_id), each.step, each.epoch, since) for each in self._held],
            )


def _lock(session: Portable, bucket: Bucket) -> tuple[int, int] | None:
    """Lock the bucket's row; return its `tat` and the database's time, `None` if there is no row."""
    rows = session.fetch(
        f"SELECT tat, {session.microseconds} FROM {BUCKET} WHERE {_of(session)}{session.lock_rows}", bucket
    )
    return (int(rows[0][0]), int(rows[0][1])) if rows else None


def _count(session: Portable, bucket: Bucket) -> int:
    """Count who holds a place; delete those that do not any more."""
    rows = session.fetch(
        f"SELECT holder.id, run.owner_id IS NOT NULL AND run.epoch = holder.epoch FROM {HOLDER} holder "
        f"LEFT JOIN {RUN} run ON run.id = holder.run_id WHERE {_of(session, 'holder')}",
        bucket,
    )
    gone = [row_id for row_id, holds in rows if not holds]
    if gone:
        session.execute(f"DELETE FROM {HOLDER} WHERE id IN ({placeholders(gone)})", gone)
    return len(rows) - len(gone)


def _waiting(session: Portable, bucket: Bucket, most: int, among: str) -> list[int]:
    """Return the timers of up to so many steps that wait for a place in this bucket, the first to have waited first.

    Of which none was woken yet, and none would be in vain: what is woken in a paused queue is claimed by nobody, and
    the place would stay free.
    """
    text, values = _wakeable(session, bucket, most, among)
    return [timer_id for (timer_id,) in session.fetch(f"{text} ORDER BY id", values)]


def _wakeable(session: Portable, bucket: Bucket, most: int, among: str) -> tuple[str, list[Any]]:
    of_run = f"(SELECT CASE WHEN owner_id IS NULL THEN {{}} ELSE '' END FROM {RUN} run WHERE run.id = timer.run_id)"
    text = (
        f"SELECT id FROM (SELECT id FROM (SELECT id, run_id, held, due_at {_of_bucket(session)}{among}) timer "
        f"WHERE held = {session.false} AND due_at > %s "
        f"AND {of_run.format('queue')} NOT IN (SELECT name FROM {QUEUE} WHERE paused = {session.true}) "
        f"AND {of_run.format('workflow')} NOT IN (SELECT workflow FROM {PAUSED_WORKFLOW}) ORDER BY id LIMIT {most}) one"
    )
    return text, [FULL + bucket[0], bucket[1], session.moment(clock.now())]


def _first(session: Portable, bucket: Bucket, most: int, passed: dict[Bucket, int]) -> list[int]:
    """Do the same behind those that were passed over, in a bounded look; note up to where there was none."""
    begin = end = passed.pop(bucket, 0)
    found: list[int] = []
    for _ in range(LOOKS):
        behind = f" AND id > {end} ORDER BY id LIMIT "
        text, values = _wakeable(session, bucket, most - len(found), f"{behind}{OLDEST}")
        # With that, in one statement: the last that this has looked at, if there may be more.
        last = f"SELECT -id FROM (SELECT id {_of_bucket(session)}{behind}1 OFFSET {OLDEST - 1}) last"
        ids = [row[0] for row in session.fetch(f"{text} UNION ALL {last}", [*values, FULL + bucket[0], bucket[1]])]
        found += sorted(timer_id for timer_id in ids if timer_id > 0)
        end = max((-timer_id for timer_id in ids if timer_id < 0), default=0)
        begin = begin if found else end
        if len(found) == most or not end:
            break
    if begin:
        passed[bucket] = begin
    return found


def _of_bucket(session: Portable) -> str:
    return f"FROM {TIMER} WHERE event = %s AND {_key(session)} = %s"


def _key(session: Portable) -> str:
    return str(session.connection.ops.quote_name("key"))  # To MySQL this is a word of its own.


def _of(session: Portable, table: str = "") -> str:
    prefix = f"{table}." if table else ""
    return f"{prefix}name = %s AND {prefix}{_key(session)} = %s"


# -- given back ----------------------------------------------------------------------------------------


def release(session: Portable, changes: Sequence[Change]) -> None:
    """Give back the places of steps that have ended, in the transaction that stores how."""
    rows = [
        (session.uuid(change.run_id), step, change.epoch)
        for change in changes
        for _bucket, step in change.waits.releases
    ]
    if rows:
        session.execute_many(f"DELETE FROM {HOLDER} WHERE run_id = %s AND step = %s AND epoch = %s", rows)


def drop(connection: BaseDatabaseWrapper, requests: Sequence[Request]) -> None:
    """Give back the places of steps that were admitted when nobody waited for that any more."""
    session = session_of(connection)
    with transaction(connection):
        session.execute_many(
            f"DELETE FROM {HOLDER} WHERE run_id = %s AND step = %s AND epoch = %s",
            [(session.uuid(each.run_id), each.step, each.epoch) for each in requests],
        )


def wake(alias: str, bucket: Bucket, most: int, passed: dict[Bucket, int] | None = None) -> int:
    """Let up to so many steps go on that wait for a place in this bucket, if there are as many; return how many did.

    The first to have waited first. Their timers are due then. `passed`: behind which timer of a bucket this looks, for
    those before it wait in paused queues; noted anew here.
    """
    session = session_for(alias)
    session.connection.ensure_connection()
    first = _first(session, bucket, most, {} if passed is None else passed)
    if not first:
        return 0
    concurrency = conf.get().limits.get(bucket[0], _GONE).concurrency
    if concurrency is not None:
        first = first[: max(0, concurrency - holders(alias, bucket).count())]
    return due_now(alias, first) if first else 0


def due_now(alias: str, timer_ids: Sequence[int]) -> int:
    """Have these timers be due, but those of which others make something at this moment; return how many are."""
    now = clock.now()
    with transaction(connections[alias]):
        skip = connections[alias].features.has_select_for_update_skip_locked
        timers = Timer.objects.using(alias).filter(id__in=timer_ids, held=FALSE, due_at__gt=now)
        locked = list(timers.select_for_update(skip_locked=skip).values_list("id", flat=True))
        return Timer.objects.using(alias).filter(id__in=locked).update(due_at=now)


def holders(alias: str, bucket: Bucket) -> QuerySet[LimitHolder]:
    """Return who holds a place in this bucket, the one that has it longest first."""
    return held(alias).filter(name=bucket[0], key=bucket[1])


def held(alias: str) -> QuerySet[LimitHolder]:
    """Return who holds a place anywhere, the one that has it longest first."""
    return LimitHolder.objects.using(alias).filter(_HOLDS).order_by("id")


#: As `conditions.HAS_OWNER`: a range, for `IS NOT NULL` has PostgreSQL read the table of runs without statistics.
_HOLDS = Q(run__owner_id__gte=UUID(int=0), run__owner_id__lte=UUID(int=(1 << 128) - 1), run__epoch=F("epoch"))


def next_waiting(alias: str, name: str, after: str | None) -> str | None:
    """Return the next key of a limit, behind `after`, in whose bucket somebody waits for a place."""
    waits = Timer.objects.using(alias).filter(event=FULL + name)
    if after is not None:
        waits = waits.filter(key__gt=after)
    return waits.order_by("key", "id").values_list("key", flat=True).first()


# -- what is of no use any more ------------------------------------------------------------------------


def forget(alias: str) -> int:
    """Delete rows of buckets and places that count for nothing any more; return how many."""
    session = session_for(alias)
    session.connection.ensure_connection()
    old = now_of(clock.now() - timedelta(hours=1))
    buckets = [row[0] for row in session.fetch(f"SELECT id FROM {BUCKET} WHERE tat < %s LIMIT {_FORGOTTEN}", [old])]
    places = session.fetch(f"SELECT id, run_id, epoch FROM {HOLDER} ORDER BY id LIMIT {_FORGOTTEN}", [])
    runs = {run_id for _id, run_id, _epoch in places}
    statement = f"SELECT id, epoch FROM {RUN} WHERE owner_id IS NOT NULL AND id"
    owned = {tuple(row) for row in session.fetch_of(statement, list(runs))} if runs else set()
    gone = [row_id for row_id, *lease in places if tuple(lease) not in owned]
    if not buckets and not gone:  # Else SQLite would wait for its one lock for nothing.
        return 0
    with transaction(session.connection):
        # Asked again as they are deleted: one may have been used meanwhile.
        deleted = session.delete(BUCKET, "id", buckets, " AND tat < %s", [old])
        return deleted + session.delete(HOLDER, "id", gone)
