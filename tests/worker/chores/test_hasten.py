"""Runs that wait for the end of an outage are woken by that."""

from __future__ import annotations

from datetime import timedelta

import pytest

from canx_flow.core.changes import Change, Outcome, Wait, Waits
from canx_flow.core.clock import now
from canx_flow.models import Timer, WorkflowRun
from canx_flow.states import Kind
from canx_flow.worker.life import Life
from canx_flow.worker.turn import Turn

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_waits_for_an_outage_is_woken_when_the_database_is_back(turn: Turn, life: Life) -> None:
    """Its time may be a minute away: the first answer on any of the worker's connections ends that."""
    waits = {}
    for kind in (Kind.OUTAGE, Kind.RETRY):
        run = WorkflowRun.objects.create(workflow="nobody.knows", state="retrying", ready=False)
        waits[kind] = Timer.objects.create(run=run, step="", kind=kind, due_at=now() + timedelta(minutes=1))
        opened = Wait("", kind, waits[kind].due_at)
        life.parts._stored(Change(run.id, 1, waits=Waits(opens=(opened,))), Outcome(stored=True))
    turn.hasten()
    assert not Timer.objects.filter(due_at__lte=now()).exists()
    life._outages.end("main thread")
    turn.hasten()
    assert list(Timer.objects.filter(due_at__lte=now())) == [waits[Kind.OUTAGE]]
    assert turn._agenda.timer.is_due()
