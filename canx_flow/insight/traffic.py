"""What passes through each queue: how many of its runs sleep or wait, and how many have ended within the last minute.

No index knows the queue of a run together with its state or its end. So these are counts among the newest runs of each
state, and among the runs that were started last, up to a limit: three statements, however many queues there are. Called
by the admin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections

from ..core.identity import moment_of
from ..models import RunQuerySet, WorkflowRun
from ..models.conditions import in_states
from ..states import FAILED, SUSPENDED

#: Runs of each state that are looked at, the newest; and runs that are asked when they have ended, those started last.
MOST_SUSPENDED, MOST_STARTED = 5_000, 10_000
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Numbers by the names of queues. `ended`: within the last minute, be it well or not; `failed`: of those.

    `is_capped`: more runs sleep or wait than were looked at. `since`: runs that were started before this moment were
    not asked whether they have ended. `is_short`: nor were some that were started within this minute.
    """

    suspended: Mapping[str, int]
    ended: Mapping[str, int]
    failed: Mapping[str, int]
    is_capped: bool
    since: datetime | None
    is_short: bool


def read(alias: str, now: datetime) -> Traffic:
    """Read the numbers of all queues."""
    runs = WorkflowRun.objects.using(alias).order_by("-id")
    waiting = _grouped(alias, [runs.filter(in_states(state))[:MOST_SUSPENDED] for state in SUSPENDED])
    by_state = _summed((state, number) for _queue, state, number in waiting)
    ends = _grouped(alias, [runs[:MOST_STARTED]], now - _MINUTE)
    first = list(runs.values_list("id", flat=True)[MOST_STARTED - 1 : MOST_STARTED])
    since = moment_of(first[0]) if first else None
    return Traffic(
        suspended=_summed((queue, number) for queue, _state, number in waiting),
        ended=_summed((queue, number) for queue, _state, number in ends),
        failed=_summed((queue, number) for queue, state, number in ends if state == FAILED),
        is_capped=any(number >= MOST_SUSPENDED for number in by_state.values()),
        since=since, is_short=since is not None and since > now - _MINUTE,
    )  # fmt: skip


def _grouped(alias: str, sets: Sequence[RunQuerySet], since: datetime | None = None) -> list[tuple[str, str, int]]:
    """Count these runs by queue and state, or those that have ended since a moment: one statement."""
    connection = connections[alias]
    parts: list[str] = []
    values: list[Any] = []
    for rows in sets:
        sql, given = rows.values("queue", "state", "finished_at").query.get_compiler(alias).as_sql()
        parts.append(f"SELECT * FROM ({sql}) newest")  # noqa: S608 - of a queryset
        values += given
    where = ""
    if since is not None:
        where = " WHERE finished_at >= %s"
        values.append(connection.ops.adapt_datetimefield_value(since))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT queue, state, COUNT(*) FROM ({' UNION ALL '.join(parts)}) found{where} GROUP BY queue, state",  # noqa: S608
            values,
        )
        return [(queue, state, int(number)) for queue, state, number in cursor.fetchall()]


def _summed(numbers: Iterable[tuple[str, int]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, number in numbers:
        found[name] += number
    return found
