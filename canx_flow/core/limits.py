"""Limits of steps: what settings say of each, what a step asks for, and when its call may begin.

A limit has one bucket, or one for each key that steps name. The rate of a bucket is one moment, the theoretical arrival
time (`tat`) of the generic cell rate algorithm: each start that is reserved moves it on, and is told the moment that
is its own. All moments are microseconds since 1970, by the clock of whoever admits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any
from uuid import UUID

from ..states import Kind, RecordState
from .changes import Record, Wait
from .naming import checked, shown
from .rates import Rate

#: What the events of timers begin with that wait for a place in a full bucket, and for a reserved moment.
FULL, RESERVED = "#limit:", "#rate:"
#: A start that is reserved may be late by the burst, and by so many microseconds in any case: a timer that fires, and
#: a run that is claimed, take a moment. Each time that it was too late, it may be later the next time.
_GRACE, _MOST_MISSED = 250_000, 8
MOST_BURST = MOST_CONCURRENCY = 1_000_000

#: The name of a limit, and the key: empty where the limit has one bucket for all.
Bucket = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Limit:
    """What the settings say: at most so many calls at a moment, and so many starts in a time."""

    name: str
    rate: Rate | None = None
    burst: int = 1
    concurrency: int | None = None

    def reserve(self, tat: int, now: int, cost: int) -> tuple[int, int]:
        """Return when a call of this cost may begin, and the `tat` after it."""
        assert self.rate is not None
        full_at = max(tat, now)
        return max(now, full_at - (self.burst - cost) * self.rate.interval), full_at + cost * self.rate.interval

    def grace(self, missed: int) -> int:
        """Return by how much a reserved start may be late that was too late so many times."""
        assert self.rate is not None
        return max(self.burst * self.rate.interval, _GRACE << min(missed, _MOST_MISSED))


@dataclass(frozen=True, slots=True)
class LimitUse:
    """What a step is called under: a bucket, and how many starts its call counts for."""

    name: str
    key: str = ""
    cost: int = 1

    @property
    def bucket(self) -> Bucket:
        return self.name, self.key


@dataclass(frozen=True, slots=True)
class Admission:
    """When a step may be called: in `wait` seconds, or, if its bucket is `full`, once there is a place.

    `at`: the moment that is reserved for it, if the limit has a rate. `holds`: it has a place from now on.
    """

    wait: float = 0.0
    at: int | None = None
    missed: int = 0
    full: bool = False
    holds: bool = False
    #: It is too far away to be waited for with anything held.
    later: bool = False


class Request:
    """One step's question whether it may be called. Answered once, by whichever thread asks the database."""

    def __init__(self, use: LimitUse, run_id: UUID, epoch: int, step: str, before: Reservation | None) -> None:
        self.use = use
        self.run_id = run_id
        self.epoch = epoch
        self.step = step
        self.reserved = before.at if before is not None else None
        self.missed = before.missed if before is not None else 0
        #: It has waited for its turn: it goes before those that come now.
        self.waited = before is not None
        self.answer: Admission | None = None
        self.error: BaseException | None = None
        self._mutex = Lock()
        self._given_up = False

    @property
    def is_settled(self) -> bool:
        """Whether it is answered, or will never be."""
        return self.answer is not None or self.error is not None or self._given_up

    def settle(self, answer: Admission) -> bool:
        """Take the answer; return False if nobody waits for it any more."""
        with self._mutex:
            if not self._given_up:
                self.answer = answer
            return not self._given_up

    def give_up(self) -> Admission | None:
        """Wait for no answer any more; return it if it has come."""
        with self._mutex:
            self._given_up = self.answer is None
            return self.answer


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the record of a step says that waits for its limit: kept where its result will be.

    `at`: the moment that is reserved for it; `missed`: how often it was too late for such a moment; `asked`: how often
    it has asked for a place in vain.
    """

    name: str
    key: str
    at: int | None
    missed: int
    full: bool
    asked: int = 0

    @classmethod
    def of(cls, record: Record | None) -> Reservation | None:
        """Return the one of a step that waits, or has waited and was not called since; `None` if it has none."""
        if record is None or record.kind != Kind.STEP or not record.result:
            return None
        if record.state not in (RecordState.OPEN, RecordState.DUE):
            return None
        return cls(*json.loads(record.result)["#limit"])

    def text(self) -> str:
        """Return it as it is stored."""
        return json.dumps({"#limit": [self.name, self.key, self.at, self.missed, self.full, self.asked]})

    def wait(self, step: str, due_at: Any = None) -> Wait:
        """Return the wait of this step."""
        return Wait(step, Kind.LIMIT, due_at, (FULL if self.full else RESERVED) + self.name, self.key)


def wait_of(record: Record) -> Wait:
    """Return the wait of a step that is open: for its limit, or for its next attempt."""
    reservation = Reservation.of(record)
    return Wait(record.name, Kind.RETRY) if reservation is None else reservation.wait(record.name)


def spend(records: Iterable[Record]) -> None:
    """Forget the moments reserved for steps that have waited: calls may have spent them, before a crash.

    Their turn they keep: else all that a crash has cut off would wait behind each other without end.
    """
    for record in records:
        reservation = Reservation.of(record) if record.state == RecordState.DUE else None
        if reservation is not None and reservation.at is not None:
            record.result = replace(reservation, at=None).text()


def bucket_of(event: str | None, key: str | None) -> Bucket | None:
    """Return the bucket that the timer of a wait names; `None` if it waits for no limit."""
    for prefix in (FULL, RESERVED):
        if event is not None and event.startswith(prefix):
            return event.removeprefix(prefix), key or ""
    return None


def use_of(limits: dict[str, Limit], limit: Any, cost: Any) -> LimitUse | None:
    """Check the options `limit` and `cost` of a step; return what it is called under, `None` without a limit."""
    if limit is None:
        if type(cost) is not int or cost != 1:
            raise ValueError(f"cost={shown(cost)} needs limit=…: it is how many starts of a limit the call counts for")
        return None
    name, key = limit if isinstance(limit, tuple) and len(limit) == 2 else (limit, "")
    if not isinstance(name, str):
        raise TypeError(f"limit must be a name or a (name, key) tuple, not {shown(limit)}")
    found = limits.get(name)
    if found is None:
        known = ", ".join(map(repr, limits)) or "none"
        raise ValueError(f'limit {shown(name)} is not declared in CANX_FLOW["LIMITS"]: the limits are {known}')
    return LimitUse(found.name, _key(key) if isinstance(limit, tuple) else "", _cost(found, cost))


def _key(key: Any) -> str:
    if isinstance(key, bool) or not isinstance(key, (str, int, UUID)):
        raise TypeError(f"the key of a limit must be a str, an int or a UUID, not {type(key).__name__}")
    return checked(key if isinstance(key, str) else str(key), "the key of a limit")


def _cost(limit: Limit, cost: Any) -> int:
    if isinstance(cost, bool) or not isinstance(cost, int):
        raise TypeError(f"cost must be an int, not {type(cost).__name__}")
    if cost < 1:
        raise ValueError(f"cost must be at least 1, not {cost}")
    if limit.rate is None and cost != 1:
        raise ValueError(f"cost={cost} needs a rate, and limit {limit.name!r} has none")
    if cost > limit.burst:
        raise ValueError(
            f"cost={cost} is more than the burst of limit {limit.name!r}, which is {limit.burst}: no call of that "
            f"cost could ever begin"
        )
    return cost
