"""Deadlines that have passed: receivers are told after the commit, on a thread of their own."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError, connections

from canx_flow import signals
from canx_flow.core.clock import now
from canx_flow.models import Timer, WorkflowRun
from canx_flow.replay import reports
from canx_flow.states import SLEEPING, Kind
from canx_flow.store import claims
from canx_flow.store.db import engine, sqlite
from canx_flow.worker.life import Life
from canx_flow.worker.slots import Slots
from canx_flow.worker.turn import Turn
from tests.worker.lives import asleep
from tests.workflows import two_steps

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("broken_module", [claims, reports], ids=["load", "tell"])
def test_a_deadline_is_told_of_though_what_came_after_it_broke(
    turn: Turn, life: Life, monkeypatch: pytest.MonkeyPatch, broken_module: Any
) -> None:
    """It is committed that the run has failed: the next turn tells, if this one cannot."""
    run = WorkflowRun.objects.create(workflow="nobody.knows", state=SLEEPING, ready=False)
    Timer.objects.create(run=run, step="", kind=Kind.DEADLINE, due_at=now())
    turn._ask()
    told: list[UUID] = []
    name = "load" if broken_module is claims else "timed_out"
    sound = getattr(broken_module, name)

    def broken(*_arguments: Any) -> None:
        monkeypatch.setattr(broken_module, name, sound)
        raise OperationalError("the server has gone away")

    def hear(**kwargs: Any) -> None:
        told.append(kwargs["run_id"])

    monkeypatch.setattr(broken_module, name, broken)
    signals.run_failed.connect(hear)
    try:
        with pytest.raises(OperationalError):
            turn.take(())
        assert not told
        turn.ask_anew()
        turn.take(())
        turn.take(())
        assert life.parts.teller.wait(10)
    finally:
        signals.run_failed.disconnect(hear)
    assert told == [run.id]


def test_who_hears_of_a_deadline_holds_nobody_up(
    turn: Turn, slots: Slots, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver may take its time: the lock is free by then, and what was claimed has been started."""
    run = WorkflowRun.objects.create(workflow="nobody.knows", state=SLEEPING, ready=False)
    Timer.objects.create(run=run, step="", kind=Kind.DEADLINE, due_at=now())
    woken = asleep(0, two_steps.name)
    turn._ask()
    told: list[str] = []
    monkeypatch.setattr(slots, "start", lambda run: told.append(f"started {run.id}"))

    def hear(**kwargs: Any) -> None:
        free: list[bool] = []

        def look() -> None:
            free.append(sqlite.turns["default"].acquire(timeout=10))
            if free[0]:
                sqlite.turns["default"].release()

        other = threading.Thread(target=look)
        other.start()
        other.join()
        told.append(f"failed {kwargs['run_id']} {free} {connections['default'].in_atomic_block}")

    signals.run_failed.connect(hear)
    try:
        turn.take(())
        assert life.parts.teller.wait(20)
    finally:
        signals.run_failed.disconnect(hear)
    assert told == [f"started {woken}", f"failed {run.id} [True] False"]


def test_who_hears_of_a_deadline_uses_the_projects_connection_and_may_take_its_time(turn: Turn, life: Life) -> None:
    """Its thread is not the loop's: the turn is over, and the engine's connection is not its own."""
    runs = [WorkflowRun.objects.create(workflow="nobody.knows", state=SLEEPING, ready=False) for _ in range(2)]
    for run in runs:
        Timer.objects.create(run=run, step="", kind=Kind.DEADLINE, due_at=now())
    turn._ask()
    may_end = threading.Event()
    told: list[tuple[UUID, bool, str]] = []

    def hear(**kwargs: Any) -> None:
        assert may_end.wait(20)
        stored = WorkflowRun.objects.get(id=kwargs["run_id"]).state
        told.append((kwargs["run_id"], engine.is_own(connections["default"]), stored))

    signals.run_failed.connect(hear)
    try:
        turn.take(())
        assert not told
        may_end.set()
        assert life.parts.teller.wait(20)
    finally:
        may_end.set()
        signals.run_failed.disconnect(hear)
    assert sorted(told) == sorted((run.id, False, "failed") for run in runs)
