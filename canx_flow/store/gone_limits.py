"""Those that wait for a limit which was taken out of the settings: they go on. Called by a worker's chore.

A new deployment has no such limit, so that nobody gives a place of it back; and a moment that is reserved, which may be
hours away, counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import conf
from ..core import clock
from ..core.limits import FULL, RESERVED, bucket_of
from ..models import Timer
from ..models.conditions import FALSE
from .limits import due_now


def wake(alias: str, queues: Sequence[str], most: int) -> int:
    """Let up to so many steps go on, of runs in these queues, whose wait the settings do not know any more.

    They wait for a limit that is not declared, or for the rate of one that has none. No queues: all.
    """
    events = [event for event in _waited_for(alias) if _is_gone(event)]
    if not events:
        return 0
    waits = Timer.objects.using(alias).filter(event__in=events, held=FALSE, due_at__gt=clock.now())
    if queues:
        waits = waits.filter(run__queue__in=queues)
    first = list(waits.order_by("id").values_list("id", flat=True)[:most])
    return due_now(alias, first) if first else 0


def _waited_for(alias: str) -> Iterator[str]:
    """Yield the events of the waits for limits, each once: a step in the index for each, however many wait."""
    event: str | None = ""
    while event is not None:
        # No other events lie between.
        waits = Timer.objects.using(alias).filter(event__gt=event or FULL, event__lt=f"{RESERVED}\U0010ffff")
        event = waits.order_by("event").values_list("event", flat=True).first()
        if event is not None:
            yield event


def _is_gone(event: str) -> bool:
    bucket = bucket_of(event, None)
    limit = conf.get().limits.get(bucket[0]) if bucket is not None else None
    return limit is None or (event.startswith(RESERVED) and limit.rate is None)
