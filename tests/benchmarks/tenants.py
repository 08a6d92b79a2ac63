"""W22: one tenant has 50,000 runs in a queue of partitions, others start one each: seconds until it is their turn.

With a limit of one run for each tenant; and with one so large that the first tenant's runs fill every slot.
"""

from __future__ import annotations

from collections.abc import Sequence

from canx_flow import queues
from canx_flow.models import WorkflowRun

from ..waiting import wait_until
from . import workflows
from .book import Book
from .latency import pause
from .measure import percentile
from .peers import Peer
from .places import Place
from .throughput import STEPS
from .workers import working
from .workload import Workload

QUEUE = "tenants"
BACKLOG = 50_000
#: Tenants with one run, for each repetition.
_OTHERS = 20
_PATIENCE = 60.0


def measure(place: Place, book: Book, peers: Sequence[Peer]) -> None:
    backlog = BACKLOG if book.options.seconds else 3_000
    others = _OTHERS if book.options.seconds else 2
    for _ in range(book.options.repeat):
        for most in (1, 1_000):
            book.add("w22", place.name, f"{most:,} of each tenant at a time", _turns(place, backlog, others, most))


def _turns(place: Place, backlog: int, others: int, most: int) -> dict[str, float]:
    place.fresh()
    queues.limits(QUEUE, partition_concurrency=most)
    flow = workflows.flow.using(queue=QUEUE)
    flow.using(partition="tenant-0").start_many([(STEPS,)] * backlog)
    with working(place):
        done = WorkflowRun.objects.filter(partition="tenant-0", state="completed")
        wait_until(done.exists, _PATIENCE)
        ids = []
        for number in range(1, others + 1):
            pause()
            ids.append(flow.using(partition=f"tenant-{number}").start(STEPS))
        begun = WorkflowRun.objects.filter(id__in=ids, started_at__isnull=False)
        wait_until(lambda: begun.count() == others, _PATIENCE, message="not all of them have begun")
        left = backlog - done.count()
        assert left, "nothing was left to wait behind"
    times = begun.values_list("created_at", "started_at")
    waits = [(started - made).total_seconds() for made, started in times if started is not None]
    return {"p50_s": percentile(waits, 50), "most_s": max(waits), "tenants": others, "left": left}


COLUMNS = {
    "p50_s": "p50 s until its turn",
    "most_s": "most s",
    "tenants": "tenants with one run",
    "left": "of the backlog then left",
}
WORKLOAD = Workload("w22", f"tenants with one run behind one with {BACKLOG:,}", measure, COLUMNS)
