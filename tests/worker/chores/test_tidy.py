"""Old rows are deleted a batch at a time, as fast as they are written."""

from __future__ import annotations

from datetime import timedelta

import pytest

from canx_flow import conf
from canx_flow.core.clock import now
from canx_flow.models import Event
from canx_flow.store import broadcasts
from canx_flow.worker.agenda import NEVER, Agenda
from canx_flow.worker.chores.tidy import Tidy
from tests.worker.lives import StandingClock

pytestmark = pytest.mark.django_db


def test_old_broadcasts_are_deleted_in_batches(clock: StandingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two of them other work has its turn; events of single runs, young ones and those not delivered stay."""
    monkeypatch.setattr(broadcasts, "MOST_FORGOTTEN", 4)
    old = now() - timedelta(days=conf.get().event_days + 1)
    run_id = "00000000-0000-7000-8000-000000000001"
    for number in range(5):
        Event.objects.create(name="old", delivered=True, created_at=old)
        Event.objects.create(name=f"kept {number}", run_id=run_id, delivered=True, created_at=old)
    Event.objects.create(name="undelivered", created_at=old)
    Event.objects.create(name="young", delivered=True)
    agenda = Agenda(10.0, clock)
    tidy = Tidy("default", agenda)
    tidy.run_once(clock.now)
    assert Event.objects.filter(name="old").count() == 3
    left = []
    while agenda.tidies_at < NEVER:
        assert agenda.tidies_at == pytest.approx(clock.now + 0.1)
        clock.now = agenda.tidies_at
        tidy.go_on(clock.now)
        left.append(Event.objects.filter(name="old").count())
    assert left == [1, 0]
    assert Event.objects.filter(name__startswith="kept").count() == 5
    assert Event.objects.filter(name__in=["undelivered", "young"]).count() == 2


def test_what_a_round_has_passed_by_is_not_read_again(clock: StandingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of single runs stay as long as these: there may be ten millions before the next old broadcast."""
    monkeypatch.setattr(broadcasts, "MOST_FORGOTTEN", 4)
    old = now() - timedelta(days=conf.get().event_days + 1)
    run_id = "00000000-0000-7000-8000-000000000001"
    for number in range(12):
        Event.objects.create(name=f"kept {number}", run_id=run_id, delivered=True, created_at=old)
    agenda = Agenda(10.0, clock)
    tidy = Tidy("default", agenda)
    assert _batches(tidy, agenda, clock) == 4
    Event.objects.create(name="old", delivered=True, created_at=old)
    clock.now += 600
    assert _batches(tidy, agenda, clock) == 1
    assert not Event.objects.filter(name="old").exists()


def _batches(tidy: Tidy, agenda: Agenda, clock: StandingClock) -> int:
    """Take a round; return of how many batches it was."""
    tidy.run_once(clock.now)
    batches = 1
    while agenda.tidies_at < NEVER:
        clock.now = agenda.tidies_at
        tidy.go_on(clock.now)
        batches += 1
    return batches
