"""Wake runs that wait for a place in a limit, once there is one.

Done when this worker has stored that a place is given back, or that a run waits for one (which looks once more: the
last place may have been given back at the same moment). What nobody tells of, as after a crash, a look every few
seconds finds; and now and then one those that wait for a limit which this worker's settings do not have any more.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from ... import conf
from ...core.changes import Change
from ...core.limits import FULL, Bucket, bucket_of
from ...states import Kind
from ...store import gone_limits, limits
from ..agenda import Every

_SECONDS = 5.0
#: Not more often, nor more at once: while workers of both settings live, those that are woken may wait again.
_GONE_SECONDS = 20.0
#: Until those are looked at anew that were passed over.
_ANEW_SECONDS = 60.0
_MOST_KEYS = 20  # of one limit, that are looked at in one go
_AT_ONCE = 1000


class FreePlaces:
    """Remembers in which buckets there may be a place for somebody who waits."""

    def __init__(self, alias: str, queues: Sequence[str] = ()) -> None:
        self._alias = alias
        #: Those of the worker; none: all. The workers of other queues may have other limits.
        self._queues = queues
        self._every = Every(_SECONDS)
        self._gone = Every(_GONE_SECONDS)
        self._anew = Every(_ANEW_SECONDS)
        self._noted: deque[Bucket] = deque()
        #: By limit: behind which key the next look begins.
        self._after: dict[str, str] = {}
        #: Behind which timer of a bucket the next look begins: those before it wait in paused queues.
        self._passed: dict[Bucket, int] = {}

    def note(self, change: Change) -> bool:
        """Remember what a stored change gives back, or waits for; return whether it does. On the committer's thread."""
        buckets = [bucket for bucket, _step in change.waits.releases]
        for wait in change.waits.opens:
            if wait.kind == Kind.LIMIT and wait.event is not None and wait.event.startswith(FULL):
                bucket = bucket_of(wait.event, wait.key)
                buckets += [] if bucket is None else [bucket]
        self._noted += buckets
        return bool(buckets)

    def at_once(self) -> None:
        """Have the next look be now: a worker has died, and what it held is free."""
        self._every.at_once()

    def run_once(self, _now: float) -> int:
        """Wake for what was noted; return how many runs that was."""
        noted: Counter[Bucket] = Counter()
        while self._noted:
            noted[self._noted.popleft()] += 1
        return sum(limits.wake(self._alias, bucket, number, self._passed) for bucket, number in noted.items())

    def look(self, now: float) -> int:
        """Look whether anybody waits in vain, every few seconds; return how many runs were woken."""
        woken = 0
        if self._gone.is_due(now):
            self._gone.done(now)
            woken = gone_limits.wake(self._alias, self._queues, _AT_ONCE)
        declared = conf.get().limits
        if not declared or not self._every.is_due(now):
            return woken
        self._every.done(now)
        if self._anew.is_due(now):  # Queues may have been resumed.
            self._anew.done(now)
            self._passed.clear()
        # One that has no places any more holds nobody up.
        return woken + sum(self._look(name) for name in declared)

    def _look(self, name: str) -> int:
        woken = 0
        after = self._after.pop(name, None)
        for _ in range(_MOST_KEYS):
            key = limits.next_waiting(self._alias, name, after)
            if key is None:
                return woken
            woken += limits.wake(self._alias, (name, key), _AT_ONCE, self._passed)
            after = key
        self._after[name] = after or ""
        return woken
