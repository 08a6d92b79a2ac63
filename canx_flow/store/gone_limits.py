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
from ..states import Kind
from .limits import due_now


def wake(alias: str, queues: Sequence[str], most: int) -> int:
    """Let up to so many steps go on, of runs in these queues, whose wait the settings do not know any more.

    They wait for a limit that is not declared, or for the rate of one that has none. No queues: all.
    """
    events = [event for event in _waited_for(alias) if _is_gone(event)]
    if not events:
        return 0
    waits = Timer.objects.using(alias).filter(event__in=events, kind=Kind.LIMIT, held=FALSE, due_at__gt=clock.now())
    if queues:
        waits = waits.filter(run__queue__in=queues)
    first = list(waits.order_by("id").values_list("id", flat=True)[:most])
    return due_now(alias, first) if first else 0


def _waited_for(alias: str) -> Iterator[str]:
    """Yield the events of the waits for limits, each once: a step in the index for each, however many wait.

    Projects' own events may begin with # as well, and lie beside: none begins as these do, and whatever the order of
    the database's collation is, theirs are waits of another kind.
    """
    for prefix in (FULL, RESERVED):
        event: str | None = prefix
        while event is not None:
            waits = Timer.objects.using(alias).filter(kind=Kind.LIMIT, event__gt=event, event__lt=_behind(prefix))
            event = waits.order_by("event").values_list("event", flat=True).first()
            if event is not None:
                yield event


def _behind(prefix: str) -> str:
    """Return what follows all that begins so."""
    return f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"


def _is_gone(event: str) -> bool:
    bucket = bucket_of(event, None)
    if bucket is None:
        return False
    limit = conf.get().limits.get(bucket[0])
    return limit is None or (event.startswith(RESERVED) and limit.rate is None)
