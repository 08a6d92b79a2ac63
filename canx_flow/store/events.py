"""Messages to runs: stored before a run waits for them, searched for after the lock, read once per run.

Sending locks nothing. Called by `client`, by activations through their port, and by workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, connections
from django.db.models import Exists, OuterRef, Q

from ..core import arrows, clock
from ..models import Event, StepRecord, Timer, WorkflowRun
from ..states import SUSPENDED
from . import rivals
from .db.databases import session_of
from .db.engine import transaction
from .db.errors import is_taken
from .transitions import take

_PAGE = 500
_BUSY_MILLISECONDS = 50


@dataclass(frozen=True, slots=True)
class Unread:
    """The event that a wait reads next; `directed`: sent to this run alone."""

    id: int
    payload: str
    directed: bool


def send(
    alias: str,
    name: str,
    payload: str,
    *,
    run_id: UUID | None = None,
    key: str | None = None,
    dedup_id: str | None = None,
) -> bool:
    """Store an event for one run, or (without `run_id`) for all. `False`: this `dedup_id` was seen before.

    In the caller's transaction; runs that wait for it are woken after its commit.
    """
    moment = clock.now()
    event = Event(run_id=run_id, name=name, key=key, payload=payload, dedup_id=dedup_id, created_at=moment)
    if dedup_id is None:
        event.save(using=alias, force_insert=True)
        return True
    fingerprint = event.fingerprint = _fingerprint(dedup_id, run_id, name, key)
    try:
        with rivals.one_by_one(connections[alias], fingerprint):
            # An INSERT that meets a row takes a lock on MySQL. What can be seen is not met.
            if session_of(connections[alias]).locks_what_it_meets and _is_there(alias, fingerprint):
                return False
            # In a savepoint of the caller's: a repeated send must not break its transaction.
            rivals.repeated(alias, lambda: event.save(using=alias, force_insert=True))
    except IntegrityError as error:
        # A row of another kind that is in the way is no event that was seen.
        if is_taken(error) and "fingerprint" in str(error):
            return False
        raise
    return True


def was_sent(alias: str, dedup_id: str, *, run_id: UUID) -> bool:
    """Return whether this run was sent an event with this `dedup_id`, read or not."""
    return _is_there(alias, _fingerprint(dedup_id, run_id))


def _fingerprint(dedup_id: str, run_id: UUID | None, name: str = "", key: str | None = None) -> str:
    """Return what is unique: `dedup_id` within the run, or within the broadcasts of this name and key."""
    scope = [str(run_id)] if run_id is not None else [name, key]
    return hashlib.sha256(json.dumps([scope, dedup_id]).encode()).hexdigest()


def _is_there(alias: str, fingerprint: str) -> bool:
    return Event.objects.using(alias).filter(fingerprint=fingerprint).exists()


def unread(alias: str, run_id: UUID, name: str, key: str | None, consumed: Iterable[int]) -> Unread | None:
    """Return the oldest event that ends a wait of this run: sent to it, or a broadcast not older than the run.

    A broadcast of the very moment counts: in tests with a frozen clock everything happens at one moment.
    """
    columns = ("id", "payload")
    directed = Event.objects.using(alias).filter(run_id=run_id, consumed_at=None, name=name).order_by("id")
    started = WorkflowRun.objects.using(alias).filter(id=run_id).values_list("created_at", flat=True)
    broadcast = Event.objects.using(alias).filter(run_id=None, name=name, key=key).order_by("id")
    # The subquery's value, fetched first: MySQL would not use the index with it inside.
    since = started.first()
    first = directed.values_list(*columns).first()
    other = None
    if since is not None:
        other = broadcast.filter(created_at__gte=since).exclude(id__in=list(consumed)).values_list(*columns).first()
    if first is not None and (other is None or first[0] < other[0]):
        return Unread(first[0], first[1], True)
    return Unread(other[0], other[1], False) if other is not None else None


def consume(alias: str, event_id: int, step: str) -> None:
    """Mark an event as read, as part of the change that stores what was read."""
    unread_event = Event.objects.using(alias).filter(id=event_id, consumed_at=None)
    unread_event.update(consumed_by=step, consumed_at=clock.now(), delivered=True)


def wake(alias: str, run_id: UUID) -> bool | None:
    """Make a run pending if it is suspended on a wait for an event that has come. After the sender's commit.

    In a transaction of its own: first lock the run by its primary key, only then read what it waits for. A run that
    is being suspended at this moment has then either seen the event, or is seen here. `None`: another transaction has
    its row locked, and the caller tries again later.
    """
    with transaction(connections[alias]):
        runs = WorkflowRun.objects.using(alias)
        skip = connections[alias].features.has_select_for_update_skip_locked
        locked = runs.select_for_update(skip_locked=skip).filter(id=run_id)
        state = locked.values_list("state", flat=True).first()
        if state is None and runs.filter(id=run_id).exists():
            return None
        # Read before the match: an event that comes in between is left to its sender, or to the sweep.
        undelivered = list(
            Event.objects.using(alias).filter(run_id=run_id, delivered=False).values_list("id", flat=True)
        )
        waiting = state in SUSPENDED and _has_match(alias, run_id)
        if waiting:
            take(alias, arrows.WAKE, [run_id])
        # By primary key: MySQL would go through those of all runs, and wait for their senders' commits. Those of a run
        # that was deleted are never read.
        Event.objects.using(alias).filter(id__in=undelivered).update(delivered=True)
    return waiting


def wake_at_once(alias: str, run_id: UUID) -> bool | None:
    """Wake a run on its sender's connection, waiting for no other transaction: on SQLite, only for a moment."""
    with session_of(connections[alias]).hardly_waiting(_BUSY_MILLISECONDS):
        return wake(alias, run_id)


def _has_match(alias: str, run_id: UUID) -> bool:
    names = Timer.objects.using(alias).filter(run_id=run_id, event__isnull=False).values_list("event", flat=True)
    return Event.objects.using(alias).filter(run_id=run_id, consumed_at=None, name__in=list(names)).exists()


def deliver_directed(alias: str) -> tuple[int, bool]:
    """Wake the runs of events whose senders could not; return how many, and whether a locked one was left out."""
    woken, missed, after = 0, False, 0
    events = Event.objects.using(alias).filter(delivered=False, run__isnull=False).order_by("id")
    while page := list(events.filter(id__gt=after).values_list("id", "run_id")[:_PAGE]):
        after = page[-1][0]
        run_ids = dict.fromkeys(run_id for _, run_id in page if run_id is not None)
        for run_id in run_ids:
            found = wake(alias, run_id)
            woken += bool(found)
            missed = missed or found is None
    return woken, missed


def deliver_broadcasts(alias: str, seen: dict[int, float], now: float, lease: float, *, again: bool) -> int:
    """Fan out every broadcast that is not delivered yet; return how many runs that woke.

    One is fanned out at once, and then (`again`) now and then until a lease has passed since this worker saw it first:
    nothing is locked that would tell it of a wait being opened at the same moment. `seen`: when that was, by a clock
    of this worker's own that reads `now`; clocks of two workers are never compared.
    """
    woken, after = 0, 0
    still_open: set[int] = set()
    events = Event.objects.using(alias).filter(delivered=False, run=None).order_by("id")
    while page := list(events.filter(id__gt=after).values_list("id", "name", "key", "created_at")[:_PAGE]):
        after = page[-1][0]
        for event_id, name, key, created_at in page:
            still_open.add(event_id)
            if event_id in seen and not again:
                continue
            reached, missed = _fan_out(alias, event_id, name, key, created_at)
            woken += reached
            if now - seen.setdefault(event_id, now) >= lease and not missed:
                Event.objects.using(alias).filter(id=event_id).update(delivered=True)
    for event_id in seen.keys() - still_open:
        del seen[event_id]
    return woken


def _fan_out(
    alias: str, event_id: int, name: str, key: str | None, sent_at: datetime, batch: int = 500
) -> tuple[int, bool]:
    """Wake every run that waits for this broadcast; return how many, and whether a locked one was left out."""
    # One that has read it waits for the next: it must not be woken for this one again and again.
    read = StepRecord.objects.using(alias).filter(run_id=OuterRef("run_id"), event_id=event_id)
    waits = Timer.objects.using(alias).filter(~Exists(read), event=name, key=key)
    suspended = Q(run__state__in=SUSPENDED, run__created_at__lte=sent_at)
    ids = list(waits.filter(suspended).order_by("run_id").values_list("run_id", flat=True).distinct())
    woken, missed = 0, False
    skip = connections[alias].features.has_select_for_update_skip_locked
    for start in range(0, len(ids), batch):
        with transaction(connections[alias]):
            runs = WorkflowRun.objects.using(alias).order_by("id")
            wanted = ids[start : start + batch]
            locked = runs.select_for_update(skip_locked=skip).filter(id__in=wanted)
            states = dict(locked.values_list("id", "state"))
            missed = missed or len(states) < len(wanted)
            # After the lock: a wait may have read this event meanwhile, and its run be waiting for something else.
            reached = set(waits.filter(run_id__in=list(states)).values_list("run_id", flat=True))
            woken += take(alias, arrows.WAKE, [run_id for run_id in reached if states[run_id] in SUSPENDED])
    return woken, missed


def forget(alias: str, before: datetime, limit: int = 1000) -> int:
    """Delete broadcasts sent before a moment; their dedup ids may come again."""
    old = Event.objects.using(alias).filter(run_id=None, delivered=True, created_at__lt=before).order_by("id")
    ids = list(old.values_list("id", flat=True)[:limit])
    return Event.objects.using(alias).filter(id__in=ids).delete()[0] if ids else 0
