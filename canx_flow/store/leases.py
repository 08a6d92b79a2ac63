"""A worker's life as the database sees it: register, beat, leave or be found dead; and what becomes of its runs.

Called by the worker. Every write is guarded by the state it expects; the row count is the answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connections
from django.db.models import Exists, F, OuterRef, QuerySet

from .. import conf, states
from ..core import arrows
from ..core.clock import now
from ..exceptions import TooManyRecoveries
from ..models import Worker, WorkflowRun
from ..models.conditions import HAS_OWNER
from ..observe import announce, facts
from ..states import WorkerState
from .db.engine import transaction, turn
from .db.ready import ALONE_FROM
from .transitions import park_stopping, take

TOO_MANY = "TooManyRecoveries"


@dataclass(frozen=True, slots=True)
class Recoverable:
    """What recovery must know of a run, as it was locked."""

    id: UUID
    state: str
    epoch: int
    recoveries: int
    workflow: str
    version: str
    queue: str
    has_undo: bool


def register(
    *,
    host: str,
    pid: int,
    boot_id: str = "",
    pid_namespace: str = "",
    process_started: str = "",
    name: str = "",
    queues: Sequence[str] = (),
    workflows: Sequence[tuple[str, str]] = (),
    schedules: Sequence[str] = (),
    concurrency: int = 0,
    version: str = "",
    socket: str = "",
) -> Worker:
    """Register a live worker under an id of its own: neither its name nor its host need be unique.

    `workflows`: the (name, version) of each that it knows. `schedules`: the names of those that it declares.
    """
    return Worker.objects.using(_alias()).create(
        host=host,
        pid=pid,
        boot_id=boot_id,
        pid_namespace=pid_namespace,
        process_started=process_started,
        name=name,
        queues=json.dumps(list(queues)),
        workflows=json.dumps(list(workflows)),
        schedules=json.dumps(list(schedules)),
        concurrency=concurrency,
        version=version,
        socket=socket,
    )


def beat(worker_id: UUID, *, activity: str = "{}", abandoned: int = 0) -> bool:
    """Renew the lease over every run it owns. `False`: another worker has found this one dead."""
    moment = now()
    changed = _alive(worker_id).update(beat=F("beat") + 1, beat_at=moment, activity=activity, abandoned=abandoned)
    return changed == 1


def say_goodbye(worker_id: UUID) -> bool:
    """Say that the worker leaves on purpose: what it still owns is recovered, and counts as no crash."""
    return _alive(worker_id).update(state=WorkerState.STOPPED, ended_at=now(), activity="{}") == 1


def declare_dead(worker_id: UUID) -> bool:
    """Declare a worker dead, whose lease has run out. `False`: it has left, or another worker was first.

    Its last activity stays in its row: it tells which steps its death has cut off.
    """
    return _alive(worker_id).update(state=WorkerState.DEAD, ended_at=now()) == 1


def live_workers() -> list[Worker]:
    """Return every worker that is not found dead yet, oldest first."""
    return list(Worker.objects.using(_alias()).filter(state=WorkerState.ALIVE).order_by("started_at", "id"))


def watched_workers() -> list[Worker]:
    """Return the same in any order, with no more than what tells whether they are alive: asked for again and again."""
    seen = ("name", "host", "pid", "boot_id", "pid_namespace", "process_started", "beat")
    return list(Worker.objects.using(_alias()).filter(state=WorkerState.ALIVE).only(*seen))


def owners_not_alive() -> list[UUID]:
    """Return owners of runs that are no live workers: dead, gone without handing back, or without a row."""
    alive = Worker.objects.filter(id=OuterRef("owner_id"), state=WorkerState.ALIVE)
    owned = WorkflowRun.objects.using(_alias()).filter(HAS_OWNER, state__in=states.OWNED)
    owners = owned.filter(~Exists(alive)).order_by().values_list("owner_id", flat=True).distinct()
    return list(owners)


def recover(worker_id: UUID, limit: int = 500, doubtful: list[Recoverable] | None = None) -> list[UUID]:
    """Take up to `limit` runs from an owner that is not alive; return their ids. In one transaction.

    Running ones become pending, or are parked once too many workers have died with them alone; paused and stopping ones
    stay so. A row that another transaction has locked is left for the next time. Should the answer be lost, `doubtful`
    holds what may be parked: hand that to `tell_of_parked`.
    """
    doubtful = [] if doubtful is None else doubtful
    alias = _alias()
    with transaction(connections[alias]):
        if _alive(worker_id).exists():
            return []
        # Leaving on purpose is no crash: a long step must not be parked by a week of deployments.
        left = Worker.objects.using(alias).filter(id=worker_id, state=WorkerState.STOPPED).exists()
        runs = _lock_owned(worker_id, limit)
        parked = [] if left else [run for run in runs if _kills_workers(run)]
        goes_on = [run for run in runs if run not in parked]
        if left:
            take(alias, arrows.TAKE_BACK, [run.id for run in goes_on], worker=worker_id)
        else:
            _recover(alias, worker_id, goes_on)
        doubtful += parked
        _park(alias, worker_id, parked)
    del doubtful[len(doubtful) - len(parked) :]
    for run in parked:
        _report_parked(run)
    return [run.id for run in runs]


def tell_of_parked(doubtful: list[Recoverable]) -> list[Recoverable]:
    """Tell of runs that this very recovery has parked; return those of which it is not known yet."""
    chosen = WorkflowRun.objects.using(_alias()).filter(id__in=[run.id for run in doubtful])
    rows = {row[0]: row[1:] for row in chosen.values_list("id", "state", "epoch", "reason")}
    for run in doubtful:
        if rows.get(run.id) == (states.PARKED, run.epoch + 1, _reason(run.recoveries + 1)):
            _report_parked(run)
    return [run for run in doubtful if rows.get(run.id, ("", 0, ""))[:2] == (run.state, run.epoch)]


def disown(worker_id: UUID, known: Collection[tuple[UUID, int]], limit: int = 500) -> list[UUID]:
    """Make ready the runs that this live worker owns and does not know of, mostly because an answer was lost.

    `known`: id and epoch of each run that it works on, read before this. Mostly it knows all: then nothing is locked.
    """
    owned = WorkflowRun.objects.using(_alias()).filter(owner_id=worker_id, state__in=states.OWNED)
    # Those that it knows may be the first, and must not use up the limit.
    rows = owned.values_list("id", "epoch").order_by("id")[: limit + len(known)]
    ids = [run_id for run_id, epoch in rows if (run_id, epoch) not in known]
    if not ids:
        return []
    with transaction(connections[_alias()]):
        locked = _lock_owned(worker_id, limit, ids)
        unknown = [run for run in locked if (run.id, run.epoch) not in known]
        take(_alias(), arrows.TAKE_BACK, [run.id for run in unknown], worker=worker_id)
    return [run.id for run in unknown]


def forget_ended(older_than: datetime) -> int:
    """Delete the rows of workers that ended before `older_than` and own nothing; return how many."""
    owned = WorkflowRun.objects.filter(owner_id=OuterRef("id"))
    ended = Worker.objects.using(_alias()).filter(
        ~Exists(owned), state__in=(WorkerState.STOPPED, WorkerState.DEAD), ended_at__lt=older_than
    )
    if not ended.exists():  # Else SQLite would wait for its one lock for nothing.
        return 0
    with turn(connections[_alias()]):
        return ended.delete()[0]


def _alias() -> str:
    return conf.get().database


def _alive(worker_id: UUID) -> QuerySet[Worker]:
    return Worker.objects.using(_alias()).filter(id=worker_id, state=WorkerState.ALIVE)


def _lock_owned(worker_id: UUID, limit: int, ids: Sequence[UUID] | None = None) -> list[Recoverable]:
    skip = connections[_alias()].features.has_select_for_update_skip_locked
    owned = WorkflowRun.objects.using(_alias()).filter(owner_id=worker_id, state__in=states.OWNED)
    if ids is not None:
        owned = owned.filter(id__in=ids)
    locked = owned.order_by("id").select_for_update(skip_locked=skip)
    rows = locked.values_list("id", "state", "epoch", "recoveries", "workflow", "version", "queue", "has_undo")[:limit]
    return [Recoverable(*row) for row in rows]


def _kills_workers(run: Recoverable) -> bool:
    # A paused run calls nothing, nor does one that only has to end.
    called = run.state == states.RUNNING or (run.state == states.STOPPING and run.has_undo)
    return called and run.recoveries + 1 >= ALONE_FROM + conf.get().max_recoveries


def _recover(alias: str, worker_id: UUID, runs: list[Recoverable]) -> None:
    """Count this crash for each of these runs; in the history it has its number."""
    for recoveries in {run.recoveries for run in runs}:
        ids = [run.id for run in runs if run.recoveries == recoveries]
        take(alias, arrows.RECOVER, ids, worker=worker_id, detail=str(recoveries + 1))


def _park(alias: str, worker_id: UUID, runs: list[Recoverable]) -> None:
    stopping = [run for run in runs if run.state == states.STOPPING]
    running = [run for run in runs if run.state != states.STOPPING]
    for recoveries in {run.recoveries for run in running}:
        ids = [run.id for run in running if run.recoveries == recoveries]
        reason = _reason(recoveries + 1)
        take(alias, arrows.PARK_RECOVERED, ids, worker=worker_id, reason=reason, error=None)
    for run in stopping:
        park_stopping(alias, arrows.PARK_RECOVERED, run.id, _reason(run.recoveries + 1), TooManyRecoveries)


def _reason(recoveries: int) -> str:
    alone = recoveries - ALONE_FROM
    return (
        f"{TOO_MANY}: its worker died {recoveries} times since the last stored step, "
        f"{alone} of them with nothing else in flight. `retry` lets it try again."
    )


def _report_parked(run: Recoverable) -> None:
    reason = _reason(run.recoveries + 1)
    announce(facts.RunParked(facts.RunRef.of(run), reason, TooManyRecoveries(reason.partition(": ")[2])))
