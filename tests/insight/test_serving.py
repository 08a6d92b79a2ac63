"""What is due that no live worker does, as a worker says at its start and the commands do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow.core import clock, registry
from canx_flow.insight import serving
from canx_flow.models import Worker, WorkflowRun
from canx_flow.store import leases

from ..processes import Workers
from ..workflows import failing

pytestmark = pytest.mark.django_db


def due(queue: str = "default", workflow: str = "tests.failing", version: str = "") -> None:
    """A run that may be claimed."""
    WorkflowRun.objects.create(workflow=workflow, version=version, queue=queue)


def left_alone(*queues: str, identities: Sequence[tuple[str, str]] | None = None) -> list[str]:
    """What a worker of these queues leaves alone."""
    return list(serving.left_alone(queues, registry.identities() if identities is None else identities))


def test_a_queue_that_neither_this_worker_nor_another_serves() -> None:
    """It is named with the number of its runs; a live worker of it, or of all queues, is enough."""
    due("mail"), due("mail"), due()
    assert left_alone() == []
    assert left_alone("mail") == ["1 run is due in queue 'default', which neither this worker nor any other serves"]
    assert left_alone("default") == ["2 runs are due in queue 'mail', which neither this worker nor any other serves"]
    other = leases.register(host="web-1", pid=1, queues=["mail"])
    assert left_alone("default") == []
    Worker.objects.filter(id=other.id).update(beat_at=clock.now() - timedelta(hours=1))
    assert len(left_alone("default")) == 1


def test_a_workflow_that_neither_this_worker_nor_another_knows() -> None:
    """With its version; of queues that this worker serves."""
    due(workflow="gone", version="2"), due(workflow="gone", queue="mail"), due()
    said = ["1 run is due of workflow 'gone@2', which neither this worker nor any other knows"]
    assert [line for line in left_alone("default") if "knows" in line] == said
    leases.register(host="web-1", pid=1, workflows=[("gone", "2"), ("gone", "")])
    assert left_alone("default") == []


def test_it_asks_as_often_however_many_runs_are_due() -> None:
    """Each queue is one lookup in an index."""
    counts = []
    for _ in range(2):
        for _ in range(10):
            due("mail"), due()
        with CaptureQueriesContext(connection) as queries:
            left_alone("default")
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 6


@pytest.mark.django_db(transaction=True)
def test_a_worker_says_at_its_start_what_it_will_not_do(workers: Workers) -> None:
    """Below its banner, on its terminal."""
    failing.start()
    workers.start("--queue", "mail").wait_log(
        "1 run is due in queue 'default', which neither this worker nor any other"
    )
