"""A worker's turn: which timers it fires when, and how long it sleeps then."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from freezegun import freeze_time

from canx_flow.clock import now
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.states import SLEEPING, Kind, RecordState
from canx_flow.worker.loop import CLEAN, Options, WorkerLoop, _Life
from canx_flow.worker.wakeup import Listener

pytestmark = pytest.mark.django_db(transaction=True)


class _Clock:
    """The loop's own clock: it stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """The loop asks this one from now on."""
    found = _Clock()
    monkeypatch.setattr(_Life, "_clock", found)
    return found


@pytest.fixture
def life(clock: _Clock) -> Iterator[_Life]:
    """A worker with two slots that has registered and takes no turn by itself; the wall's clock stands, too."""
    listener = Listener("a-turn")
    life = _Life(WorkerLoop(Options(concurrency=2, poll_seconds=10.0)), listener)
    with freeze_time("2026-03-01 12:00:00"):
        assert life._register()
        life._poll()
        try:
            yield life
        finally:
            life._slots.in_flight = 0
            life._end(CLEAN)
            listener.close()


def _asleep(seconds: float) -> None:
    """A run whose sleep ends in so many seconds."""
    run = WorkflowRun.objects.create(workflow="nobody.knows", state=SLEEPING, ready=False)
    StepRecord.objects.create(run=run, seq=1, name="s", kind=Kind.SLEEP, state=RecordState.OPEN, started_at=now())
    Timer.objects.create(run=run, step="s", kind=Kind.SLEEP, due_at=now() + timedelta(seconds=seconds))


def test_a_timer_that_somebody_else_has_fired_delays_no_other(life: _Life) -> None:
    """Nothing is due any more: that is no sign of a lock, for which a turn would wait."""
    _asleep(0.02)
    life._next_due = now()
    assert life._fire() == 0
    assert life._pause() == pytest.approx(0.02)


def test_a_turn_that_fires_knows_when_to_come_back(life: _Life) -> None:
    """The statement that fires tells when the next timer is due; runs are ready then."""
    _asleep(0)
    _asleep(0.3)
    life._look()
    life._more_ready = False
    assert life._fire() == 1
    assert life._more_ready
    assert life._pause() == pytest.approx(0.3)


def test_without_a_free_slot_what_is_due_is_fired_now_and_then(life: _Life, clock: _Clock) -> None:
    """Others may have slots. Many timers at once cost little; each by itself would cost this worker's runs time."""
    life._slots.in_flight = 3
    _asleep(0)
    life._look()
    assert life._fire() == 1
    _asleep(0)
    life._look()
    clock.now += 0.015
    assert life._fire() == 0
    assert life._pause() == pytest.approx(0.005)
    clock.now += 0.006
    assert life._fire() == 1


def test_a_slot_that_is_freed_has_what_is_due_fired_at_once(life: _Life) -> None:
    """A turn that did not fire for want of a slot is woken by the next free one, and fires."""
    life._slots.in_flight = 3
    _asleep(0)
    life._look()
    life._fire()
    _asleep(0)
    life._look()
    assert life._fire() == 0
    life._slots.in_flight = 2
    life._slot_freed()
    assert life._listener.wait(0) == {"free"}
    life._slots.in_flight = 1
    assert life._fire() == 1


def test_a_worker_that_has_enough_is_not_woken_for_every_end(life: _Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once none of its runs waits for a slot, it claims many ahead at once."""
    monkeypatch.setattr(life._rate, "of", lambda *_: 1000.0)
    life._more_ready = True
    rooms = []
    for in_flight in (4, 3, 2, 0):
        life._slots.in_flight = in_flight
        rooms.append(life._room())
    assert rooms == [0, 0, 2, 4]
    life._slots.in_flight = 3
    life._slot_freed()
    assert life._listener.wait(0) == set()
    life._slots.in_flight = 2
    life._slot_freed()
    assert life._listener.wait(0) == {"free"}
