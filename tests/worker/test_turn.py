"""A worker's turn: which timers it fires when, what it claims, how long it pauses then, and what it survives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import NotSupportedError, OperationalError, ProgrammingError, connections
from freezegun import freeze_time

from canx_flow import conf, signals
from canx_flow.core.changes import Change, ClaimedRun, Wait
from canx_flow.core.clock import now
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.observe import facts
from canx_flow.replay import reports
from canx_flow.states import RUNNING, SLEEPING, Kind, RecordState
from canx_flow.store import claims, timers
from canx_flow.store.db import engine, sqlite
from canx_flow.worker.exitcodes import CLEAN
from canx_flow.worker.life import Life
from canx_flow.worker.loop import WorkerLoop
from canx_flow.worker.options import Options
from canx_flow.worker.slots import Slots
from canx_flow.worker.turn import Turn
from canx_flow.worker.wakeup import Listener
from tests.waiting import wait_until
from tests.workflows import two_steps

pytestmark = pytest.mark.django_db(transaction=True)


class _Clock:
    """The worker's own clock: it stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    """The worker asks this one."""
    return _Clock()


@pytest.fixture
def life(clock: _Clock) -> Iterator[Life]:
    """A worker with two slots that has registered and takes no turn by itself; the wall's clock stands, too."""
    listener = Listener("a-turn")
    loop = WorkerLoop(Options(concurrency=2, poll_seconds=10.0), clock)
    with freeze_time("2026-03-01 12:00:00"), engine.use_engine_connection("default"):
        life = loop.begin(listener)
        assert life is not None
        life.parts.start()
        wait_until(life.parts.vitals.connected)
        told: set[str] = set()
        wait_until(lambda: told.update(listener.wait(0)) or told >= {"fresh", "ready"})
        life.parts.turn._poll(clock.now)
        try:
            yield life
        finally:
            life.parts.slots.in_flight = 0
            life._end(CLEAN)
            listener.close()


@pytest.fixture
def turn(life: Life) -> Turn:
    """Its turn."""
    return life.parts.turn


@pytest.fixture
def slots(life: Life) -> Slots:
    """Its slots."""
    return life.parts.slots


def _asleep(seconds: float, workflow: str = "nobody.knows") -> UUID:
    """A run whose sleep ends in so many seconds."""
    run = WorkflowRun.objects.create(workflow=workflow, state=SLEEPING, ready=False)
    StepRecord.objects.create(run=run, seq=1, name="s", kind=Kind.SLEEP, state=RecordState.OPEN, started_at=now())
    Timer.objects.create(run=run, step="s", kind=Kind.SLEEP, due_at=now() + timedelta(seconds=seconds))
    return run.id


def _fired(turn: Turn) -> int:
    """Fire as a turn does; return how many timers that was."""
    return turn._fire(one_batch=False) if turn._may_fire() else 0


def _pause(turn: Turn) -> float:
    """Return how long a turn would pause that leaves no ready run behind."""
    return turn._agenda.pause(full=turn._capacity.is_full())


def test_a_timer_that_somebody_else_has_fired_delays_no_other(turn: Turn) -> None:
    """Nothing is due any more: that is no sign of a lock, for which a turn would wait."""
    _asleep(0.02)
    turn._agenda.timer.learn(now())
    assert _fired(turn) == 0
    assert _pause(turn) == pytest.approx(0.02)


def test_a_turn_that_fires_knows_when_to_come_back(turn: Turn) -> None:
    """The statement that fires tells when the next timer is due; runs are ready then."""
    _asleep(0)
    _asleep(0.3)
    turn._ask()
    turn._agenda.runs_may_be_ready = False
    assert _fired(turn) == 1
    assert turn._agenda.runs_may_be_ready
    assert _pause(turn) == pytest.approx(0.3)


def test_without_a_free_slot_what_is_due_is_fired_now_and_then(turn: Turn, slots: Slots, clock: _Clock) -> None:
    """Others may have slots. Many timers at once cost little; each by itself would cost this worker's runs time."""
    slots.in_flight = 3
    _asleep(0)
    turn._ask()
    assert _fired(turn) == 1
    _asleep(0)
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
    run_id = _asleep(0, two_steps.name)
    turn._ask()
    turn.take(())
    assert started == [(run_id, False, RUNNING)]


def test_where_everybody_waits_for_one_lock_it_is_held_for_one_batch(
    turn: Turn, monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    """What is left then is due at once, and others may write in between."""
    monkeypatch.setattr(timers, "MOST", 2)
    for _ in range(3):
        _asleep(0)
    turn._ask()
    assert turn._fire_and_claim() == (2 if tier == "sqlite" else 3)
    assert turn._agenda.timer.is_due() is (tier == "sqlite")
    if tier == "sqlite":
        assert turn._fire_and_claim() == 1
    assert not turn._agenda.timer.is_due()


@pytest.mark.parametrize("committed", [True, False])
def test_a_claim_whose_commit_is_unclear_is_given_back(
    turn: Turn, slots: Slots, monkeypatch: pytest.MonkeyPatch, tier: str, committed: bool
) -> None:
    """The answer never came: the next turn looks what this worker owns and does not know, and claims it anew."""
    if tier == "postgresql":
        pytest.skip("a claim is one statement there, which commits itself: no COMMIT is sent")
    run_id = _asleep(0, two_steps.name)
    turn._ask()
    connection = connections["default"]
    commit, commits = connection.commit, []

    def unclear() -> None:
        commits.append(1)
        if len(commits) < (1 if tier == "sqlite" else 2):  # MySQL fires in a transaction of its own before.
            commit()
            return
        monkeypatch.setattr(connection, "commit", commit)
        if committed:
            commit()
        raise OperationalError("the server has gone away")

    started: list[UUID] = []
    monkeypatch.setattr(slots, "start", lambda run: started.append(run.id))
    monkeypatch.setattr(connection, "commit", unclear)
    with pytest.raises(OperationalError):
        turn.take(())
    assert not started
    turn.ask_anew()
    turn.take(())
    turn.take(())
    assert started == [run_id]


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
    woken = _asleep(0, two_steps.name)
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


def test_a_slot_that_is_freed_has_what_is_due_fired_at_once(turn: Turn, slots: Slots, life: Life) -> None:
    """A turn that did not fire for want of a slot is woken by the next free one, and fires."""
    slots.in_flight = 3
    _asleep(0)
    turn._ask()
    _fired(turn)
    _asleep(0)
    turn._ask()
    assert _fired(turn) == 0
    slots.in_flight = 2
    life.parts._slot_freed()
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
    life.parts._slot_freed()
    assert life._listener.wait(0) == set()
    slots.in_flight = 2
    life.parts._slot_freed()
    assert life._listener.wait(0) == {"free"}


@pytest.mark.parametrize(
    "error",
    [ProgrammingError("permission denied"), NotSupportedError("cached plan"), TypeError("a wrapped driver")],
    ids=["privilege", "schema", "defect"],
)
def test_a_turn_that_fails_ends_no_worker(
    life: Life, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Whatever it is: it is told once a minute, by name, and the worker goes on when it has passed."""
    turns: list[int] = []

    def take(_told: object) -> float | None:
        turns.append(1)
        if len(turns) <= 3:
            raise error
        return None

    monkeypatch.setattr(life.parts.turn, "take", take)
    monkeypatch.setattr(life._listener, "wait", lambda _pause: set())
    assert life._work() == CLEAN
    lines = [record.getMessage() for record in caplog.records if "turn of this worker" in record.getMessage()]
    assert len(lines) == 1
    assert type(error).__name__ in lines[0]


def test_a_serialization_failure_is_repeated_and_not_told_as_an_outage(
    life: Life, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is frightened by what the next turn mends."""
    turns: list[int] = []

    class _SerializationError(Exception):
        sqlstate = "40001"

    def take(_told: object) -> float | None:
        turns.append(1)
        if len(turns) <= 3:
            raise OperationalError("could not serialize access") from _SerializationError()
        return None

    monkeypatch.setattr(life.parts.turn, "take", take)
    monkeypatch.setattr(life._listener, "wait", lambda _pause: set())
    assert life._work() == CLEAN
    assert not caplog.records


def test_a_run_that_is_owned_and_not_known_is_given_back_within_a_lease(
    turn: Turn, slots: Slots, life: Life, clock: _Clock
) -> None:
    """Whatever the way there; and one that is known is left alone, though it looks the same to the database."""
    known, unknown = (
        WorkflowRun.objects.create(
            workflow="nobody.knows", state=RUNNING, ready=False, owner_id=life.parts.owner, epoch=1
        )
        for _ in range(2)
    )
    slots._claimed.add((known.id, 1))
    turn._poll(clock.now)
    assert WorkflowRun.objects.filter(owner_id=life.parts.owner).count() == 2, "not at each poll"
    clock.now += conf.get().lease_seconds
    turn._poll(clock.now)
    assert list(WorkflowRun.objects.filter(owner_id=life.parts.owner)) == [known]
    unknown.refresh_from_db()
    assert (unknown.state, unknown.recoveries, unknown.epoch) == ("pending", 0, 2)
    slots._claimed.clear()


def test_nothing_is_claimed_before_the_engine_has_its_connections(
    turn: Turn, slots: Slots, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots would take what the database has left, and then wait for a committer that cannot connect."""
    writer = life.parts.committer._writer
    assure = writer.assure
    monkeypatch.setattr(writer, "assure", lambda: False)
    life.parts.committer.doubt()
    _asleep(0, two_steps.name)
    turn._ask()
    turn.take(())
    assert (turn._capacity.room(), slots.in_flight) == (0, 0)
    monkeypatch.setattr(writer, "assure", assure)
    wait_until(life.parts.vitals.connected)
    assert turn._capacity.room() > 0


def test_what_waits_for_an_outage_is_woken_when_the_database_is_back(turn: Turn, life: Life) -> None:
    """Its time may be a minute away: the first answer on any of the worker's connections ends that."""
    waits = {}
    for kind in (Kind.OUTAGE, Kind.RETRY):
        run = WorkflowRun.objects.create(workflow="nobody.knows", state="retrying", ready=False)
        waits[kind] = Timer.objects.create(run=run, step="", kind=kind, due_at=now() + timedelta(minutes=1))
        opened = Wait("", kind, waits[kind].due_at)
        life.parts._timer_opened(Change(run.id, 1, opens=[opened]))
    turn.hasten()
    assert not Timer.objects.filter(due_at__lte=now()).exists()
    life._outages.end("main thread")
    turn.hasten()
    assert list(Timer.objects.filter(due_at__lte=now())) == [waits[Kind.OUTAGE]]
    assert turn._agenda.timer.is_due()


def test_turns_that_fail_for_a_lease_though_the_database_answers_end_the_worker(life: Life, clock: _Clock) -> None:
    """As where something has wrapped the driver: another process may do better, and the runs are handed back."""
    life._survive(TypeError("this cursor takes no such argument"))
    assert life._reason_to_end() is None
    clock.now += conf.get().lease_seconds + 1
    assert life._reason_to_end() == facts.TurnsKeepFailing()
    life._survive(OperationalError("away"))
    assert life._reason_to_end() is None
