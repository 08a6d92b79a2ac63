"""A worker's turn: which timers it fires when, what it claims, and how long it pauses then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connections

from canx_flow.core.changes import Awaited, Change, Outcome, Settle
from canx_flow.core.claimed import ClaimedRun
from canx_flow.core.clock import now
from canx_flow.models import WorkflowRun
from canx_flow.states import RUNNING
from canx_flow.store import telling, timers
from canx_flow.store.telling import Message
from canx_flow.worker.capacity import Claimed
from canx_flow.worker.life import Life
from canx_flow.worker.slots import Slots
from canx_flow.worker.turn import Turn
from tests.waiting import wait_until
from tests.worker.lives import StandingClock, asleep
from tests.workflows import two_steps

pytestmark = pytest.mark.django_db(transaction=True)


def _fired(turn: Turn) -> int:
    """Fire as a turn does; return how many timers that was."""
    return turn._fire(one_batch=False) if turn._may_fire() else 0


def _pause(turn: Turn) -> float:
    """Return how long a turn would pause that leaves no ready run behind."""
    return turn._agenda.pause(full=turn._capacity.is_full())


def test_a_timer_that_somebody_else_has_fired_delays_no_other(turn: Turn) -> None:
    """Nothing is due any more: that is no sign of a lock, for which a turn would wait."""
    asleep(0.02)
    turn._agenda.timer.learn(now())
    assert _fired(turn) == 0
    assert _pause(turn) == pytest.approx(0.02)


def test_a_turn_that_fires_knows_when_to_come_back(turn: Turn) -> None:
    """The statement that fires tells when the next timer is due; runs are ready then."""
    asleep(0)
    asleep(0.3)
    turn._ask()
    turn._agenda.runs_may_be_ready = False
    assert _fired(turn) == 1
    assert turn._agenda.runs_may_be_ready
    assert _pause(turn) == pytest.approx(0.3)


def test_without_a_free_slot_what_is_due_is_fired_now_and_then(turn: Turn, slots: Slots, clock: StandingClock) -> None:
    """Others may have slots. Many timers at once cost little; each by itself would cost this worker's runs time."""
    slots.in_flight = 3
    asleep(0)
    turn._ask()
    assert _fired(turn) == 1
    asleep(0)
    turn._ask()
    clock.now += 0.015
    assert _fired(turn) == 0
    assert _pause(turn) == pytest.approx(0.005)
    clock.now += 0.006
    assert _fired(turn) == 1


def test_a_run_that_is_woken_is_started_in_the_same_turn(
    turn: Turn, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once that is committed: no step may run before."""
    started: list[tuple[UUID, bool, str]] = []

    def start(run: ClaimedRun) -> None:
        started.append((run.id, connections["default"].in_atomic_block, WorkflowRun.objects.get(id=run.id).state))

    monkeypatch.setattr(slots, "start", start)
    run_id = asleep(0, two_steps.name)
    turn._ask()
    turn.take(())
    assert started == [(run_id, False, RUNNING)]


def test_where_everybody_waits_for_one_lock_it_is_held_for_one_batch(
    turn: Turn, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    """What is left then is due at once, and others may write in between."""
    monkeypatch.setattr(timers, "MOST", 2)
    for _ in range(3):
        asleep(0)
    turn._ask()
    assert turn._fire_and_claim() == (2 if tier == "sqlite" else 3)
    assert turn._agenda.timer.is_due() is (tier == "sqlite")
    if tier == "sqlite":
        assert turn._fire_and_claim() == 1
    assert not turn._agenda.timer.is_due()


def test_a_slot_that_is_freed_has_what_is_due_fired_at_once(turn: Turn, slots: Slots, life: Life) -> None:
    """A turn that did not fire for want of a slot is woken by the next free one, and fires."""
    slots.in_flight = 3
    asleep(0)
    turn._ask()
    _fired(turn)
    asleep(0)
    turn._ask()
    assert _fired(turn) == 0
    slots.in_flight = 2
    life.parts._slot_freed("completed", "default")
    assert life._listener.wait(0) == {"free"}
    slots.in_flight = 1
    assert _fired(turn) == 1


def test_a_worker_that_has_enough_is_not_woken_for_every_end(
    turn: Turn, slots: Slots, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once none of its runs waits for a slot, it claims many ahead at once."""
    monkeypatch.setattr(turn._capacity._rate, "of", lambda *_: 1000.0)
    turn._agenda.runs_may_be_ready = True
    rooms = []
    for in_flight in (4, 3, 2, 0):
        slots.in_flight = in_flight
        rooms.append(turn._capacity.room())
    assert rooms == [0, 0, 2, 4]
    slots.in_flight = 3
    life.parts._slot_freed("completed", "default")
    assert life._listener.wait(0) == set()
    slots.in_flight = 2
    life.parts._slot_freed("completed", "default")
    assert life._listener.wait(0) == {"free"}


def test_a_slot_that_is_freed_during_a_claim_wakes_no_turn(
    turn: Turn, slots: Slots, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The turn that claims counts the free slots afterwards, and comes back at once if there may be more runs."""
    claimed = Claimed((), may_be_more=True)
    monkeypatch.setattr(turn._capacity._rate, "of", lambda *_: 1000.0)
    slots.in_flight = 2

    def claim(*_: object, **_how: object) -> Claimed:
        life.parts._slot_freed("completed", "default")
        return claimed

    monkeypatch.setattr(turn._capacity, "claim", claim)
    turn._agenda.poll.done(turn._agenda.now())
    turn._agenda.runs_may_be_ready = True
    assert turn.take(()) == 0.0
    assert life._listener.wait(0) == set()
    life.parts._slot_freed("completed", "default")
    assert life._listener.wait(0) == {"free"}


def test_nothing_is_claimed_before_the_engine_has_its_connections(
    turn: Turn, slots: Slots, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots would take what the database has left, and then wait for a committer that cannot connect."""
    writer = life.parts.committer._writer
    assure = writer.assure
    monkeypatch.setattr(writer, "assure", lambda: False)
    life.parts.committer.doubt()
    asleep(0, two_steps.name)
    turn._ask()
    turn.take(())
    assert (turn._capacity.room(), slots.in_flight) == (0, 0)
    monkeypatch.setattr(writer, "assure", assure)
    wait_until(life.parts.vitals.connected)
    assert turn._capacity.room() > 0


@pytest.mark.parametrize(
    ("awaited", "is_reason"),
    [(Awaited(), False), (Awaited(policies=True), False), (Awaited(policies=True, named=True), True)],
)
def test_the_end_of_a_run_that_had_its_name_alone_is_a_reason_to_look_for_timers(
    turn: Turn, awaited: Awaited, is_reason: bool
) -> None:
    """One that has waited for it is due then; the next timer of this worker's own is remembered all the same."""
    turn.take(())
    due = now() + timedelta(seconds=0.7)
    turn._agenda.timer.opened(due)
    change = Change(uuid4(), 1, settle=Settle("completed", awaited=awaited))
    reasons = list(turn.stored(change, Outcome(True, "completed")))
    # A worker that leaves by then tells another one, which tells none.
    assert [message.hops for message in telling.heard(reasons)] == [1] * is_reason
    assert bool(reasons) is is_reason
    asleep(0.7)
    turn.take(set(reasons))
    assert 0 < _pause(turn) <= 0.7


def test_a_timer_that_it_is_told_of_is_remembered_in_a_turn_that_polls(
    turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other may have been told of it: then it is not left to those whose turn it would be to fire it."""
    monkeypatch.setattr(turn._agenda, "learn_polled", lambda _due, which=None: (which or turn._agenda.timer).leave())
    turn.take(())
    asleep(0.7)
    turn._agenda.poll.at_once()
    turn.take({Message("timer").text()})
    assert 0 < _pause(turn) <= 0.7


@pytest.mark.parametrize(("reason", "claims"), [("told", 0), ("place", 0), ("tick", 0), ("woken", 1)])
def test_an_end_that_has_made_no_run_ready_costs_no_claim(
    turn: Turn, monkeypatch: pytest.MonkeyPatch, reason: str, claims: int
) -> None:
    """Branches that waited for a child go on in their slots, a place or a tick may be nobody's; who woke is claimed."""
    turn.take(())
    claimed: list[object] = []
    claim = turn._capacity.claim

    def noted(*arguments: Any, **options: Any) -> Claimed:
        claimed.append(arguments)
        return claim(*arguments, **options)

    monkeypatch.setattr(turn._capacity, "claim", noted)
    turn.take({reason})
    assert len(claimed) == claims
