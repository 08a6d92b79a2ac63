"""Pages of the admin beside a year's runs: how long each takes, and how many queries. None reads all runs.

Beside those of every list and of the workflow, the pages of two large runs: one has 5,000 steps, of which the last has
failed, the other 100 results of 1 MB.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import resolve, reverse

from canx_flow import states
from canx_flow.admin import dashboard
from canx_flow.core import clock, codec
from canx_flow.insight import pulse
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.states import Kind, RecordState

from ..growth.work import measured
from . import filling, workflows
from .book import Book
from .measure import percentile
from .peers import Peer
from .places import Place
from .workload import Workload

STEPS, RESULTS, LARGE = 5_000, 100, 999_998  # The most that is stored, with its quotes.
#: What the issue of the admin asks for on SQLite; on PostgreSQL it is the last of `--stored`.
_MOST_ON_SQLITE = 300_000
_TIMES = 5
#: As many as the 10,000 runs have that a list counts.
_FEW_PAGES = 500
_LISTS = [
    {"state": "all"}, {"state": "attention"}, {"state": "unfinished"}, {"state": states.PENDING},
    {"state": states.SLEEPING}, {"state": states.COMPLETED}, {"state": states.FAILED}, {"state": states.PARKED},
    {"state": "all", "queue": "queue-7"}, {"state": "all", "workflow": "gone"}, {"state": "all", "q": "order-2"},
    {"state": "all", "created": "hour"}, {"state": "all", "error_type": "ValueError"},
]  # fmt: skip


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    """Fill the tables once, with statistics, and draw every page some times."""
    runs, thorough = book.options.stored[-1], bool(book.options.seconds)
    steps, results = (STEPS, RESULTS) if thorough else (STEPS // 100, RESULTS // 50)
    place.fresh()
    filling.fill(min(runs, _MOST_ON_SQLITE) if connection.vendor == "sqlite" else runs)
    addresses = list(_addresses(_with_steps(steps), _with_large_results(results)))
    filling.settle(analysed=True)
    for name, address in addresses:
        _draw(address)  # Whatever is done once is done.
        for _ in range(book.options.repeat):
            book.add("pages", place.name, name, _figures(address, _TIMES if thorough else 1))


def _figures(address: str, times: int) -> dict[str, float]:
    taken = []
    for _ in range(times):
        _forget()
        began = time.perf_counter()
        size = _draw(address)
        taken.append(time.perf_counter() - began)
    _forget()
    with CaptureQueriesContext(connection) as queries:
        _draw(address)
    if connection.vendor == "postgresql":
        _refuse_scans(address)
    return {"ms": percentile(taken, 50) * 1000, "queries": len(queries), "kb": size / 1000}


def _refuse_scans(address: str) -> None:
    """Draw it once more, and look at the plan of each of its queries.

    To count up to a limit PostgreSQL may read the first pages of the table; that is less than a twentieth of it.
    """
    _forget()
    with measured() as work:
        _draw(address)
    table = WorkflowRun._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_relation_size('{table}') / 8192")
        [pages] = cursor.fetchone()
    most = max(_FEW_PAGES, pages // 20)
    assert work.pages.get(table, 0) <= most, f"{address} reads {work.pages} of {pages} pages of runs: {work}"


def _forget() -> None:
    """Have the page read what one in some seconds reads; graphs are kept for longer."""
    pulse.forget()
    dashboard.forget()


def _draw(address: str) -> int:
    """Call the view of this address as the handler would; return how many bytes the page has."""
    request = RequestFactory().get(address)
    request.user = User(username="someone", is_active=True, is_staff=True, is_superuser=True)
    found = resolve(address.partition("?")[0])
    response = found.func(request, *found.args, **found.kwargs)
    if hasattr(response, "render"):
        response.render()
    assert response.status_code == 200, (address, response.status_code)
    return len(response.content)


def _addresses(long: UUID, large: UUID) -> Iterator[tuple[str, str]]:
    listed = reverse("admin:canx_flow_workflowrun_changelist")
    for asked in _LISTS:
        told = ", ".join(f"{name} {value}" for name, value in asked.items())
        yield f"list: {told}", f"{listed}?{'&'.join(f'{name}={value}' for name, value in asked.items())}"
    newest = WorkflowRun.objects.order_by("-id")
    for state in (states.COMPLETED, states.SLEEPING, states.FAILED, states.WAITING, states.PENDING):
        yield f"run: {state}", _page_of(newest.filter(state=state).values_list("id", flat=True)[0])
    yield f"run: {STEPS:,} steps", _page_of(long)
    yield f"run: {RESULTS} results of 1 MB", _page_of(large)
    for name in ("worker", "event"):
        yield f"list of {name}s", reverse(f"admin:canx_flow_{name}_changelist")
    yield "workflows", reverse("admin:canx_flow_workflowrun_workflows")
    yield "workflow, with its graph", reverse("admin:canx_flow_workflowrun_workflow", args=["flow"])
    for name in ("dashboard", "queues"):
        yield name, reverse(f"admin:canx_flow_workflowrun_{name}")
    yield "index", reverse("admin:index")


def _page_of(run_id: UUID) -> str:
    return reverse("admin:canx_flow_workflowrun_change", args=[run_id])


def _with_steps(steps: int) -> UUID:
    names = [f"step-{number}" for number in range(1, steps + 1)]
    error = json.dumps([{"type": "ValueError", "message": "no", "traceback": "", "attempt": 1}])
    return _run(states.FAILED, names, "null", error)


def _with_large_results(results: int) -> UUID:
    return _run(
        states.COMPLETED, [f"report-{number}" for number in range(results)], codec.dumps("x" * LARGE, "it"), None
    )


def _run(state: str, names: Sequence[str], result: str, error: str | None) -> UUID:
    """Store a run with these steps; with an error the last one has failed."""
    now = clock.now()
    run_id: UUID = workflows.flow.using(queue="large").start(1)
    ended = WorkflowRun.objects.filter(id=run_id)
    ended.update(state=state, ready=False, started_at=now, finished_at=now, result=None if error else "null")
    moment = {"started_at": now, "finished_at": now}
    numbered = enumerate(names, start=1)
    while some := list(islice(numbered, 20)):  # A page of large ones at a time.
        StepRecord.objects.bulk_create(
            StepRecord(
                run_id=run_id, seq=seq, name=name, kind=Kind.STEP, state=RecordState.COMPLETED, attempts=1, epoch=1,
                result=result, **moment,
            )
            for seq, name in some
        )  # fmt: skip
    if error:
        failed = StepRecord.objects.filter(run_id=run_id, seq=len(names))
        failed.update(state=RecordState.FAILED, result=None, errors=error)
    return run_id


COLUMNS = {"ms": "ms", "queries": "queries", "kb": "kB"}
WORKLOAD = Workload("pages", "pages of the admin beside a year's runs", measure, COLUMNS, on_request=True)
