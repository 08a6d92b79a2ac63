"""The ways of a workflow's last runs, read from their records for its graph. Called by the admin.

Three queries, however many runs there are. Records are read run by run, the newest first, and no more of them than are
wanted: the database sorts none. A process keeps a graph for some seconds, because every page of a run shows one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

from django.db import connections

from .. import conf
from ..models import StepRecord, WorkflowRun
from ..states import Kind, RecordState
from . import graph, own_way
from .graph import Graph, Path, Seen
from .kept import Kept

#: The newest runs that are looked at, and their records; of a workflow with long runs there are fewer runs.
MOST_RUNS, MOST_RECORDS = 1000, 20_000
#: The last records of the one run whose way is marked.
MOST_OWN = 2_000
#: Seconds for which a graph is shown again, and graphs that are kept.
FRESH, MOST_KEPT = 30.0, 20

_TOOK = {
    "postgresql": "EXTRACT(EPOCH FROM s.finished_at - s.started_at)::float8",
    "mysql": "TIMESTAMPDIFF(MICROSECOND, s.started_at, s.finished_at) / 1000000.0e0",
    "sqlite": "(julianday(s.finished_at) - julianday(s.started_at)) * 86400.0",
}
#: In the order of the runs, and until there are enough: nothing else can be made of these words.
_JOINED = {
    "postgresql": "CROSS JOIN LATERAL (SELECT * FROM {records} WHERE run_id = r.id LIMIT {most}) s",
    "mysql": "STRAIGHT_JOIN {records} s ON s.run_id = r.id",
    "sqlite": "CROSS JOIN {records} s ON s.run_id = r.id",
}
_kept: Kept[tuple[str, str], Graph] = Kept(MOST_KEPT)


def newest(workflow: str) -> list[WorkflowRun]:
    """Read the last runs of a workflow, with states and moments alone."""
    found = WorkflowRun.objects.using(conf.get().database).filter(workflow=workflow).order_by("-id")
    return list(found.only("id", "state", "version", "created_at", "started_at", "finished_at")[:MOST_RUNS])


def of_workflow(workflow: str, runs: Sequence[WorkflowRun]) -> Graph:
    """Read the graph of a workflow's last runs, which are these."""
    alias = conf.get().database
    found = graph.draw(list(_paths(alias, workflow, runs)))
    _kept.put((alias, workflow), found, FRESH)
    return found


def recent(workflow: str) -> Graph:
    """Return the graph of a workflow's last runs, as it was some seconds ago."""
    key = conf.get().database, workflow
    return _kept.get(key, lambda: of_workflow(workflow, newest(workflow)), FRESH)


def with_run(of: Graph, run: WorkflowRun, called: str = "") -> Graph:
    """Mark where a run has been and stands; `called`: the step that its worker calls, which may have no record yet."""
    records = StepRecord.objects.using(conf.get().database).filter(run_id=run.id).order_by("-seq")
    last = [Seen(*row) for row in records.values_list("seq", "name", "kind", "state")[:MOST_OWN]][::-1]
    is_new = called and called not in {seen.name for seen in last}
    now = [Seen(0, called, Kind.STEP, RecordState.STARTED)] if is_new else []
    return own_way.marked(of, Path(run.state, [*last, *now]), whole=len(last) < MOST_OWN)


def _paths(alias: str, workflow: str, runs: Sequence[WorkflowRun]) -> Iterator[Path]:
    states = {run.id: run.state for run in runs}
    of_run = {
        run_id: sorted((Seen(*row[1:]) for row in rows), key=itemgetter(0))
        for run_id, rows in groupby(_rows(alias, workflow), key=itemgetter(0))
    }
    if sum(map(len, of_run.values())) == MOST_RECORDS and len(of_run) > 1:
        of_run.popitem()  # Of the last one there may be more.
    for key, seen in of_run.items():
        run_id = key if isinstance(key, UUID) else UUID(key)
        if run_id in states:  # Not started since these were read.
            yield Path(states[run_id], seen)


def _rows(alias: str, workflow: str) -> list[Any]:
    """Read the records of the last runs, the newest run first: its id, and what `Seen` holds."""
    vendor, records, runs = connections[alias].vendor, StepRecord._meta.db_table, WorkflowRun._meta.db_table
    last = f"SELECT id FROM {runs} WHERE workflow = %s ORDER BY id DESC LIMIT {MOST_RUNS}"  # noqa: S608 - ours
    joined = _JOINED[vendor].format(records=records, most=MOST_RECORDS)
    statement = (
        f"SELECT r.id, s.seq, s.name, s.kind, s.state, {_TOOK[vendor]} "  # noqa: S608 - ours
        f"FROM ({last}) r {joined} LIMIT {MOST_RECORDS}"
    )
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, [workflow])
        return list(cursor.fetchall())
