"""Each queue: how many runs are due there, since when, how many run, and which workers serve it.

A fixed number of queries, each by an index and up to a limit, however many queues there are. Called by the admin.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections

from .. import models
from ..core import registry
from ..models import PausedWorkflow, WorkflowRun
from ..models.conditions import DEFAULT_QUEUE, HAS_OWNER, in_queue
from ..states import ENDED
from . import counting, distinct, overdue, serving
from .overdue import Due
from .serving import Serving

#: Queues that are shown; runs that have an owner and are counted.
MOST, MOST_OWNED = 100, 10_000
#: Of a queue's due runs, those that were started first: one that has slept may be due for shorter than the next.
_OLDEST = 5
#: Of a queue that nobody declares, the runs that are asked whether they have ended: those started last.
_LAST = 200


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue. `due` is counted up to `overdue.MOST`; `oldest`: of the due runs, the one that waits for longest."""

    name: str
    due: int
    oldest: Due | None
    running: int
    workers: Sequence[Serving]
    #: Nobody declares it any more, and what was started in it has ended.
    over: bool = False
    state: models.Queue | None = None

    @property
    def limits(self) -> dict[str, Any]:
        """The limits in force, by their names in the settings."""
        return {} if self.state is None else json.loads(self.state.declared) | self.chosen

    @property
    def chosen(self) -> dict[str, Any]:
        """Those that an operator has set."""
        return {} if self.state is None else json.loads(self.state.chosen)

    @property
    def served(self) -> bool:
        return any(worker.lives for worker in self.workers)

    @property
    def is_capped(self) -> bool:
        return self.due >= overdue.MOST


@dataclass(frozen=True, slots=True)
class Queues:
    """All of them: those with due runs that no worker serves first. `left_out`: how many more there are, at least."""

    rows: Sequence[Queue]
    left_out: int
    workers: Sequence[Serving]

    @property
    def due(self) -> int:
        return sum(queue.due for queue in self.rows)

    @property
    def oldest(self) -> Due | None:
        """The run that is due for longest."""
        return max((q.oldest for q in self.rows if q.oldest is not None), key=lambda due: due.age, default=None)


def read(alias: str, now: datetime) -> Queues:
    """Read them all: those with due runs, those that workers or workflows name, and those that runs were in."""
    workers = serving.serving(alias, now)
    found = distinct.due_queues(alias)
    due = {name: number for name, number in zip(found, _counted(alias, found), strict=True) if number}
    running = Counter(WorkflowRun.objects.using(alias).filter(HAS_OWNER).values_list("queue", flat=True)[:MOST_OWNED])
    stored = distinct.values(alias, "queue")
    states = {row.name: row for row in models.Queue.objects.using(alias).order_by("name")[:MOST]}
    declared = dict.fromkeys([*due, *running, DEFAULT_QUEUE, *states, *_named(workers)])
    named = list(dict.fromkeys([*declared, *stored]))
    asked = [name for name in named[:MOST] if name not in declared]
    over = set(asked) - with_work_left(alias, asked)
    oldest = _oldest(alias, now, list(due))
    rows = [
        Queue(
            name, due.get(name, 0), oldest.get(name), running[name], [w for w in workers if w.serves(name)],
            over=name in over, state=states.get(name),
        )
        for name in named[:MOST]
    ]  # fmt: skip
    rows.sort(key=lambda queue: (queue.served or not queue.due, -queue.due, queue.name))
    return Queues(rows, len(named) - len(rows), workers)


def with_work_left(alias: str, names: Sequence[str]) -> set[str]:
    """Return those of these queues in which a run has not ended, of the last `_LAST` of each: one statement.

    It reads no further than to the first such run. The last one is asked alone first, since MySQL and MariaDB read all
    of a subquery that has a limit.
    """
    parts: list[str] = []
    values: list[Any] = []
    goes_on = f"state NOT IN ({', '.join(repr(str(state)) for state in ENDED)})"
    for name in names:
        last = WorkflowRun.objects.using(alias).filter(in_queue(name)).order_by("-id").values("state")
        for most in (1, _LAST):
            sql, given = last[:most].query.get_compiler(alias).as_sql()
            parts.append(f"EXISTS (SELECT 1 FROM ({sql}) last WHERE {goes_on})")  # noqa: S608 - of a queryset
            values += given
    if not parts:
        return set()
    either = [" OR ".join(pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(either)}", values)
        return {name for name, left in zip(names, cursor.fetchone(), strict=True) if left}


def paused_workflows(alias: str) -> list[PausedWorkflow]:
    """Return the workflows that are paused, by name."""
    return list(PausedWorkflow.objects.using(alias).order_by("workflow")[:MOST])


def _named(workers: Iterable[Serving]) -> Iterator[str]:
    """Yield the queues that workers listen to, and those of the workflows here."""
    for worker in workers:
        yield from worker.queues
    for name, version in registry.identities():
        workflow = registry.get(name, version)
        if workflow is not None:
            yield workflow.queue


def _counted(alias: str, names: Sequence[str]) -> list[int]:
    return counting.capped(alias, [overdue.ready(alias, [name]) for name in names], overdue.MOST)


def _oldest(alias: str, now: datetime, names: Sequence[str]) -> dict[str, Due]:
    """Return the run of each queue that is due for longest, of those that were started first."""
    found: dict[str, Due] = {}
    for due in overdue.waiting(alias, now, _ids(alias, names)):
        if due.queue not in found or due.age > found[due.queue].age:
            found[due.queue] = due
    return found


def _ids(alias: str, names: Sequence[str]) -> list[UUID]:
    """Read the first ids among the due runs that each queue counts: one statement."""
    parts: list[str] = []
    values: list[Any] = []
    for name in names:
        due = overdue.ready(alias, [name]).order_by("-priority", "id").values("id")[: overdue.MOST]
        sql, given = due.query.get_compiler(alias).as_sql()
        parts.append(f"SELECT id FROM (SELECT id FROM ({sql}) due ORDER BY id LIMIT {_OLDEST}) oldest")  # noqa: S608
        values += given
    if not parts:
        return []
    with connections[alias].cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), values)
        return [row[0] if isinstance(row[0], UUID) else UUID(str(row[0])) for row in cursor.fetchall()]
