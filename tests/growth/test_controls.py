"""What callers do to a run, or to many: they read these runs, and nothing that lies beside."""

from __future__ import annotations

from uuid import UUID

import pytest

from canx_flow import client
from canx_flow.core import clock
from canx_flow.insight import timeline
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.states import FAILED, SLEEPING, Kind, RecordState

from ..workflows import two_steps
from .work import measured

#: So few that an index is better than a table of this size.
SOME = 20
#: Pages or rows of each run: a few indexes, its own row, rows that are its.
FOR_EACH = 100


@pytest.fixture
def failed() -> list[UUID]:
    """Runs far apart that have failed in their only step, with a deadline that is held."""
    ids = list(WorkflowRun.objects.states("completed").order_by("id").values_list("id", flat=True)[: SOME * 100 : 100])
    WorkflowRun.objects.filter(id__in=ids).update(
        state=FAILED, reason="StepFailed", error='{"type":"E","message":"m","traceback":"t","step":"s","mro":[]}'
    )
    now = clock.now()
    StepRecord.objects.bulk_create(
        StepRecord(run_id=run_id, seq=2, name="s", kind=Kind.STEP, state=RecordState.FAILED, started_at=now)
        for run_id in ids
    )
    Timer.objects.bulk_create(Timer(run_id=run_id, kind=Kind.RETRY, held=True) for run_id in ids)
    return ids


def test_a_bulk_retry_reads_the_runs_it_retries(failed: list[UUID]) -> None:
    """And the rows that are theirs."""
    with measured() as work:
        assert WorkflowRun.objects.states("failed").retry()["retried"] == SOME
    work.assert_little(FOR_EACH * SOME)


def test_a_bulk_cancel_reads_the_runs_it_cancels(failed: list[UUID]) -> None:
    """And the rows that are theirs."""
    WorkflowRun.objects.filter(id__in=failed).update(state=SLEEPING)
    with measured() as work:
        assert WorkflowRun.objects.filter(id__in=failed).cancel()["cancelled"] == SOME
    work.assert_little(FOR_EACH * SOME)


@pytest.mark.parametrize("verb", ["status", "send", "pause", "resume", "cancel", "start", "show"])
def test_what_is_done_to_one_run_reads_this_run(verb: str) -> None:
    """Whichever verb."""
    some = WorkflowRun.objects.filter(state=SLEEPING, key=None).order_by("id").first()
    assert some is not None
    calls = {
        "status": lambda: client.get_run(some.id),
        "send": lambda: client.send(some.id, "paid", 1, dedup_id=verb),
        "pause": lambda: client.pause(some.id),
        "resume": lambda: client.resume(some.id),
        "cancel": lambda: client.cancel(some.id),
        "start": lambda: two_steps.using(key=str(some.id), delay=3600).start("a"),
        "show": lambda: timeline.load(some.id, results=True),
    }
    with measured() as work:
        calls[verb]()
    work.assert_little(3 * FOR_EACH)
