"""Messages to runs: stored before a run waits for them, searched for after the lock, read once per run.

Sending locks nothing. Called by `client`, by activations through their port, and by workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, connections
from django.db.models import Exists, IntegerField, OuterRef, Q, QuerySet
from django.db.models.functions import Cast
from django.db.models.lookups import Exact

from ..core import arrows, clock
from ..models import Event, Timer, WorkflowRun
from ..models.conditions import FALSE
from ..states import SUSPENDED, Kind
from . import remembered, rivals
from .db.databases import session_for, session_of
from .db.engine import transaction
from .db.errors import is_taken
from .transitions import take

#: Undelivered events that are read together, and of how many of those runs are woken together.
_READ_TOGETHER = 2_000
_PAGE = 100
_BUSY_MILLISECONDS = 50
_READ = ("id", "payload", "created_at")


@dataclass(frozen=True, slots=True)
class Unread:
    """The event that a wait reads next; `directed`: sent to this run alone; `at`: when."""

    id: int
    payload: str
    directed: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """What delivering a page of events led to: runs woken, and whether others are locked by other transactions.

    `last`: the id behind which the next page begins; `None` after the last one.
    """

    woken: int
    locked: bool
    last: int | None


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


def unread(
    alias: str,
    run_id: UUID,
    name: str,
    key: str | None,
    consumed: Collection[int],
    *,
    after: int | None = None,
) -> Unread | None:
    """Return the oldest event that ends a wait of this run: sent to it, or a broadcast not older than the run.

    A broadcast of the very moment counts: in tests with a frozen clock everything happens at one moment. `after`: the
    event that the run's last wait for this name and key has read. The next one is mostly behind it, and is found there
    without passing by all that were `consumed`, among which are then also those that earlier generations have read.
    """
    events = Event.objects.using(alias)
    own = events.filter(run_id=run_id, consumed_at=None, name=name).order_by("id").values_list(*_READ)
    directed = own.first()
    if directed is not None and directed[0] in consumed:  # By another branch, whose change is not stored yet.
        directed = own.exclude(id__in=[event_id for event_id, _payload, _at in own if event_id in consumed]).first()
    order = session_for(alias).in_order("created_at", "id", null="key")
    broadcasts = events.filter(run_id=None, name=name, key=key).order_by(*order)
    other = None if after is None else _behind(broadcasts, after)
    if other is None or other[0] in consumed:
        # Values, fetched first: MySQL would not use the index with a subquery inside.
        run = WorkflowRun.objects.using(alias).filter(id=run_id).values_list("created_at", "generation").first()
        known = remembered.find(alias, run_id, name, key) if run is not None and run[1] else None
        if known is not None:
            broadcasts, consumed = known.unread(broadcasts), {*consumed, *known.ids}
        other = None if run is None else _first(broadcasts.filter(created_at__gte=run[0]), consumed)
    if directed is not None and (other is None or directed[0] < other[0]):
        return Unread(directed[0], directed[1], True, directed[2])
    return None if other is None else Unread(other[0], other[1], False, other[2])


def _behind(broadcasts: QuerySet[Event], after: int) -> tuple[int, str, datetime] | None:
    """Return the broadcast that was sent next after this one."""
    sent_at = broadcasts.filter(id=after).values_list("created_at", flat=True).first()
    if sent_at is None:
        return None
    later = broadcasts.filter(Q(created_at__gt=sent_at) | Q(id__gt=after), created_at__gte=sent_at)
    return later.values_list(*_READ).first()


def _first(broadcasts: QuerySet[Event], consumed: Collection[int]) -> tuple[int, str, datetime] | None:
    """Return the first of these broadcasts that was not consumed."""
    if not consumed:
        return broadcasts.values_list(*_READ).first()
    # Not by NOT IN: that compares thousands of ids with thousands. One of so many is another one.
    ids = broadcasts.values_list("id", flat=True)[: len(consumed) + 1]
    found = next((event_id for event_id in ids if event_id not in consumed), None)
    return None if found is None else broadcasts.filter(id=found).values_list(*_READ).first()


def wake(alias: str, run_id: UUID) -> bool | None:
    """Make a run pending if it is suspended on a wait for an event that has come. After the sender's commit.

    `None`: another transaction has its row locked, and the caller tries again later.
    """
    woken, locked = _wake(alias, [run_id])
    return None if locked else bool(woken)


def wake_at_once(alias: str, run_id: UUID) -> bool | None:
    """Wake a run on its sender's connection, waiting for no other transaction: on SQLite, only for a moment."""
    with session_of(connections[alias]).hardly_waiting(_BUSY_MILLISECONDS):
        return wake(alias, run_id)


def deliver_directed(alias: str, after: int = 0) -> Page:
    """Wake the runs of events, behind the id `after`, whose senders could not.

    Broadcasts that no worker has taken yet stand between them, in one index, and may be very many: they are read, and
    passed by, a page at a time.
    """
    order = session_for(alias).in_order("id", null="seen_at")
    events = Event.objects.using(alias).filter(delivered=FALSE, seen_at=None)
    if after:  # Else SQLite, once it has counted a backlog, goes by the primary key through all events.
        events = events.filter(id__gt=after)
    read = list(events.order_by(*order).values_list("id", "run_id")[:_READ_TOGETHER])
    directed = [(event_id, run_id) for event_id, run_id in read if run_id is not None]
    is_last = len(read) < _READ_TOGETHER and len(directed) <= _PAGE
    last = directed[_PAGE - 1] if len(directed) > _PAGE else read[-1] if read else None
    run_ids = list({run_id for _, run_id in directed[:_PAGE]})
    woken, locked = _wake(alias, run_ids) if run_ids else (0, False)
    return Page(woken, locked, None if is_last or last is None else last[0])


def deliver_all_directed(alias: str) -> int:
    """Do so for all of them, page by page; return how many runs that woke."""
    page = deliver_directed(alias)
    woken = page.woken
    while page.last is not None:
        page = deliver_directed(alias, page.last)
        woken += page.woken
    return woken


def _wake(alias: str, run_ids: Sequence[UUID]) -> tuple[int, bool]:
    """Make those of these runs pending that are suspended on a wait for an event which has come.

    Returns how many those were, and whether other transactions have some locked. In a transaction of its own: first
    lock the runs by their primary key, only then read what they wait for. A run that is being suspended at this moment
    has then either seen the event, or is seen here.
    """
    runs = WorkflowRun.objects.using(alias)
    with transaction(connections[alias]):
        skip = connections[alias].features.has_select_for_update_skip_locked
        locked = runs.select_for_update(skip_locked=skip).filter(id__in=run_ids).order_by("id")
        states = dict(locked.values_list("id", "state"))
        missed = [run_id for run_id in run_ids if run_id not in states]
        rivals_have = set(runs.filter(id__in=missed).values_list("id", flat=True)) if missed else set()
        # Read before the match: an event that comes in between is left to its sender, or to the sweep.
        undelivered = _undelivered(alias, [run_id for run_id in run_ids if run_id not in rivals_have])
        woken = _suspended_with_match(alias, [run_id for run_id, state in states.items() if state in SUSPENDED])
        take(alias, arrows.WAKE, woken)
        # By primary key: MySQL would go through those of all runs, and wait for their senders' commits. Those of a run
        # that was deleted are never read.
        Event.objects.using(alias).filter(id__in=undelivered).update(delivered=True)
    return len(woken), bool(rivals_have)


def _undelivered(alias: str, run_ids: Sequence[UUID]) -> list[int]:
    # What was read is delivered. By the index of unread events: undelivered ones may be many, of other runs, and as a
    # number `delivered` is not in the words of their index.
    unread_events = Event.objects.using(alias).filter(run_id__in=run_ids, consumed_at=None, seen_at=None)
    undelivered = unread_events.filter(Exact(Cast("delivered", IntegerField()), 0))
    return list(undelivered.values_list("id", flat=True))


def _suspended_with_match(alias: str, run_ids: Sequence[UUID]) -> list[UUID]:
    """Return which of these runs have an open wait for an event that was sent to them and not read."""
    unread_events = Event.objects.using(alias).filter(
        run_id=OuterRef("run_id"), consumed_at=None, name=OuterRef("event")
    )
    timers = Timer.objects.using(alias).filter(Exists(unread_events), run_id__in=run_ids, event__isnull=False)
    timers = timers.exclude(kind=Kind.CANCEL_ON)
    return sorted(set(timers.values_list("run_id", flat=True))) if run_ids else []
