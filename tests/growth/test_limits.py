"""What a step's limit reads while its bucket is locked, for which all wait that are to be called under it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections

from canx_flow.core import clock
from canx_flow.core.limits import FULL, LimitUse, Request
from canx_flow.models import Queue, Timer, WorkflowRun
from canx_flow.states import WAITING, Kind
from canx_flow.store import limits

from .work import LITTLE, measured


@pytest.mark.usefixtures("taken_back")
@pytest.mark.parametrize("held", [False, True], ids=["queue", "runs"])
def test_an_admission_reads_little(settings: Any, tier: str, *, held: bool) -> None:
    """However many wait for a place in a queue that is paused, or are paused one by one; whoever waits else is seen."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": {"places": {"concurrency": 1}}}
    _wait([WorkflowRun(workflow="order", queue="still", state=WAITING, ready=False) for _ in range(3000)], held=held)
    Queue.objects.create(name="still", paused=True)
    request = Request(LimitUse("places"), uuid4(), 1, "call", None)
    with measured() as work:
        answers = limits.admit(connections["default"], request.use.bucket, [request], patience=1.0)
    assert [answer.holds for answer in answers] == [True]
    work.assert_little((2 if tier == "sqlite" else 12) * LITTLE)
    _wait([WorkflowRun(workflow="order", state=WAITING, ready=False)])
    answers = limits.admit(connections["default"], request.use.bucket, [request], patience=1.0)
    assert [answer.full for answer in answers] == [True]


def _wait(runs: list[WorkflowRun], *, held: bool = False) -> None:
    """Store runs whose steps wait for a place."""
    WorkflowRun.objects.bulk_create(runs, 500)
    due_at = clock.now() + timedelta(minutes=5)
    wait = partial(Timer, step="call", kind=Kind.LIMIT, due_at=due_at, held=held, event=f"{FULL}places", key="")
    Timer.objects.bulk_create([wait(run=run) for run in runs], 500)
