"""Broadcasts are fanned out by statements for many, each by one worker, and no wait is missed."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import OperationalError, ProgrammingError, connection
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow.core.clock import now
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.states import COMPLETED, PENDING, WAITING, Kind
from canx_flow.store import broadcasts, listening
from canx_flow.store.db.patience import idle_patience
from canx_flow.store.events import send
from canx_flow.worker.agenda import NEVER, Agenda
from canx_flow.worker.chores.broadcast import FanOut
from canx_flow.worker.chores.deliver import Deliver
from canx_flow.worker.resting import REST
from tests.store.locking import locked_runs, open_transaction
from tests.worker.lives import StandingClock

pytestmark = pytest.mark.django_db(transaction=True)

START = "2026-03-01 12:00:00"


@pytest.fixture
def fan_out(clock: StandingClock) -> FanOut:
    """One worker's."""
    return FanOut("default", clock)


def waits(event: str = "news", key: str | None = None, runs: int = 1) -> list[UUID]:
    """Runs that wait for this event."""
    made = [WorkflowRun(workflow="nobody.knows", state=WAITING, ready=False) for _ in range(runs)]
    WorkflowRun.objects.bulk_create(made)
    Timer.objects.bulk_create(Timer(run=run, step="read", kind=Kind.WAIT, event=event, key=key) for run in made)
    return [run.id for run in made]


def steps(fan_out: FanOut, clock: StandingClock) -> list[int]:
    """Expect new broadcasts, and step until there is nothing to do but to wait; how many runs each step woke."""
    fan_out.expect()
    woken = []
    while fan_out.due_at() <= clock.now or fan_out.is_busy:
        clock.now = max(clock.now, fan_out.due_at())
        woken.append(fan_out.step(clock.now))
    return woken


def states(run_ids: list[UUID]) -> set[str]:
    """The states in which these runs are."""
    return set(WorkflowRun.objects.filter(id__in=run_ids).values_list("state", flat=True))


def test_a_look_whose_broadcasts_are_gone_is_over(fan_out: FanOut, clock: StandingClock) -> None:
    """Deleted, or delivered by another worker: the worker does not come back to them turn after turn."""
    send("default", "news", "1")
    steps(fan_out, clock)
    Event.objects.all().delete()
    for _ in range(10):
        clock.now = min(fan_out.due_at(), clock.now + 1000)
        fan_out.step(clock.now)
    assert fan_out.due_at() == NEVER


def test_a_thousand_that_nobody_waits_for_are_few_statements(fan_out: FanOut, clock: StandingClock) -> None:
    """They are taken and looked at five hundred at a time, whatever else runs wait for."""
    waits("gossip", runs=3)
    Event.objects.bulk_create(Event(name="news", key=str(number)) for number in range(1000))
    with CaptureQueriesContext(connection) as queries:
        assert steps(fan_out, clock) == [0, 0, 0]
    assert len(queries) <= 20
    assert not Event.objects.filter(seen_at=None).exists()


def test_many_that_are_waited_for_wake_their_runs_in_batches(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step wakes no more than one batch, so that a worker claims in between; no statement is for one run alone."""
    monkeypatch.setattr("canx_flow.worker.chores.broadcast.MOST_WOKEN", 20)
    run_ids = [run_id for number in range(50) for run_id in waits(key=str(number))]
    Event.objects.bulk_create(Event(name="news", key=str(number)) for number in range(50))
    with CaptureQueriesContext(connection) as queries:
        assert steps(fan_out, clock) == [20, 20, 10]
    assert len(queries) <= 45
    assert states(run_ids) == {PENDING}


def test_a_great_many_runs_keep_no_other_broadcast_waiting(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent while one wakes thousands is taken between two batches."""
    monkeypatch.setattr("canx_flow.worker.chores.broadcast.MOST_WOKEN", 2)
    waits(runs=9)
    other = waits("other")
    send("default", "news", "1")
    fan_out.expect()
    assert fan_out.step(clock.now) == 2
    send("default", "other", "1")
    fan_out.expect()
    clock.now += 0.05
    assert fan_out.step(clock.now) == 1
    assert states(other) == {PENDING}
    assert sum(steps(fan_out, clock)) == 7


def test_with_and_without_a_key(fan_out: FanOut, clock: StandingClock) -> None:
    """Each reaches exactly the waits that say the same."""
    keyed, unkeyed, other = waits(key="k"), waits(), waits(key="x")
    send("default", "news", "1", key="k")
    assert steps(fan_out, clock) == [1]
    assert (states(keyed), states(unkeyed), states(other)) == ({PENDING}, {WAITING}, {WAITING})
    send("default", "news", "1")
    assert steps(fan_out, clock) == [1]
    assert (states(unkeyed), states(other)) == ({PENDING}, {WAITING})


def test_a_run_is_woken_for_what_it_has_not_read(fan_out: FanOut, clock: StandingClock) -> None:
    """Of two broadcasts of one name it has read the younger one: the older one is still news; with both read, none."""
    (one,), (both,) = waits(), waits()
    for number in range(2):
        send("default", "news", str(number))
    older, younger = Event.objects.order_by("id").values_list("id", flat=True)
    for run_id, read in ((one, [younger]), (both, [older, younger])):
        for seq, event_id in enumerate(read):
            StepRecord.objects.create(
                run_id=run_id,
                seq=seq,
                name=str(seq),
                kind=Kind.WAIT,
                state=COMPLETED,
                event_id=event_id,
                started_at=now(),
            )
    assert steps(fan_out, clock) == [1]
    assert (states([one]), states([both])) == ({PENDING}, {WAITING})


def test_one_worker_takes_what_another_one_has_not(fan_out: FanOut, clock: StandingClock) -> None:
    """Delivered once: what a worker has taken, no other one looks at."""
    waits()
    send("default", "news", "1")
    with CaptureQueriesContext(connection):
        assert steps(fan_out, clock) == [1]
    other = FanOut("default", clock)
    with CaptureQueriesContext(connection) as queries:
        assert steps(other, clock) == [0]
    assert len(queries) <= 3  # with BEGIN and COMMIT


def test_a_worker_that_dies_as_it_takes_them_has_taken_nothing(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking and waking are one transaction: the next worker finds them as they were."""
    run_ids = waits()
    send("default", "news", "1")

    def die(*_: object) -> None:
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(broadcasts, "wake", die)
        with pytest.raises(OperationalError):
            steps(fan_out, clock)
    assert Event.objects.filter(seen_at=None).count() == 1
    assert steps(FanOut("default", clock), clock) == [1]
    assert states(run_ids) == {PENDING}


def test_what_a_dead_worker_has_taken_is_taken_anew(clock: StandingClock, tier: str) -> None:
    """Once it is older than any that a live worker still delivers."""
    with freeze_time(START) as frozen:
        Event.objects.create(name="news", seen_at=now())
        run_ids = waits()
        agenda = Agenda(10.0, clock)
        deliver = Deliver("default", agenda)
        deliver.sweep(clock.now)
        assert agenda.delivers_at == NEVER
        seconds = 2 * idle_patience() + 1
        clock.now += seconds
        Event.objects.update(created_at=now() + timedelta(seconds=seconds))
        frozen.tick(seconds)
        deliver.sweep(clock.now)
        assert agenda.delivers_at <= clock.now
        assert deliver.run_once(clock.now) == 1
    assert states(run_ids) == {PENDING}


def test_a_worker_that_leaves_lets_go_of_what_it_has_begun(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one wakes the rest."""
    monkeypatch.setattr("canx_flow.worker.chores.broadcast.MOST_WOKEN", 2)
    run_ids = waits(runs=5)
    send("default", "news", "1")
    fan_out.expect()
    assert fan_out.step(clock.now) == 2
    fan_out.let_go()
    assert not fan_out.is_busy
    assert sum(steps(FanOut("default", clock), clock)) == 3
    assert states(run_ids) == {PENDING}


def test_a_worker_that_leaves_lets_go_of_what_it_has_looked_at_once(
    fan_out: FanOut, clock: StandingClock, tier: str
) -> None:
    """A wait that was being opened then is found by another worker, now and not in a minute."""
    if tier == "sqlite":
        pytest.skip("the first look is the last")
    send("default", "older", "1")
    steps(fan_out, clock)
    clock.now = fan_out.due_at()
    fan_out.step(clock.now)
    opened: list[UUID] = []
    with open_transaction(lambda: opened.extend(waits())):
        send("default", "news", "1")
        Event.objects.update(created_at=now() + timedelta(seconds=60))
        steps(fan_out, clock)
    fan_out.let_go()
    assert set(Event.objects.filter(seen_at=None).values_list("name", flat=True)) == {"news"}
    assert sum(steps(FanOut("default", clock), clock)) == 1
    assert states(opened) == {PENDING}


def test_what_cannot_be_taken_is_left_alone_for_a_while(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that takes too long does so in each turn; runs are claimed in between, and it is tried again."""
    run_ids = waits()
    send("default", "news", "1")
    fan_out.expect()
    with monkeypatch.context() as patch:
        patch.setattr(listening, "waiting", _refuse)
        with pytest.raises(ProgrammingError):
            fan_out.step(clock.now)
    assert fan_out.due_at() == clock.now + REST
    assert fan_out.step(clock.now) == 0
    assert sum(steps(fan_out, clock)) == 1
    assert states(run_ids) == {PENDING}


def test_a_look_that_fails_keeps_no_other_waiting(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on later, from where it was; what is sent meanwhile is delivered."""
    monkeypatch.setattr("canx_flow.worker.chores.broadcast.MOST_WOKEN", 2)
    run_ids, other = waits(runs=5), waits("other")
    send("default", "news", "1")
    fan_out.expect()
    assert fan_out.step(clock.now) == 2
    clock.now += 0.05
    with monkeypatch.context() as patch:
        patch.setattr(broadcasts, "wake", _refuse)
        with pytest.raises(ProgrammingError):
            fan_out.step(clock.now)
    failed_at = clock.now
    send("default", "other", "1")
    fan_out.expect()
    assert fan_out.step(clock.now) == 1
    assert states(other) == {PENDING}
    clock.now += 0.05
    assert fan_out.step(clock.now) == 0
    clock.now = failed_at + REST
    assert sum(fan_out.step(clock.now) for _ in range(4)) == 3
    assert states(run_ids) == {PENDING}


@pytest.mark.parametrize("function", ["read", "delivered"])
def test_a_later_look_that_fails_is_taken_again(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch, tier: str, function: str
) -> None:
    """Where it cannot read its broadcasts, or not mark them as delivered: none is forgotten."""
    if tier == "sqlite":
        pytest.skip("the first look is the last")
    send("default", "news", "1")
    steps(fan_out, clock)
    clock.now = fan_out.due_at()
    steps(fan_out, clock)
    with monkeypatch.context() as patch:
        patch.setattr(broadcasts, function, _refuse)
        clock.now = fan_out.due_at()
        with pytest.raises(ProgrammingError):
            fan_out.step(clock.now)
        assert fan_out.due_at() == clock.now + REST
    clock.now += REST
    fan_out.step(clock.now)
    assert Event.objects.get().delivered


def _refuse(*_: object) -> None:
    raise ProgrammingError("permission denied")


@pytest.mark.parametrize("key", [None, "k"])
def test_more_waits_than_are_read_together_are_read_in_pages(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """Each by a statement that reads no more than that, and wakes its runs before the next; all are woken."""
    monkeypatch.setattr(listening, "MOST_READ", 3)
    few, many, late = waits("few", key), waits(key=key, runs=7), waits(key=key, runs=4)
    waits("other", key)
    WorkflowRun.objects.filter(id__in=late).update(created_at=now() + timedelta(hours=1))
    Event.objects.bulk_create(Event(name=name, key=key) for name in ("none", "few", "news"))
    with CaptureQueriesContext(connection) as queries:
        assert sum(woken := steps(fan_out, clock)) == 8
    assert states(few + many) == {PENDING}
    assert states(late) == {WAITING}
    assert max(woken) == 3
    read = [query["sql"] for query in queries if "wait.run_id" in query["sql"]]
    assert all("LIMIT" in statement for statement in read)


def test_a_run_that_is_locked_is_woken_when_it_is_free(fan_out: FanOut, clock: StandingClock, tier: str) -> None:
    """It keeps no other waiting, and is tried again soon."""
    if tier == "sqlite":
        pytest.skip("there is one lock for all")
    (locked,), others = waits(), waits(runs=3)
    send("default", "news", "1")
    with locked_runs([locked]):
        fan_out.expect()
        assert fan_out.step(clock.now) == 3
        assert states(others) == {PENDING}
        assert fan_out.due_at() == pytest.approx(clock.now + 0.05)
        clock.now += 0.05
        assert fan_out.step(clock.now) == 0
    clock.now += 0.05
    assert fan_out.step(clock.now) == 1


def test_a_wait_that_was_being_opened_at_the_first_look_is_found_by_the_next(
    fan_out: FanOut, clock: StandingClock, tier: str
) -> None:
    """Its transaction has not seen the event, nor the look its timer."""
    if tier == "sqlite":
        pytest.skip("one transaction at a time writes")
    opened: list[UUID] = []
    with open_transaction(lambda: opened.extend(waits())):
        send("default", "news", "1")
        Event.objects.update(created_at=now() + timedelta(seconds=60))
        assert steps(fan_out, clock) == [0]
    assert states(opened) == {WAITING}
    assert clock.now + 1.0 <= fan_out.due_at() <= clock.now + 1.5
    clock.now = fan_out.due_at()
    assert fan_out.step(clock.now) == 1
    assert states(opened) == {PENDING}


def test_the_last_look_is_when_every_transaction_has_ended(fan_out: FanOut, clock: StandingClock, tier: str) -> None:
    """Until then a broadcast is not delivered; where one transaction at a time writes, the first look is the last."""
    send("default", "news", "1")
    began = clock.now
    assert steps(fan_out, clock) == [0]
    assert Event.objects.get().delivered is (tier == "sqlite")
    if tier == "sqlite":
        assert fan_out.due_at() == NEVER
        return
    clock.now = fan_out.due_at()
    fan_out.step(clock.now)
    assert not Event.objects.get().delivered
    assert fan_out.due_at() >= began + idle_patience()
    late = waits()
    Event.objects.update(created_at=now() + timedelta(seconds=60))
    clock.now = fan_out.due_at()
    assert fan_out.step(clock.now) == 1
    assert Event.objects.get().delivered
    assert fan_out.due_at() == NEVER
    assert states(late) == {PENDING}


def test_an_event_that_is_committed_late_with_a_lower_id_is_delivered(
    fan_out: FanOut, clock: StandingClock, tier: str
) -> None:
    """Ids do not commit in order: what is behind is not passed over."""
    if tier == "sqlite":
        pytest.skip("one transaction at a time writes")
    late, early = waits("late"), waits("early")
    with open_transaction(lambda: send("default", "late", "1")):
        send("default", "early", "1")
        assert steps(fan_out, clock) == [1]
        assert states(early) == {PENDING}
    assert Event.objects.get(name="late").id < Event.objects.get(name="early").id
    assert steps(fan_out, clock) == [1]
    assert states(late) == {PENDING}


def test_broadcasts_have_a_tenth_of_a_workers_time(
    fan_out: FanOut, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one after a quiet while is taken at once, the next ones after nine times as long as that took."""

    def take(alias: str) -> list[listening.Broadcast]:
        clock.now += 0.002
        return []

    monkeypatch.setattr(broadcasts, "take", take)
    fan_out.expect()
    assert fan_out.due_at() <= clock.now
    fan_out.step(clock.now)
    fan_out.expect()
    assert fan_out.due_at() == pytest.approx(clock.now + 0.018)


def test_a_worker_takes_them_in_a_rhythm_however_often_it_is_told(clock: StandingClock) -> None:
    """Of a thousand a second it hears a thousand times, and does nothing but look at its clock."""
    deliver = Deliver("default", agenda := Agenda(10.0, clock))
    send("default", "news", "1")
    deliver.expect(clock.now, directed=False)
    deliver.run_once(clock.now)
    deliver._fan_out._takes_at = clock.now + 0.05
    with CaptureQueriesContext(connection) as queries:
        for _ in range(10):
            deliver.expect(clock.now, directed=False)
            assert agenda.delivers_at == clock.now + 0.05
    assert len(queries) == 0
