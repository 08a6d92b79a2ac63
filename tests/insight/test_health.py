"""Whether runs get done, as `flowhealth` and a view may ask."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import Context, workflow
from canx_flow.core import clock, registry
from canx_flow.insight import health
from canx_flow.insight.health import Limits, examine
from canx_flow.models import Event, StepRecord, Timer, Worker, WorkflowRun
from canx_flow.states import Kind, RecordState
from canx_flow.store import claims, leases
from canx_flow.testing import advance

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOBODY = Limits(min_workers=0)


def seconds(number: float) -> timedelta:
    """So many."""
    return timedelta(seconds=number)


@workflow("health.nap")
def nap(ctx: Context) -> None:
    """Sleeps for a week."""
    ctx.sleep("week", timedelta(days=7))


def worker(**more: Any) -> Worker:
    """A live one whose last heartbeat is now."""
    row = leases.register(host="web-1", pid=1, name=more.pop("name", "blue"), queues=more.pop("queues", ()))
    Worker.objects.filter(id=row.id).update(**more)
    return row


def ready(age: float = 0, **more: Any) -> UUID:
    """A run that may be claimed, started so many seconds ago."""
    moment = clock.now() - seconds(age)
    return WorkflowRun.objects.create(workflow="health.nap", created_at=moment, **more).id


def look(**limits: Any) -> health.Health:
    """Once, without waiting to look again."""
    return examine(Limits(min_workers=0, **limits), confirm=False)


# -- workers -------------------------------------------------------------------------------------------


def test_without_a_worker_it_is_not_healthy() -> None:
    """One is wanted unless more are, or none."""
    assert examine().problems == ("no live worker, at least 1 wanted: start one with `manage.py runflowworker`",)
    worker()
    assert examine().healthy
    assert examine(Limits(min_workers=2)).problems == ("1 live worker, at least 2 wanted",)
    assert examine(NOBODY).healthy


def test_a_worker_lives_by_its_heartbeat() -> None:
    """It is silent once that is older than the lease, or than what is allowed; one that has left is not there."""
    with freeze_time(START) as frozen:
        row = worker()
        frozen.tick(2)
        assert [w.heartbeat_age for w in examine().live] == [2]
        frozen.tick(60)
        silent = examine()
        assert (len(silent.workers), silent.live, silent.healthy) == (1, (), False)
        assert examine(Limits(heartbeat_age=100)).healthy
        leases.say_goodbye(row.id)
        assert examine(NOBODY).workers == ()


def test_a_clock_that_is_ahead_is_no_reason_to_worry() -> None:
    """A heartbeat from the future is a young one."""
    worker(beat_at=clock.now() + seconds(3600))
    assert [w.heartbeat_age for w in examine().live] == [0]


def test_each_queue_wants_its_workers() -> None:
    """One that takes all queues serves each; one that takes others is not looked at."""
    worker(queues=["mail"], name="mailer")
    assert examine(Limits(queues=("mail",))).healthy
    option = "--queue default"
    assert examine(Limits(queues=("mail", "default"))).problems == (
        f"no live worker for queue 'default', at least 1 wanted: start one with `manage.py runflowworker {option}`",
    )
    worker()
    assert examine(Limits(queues=("mail", "default"))).healthy
    assert [w.name for w in examine(Limits(queues=("default",))).workers] == ["blue"]


# -- what is due ---------------------------------------------------------------------------------------


@freeze_time(START)
def test_the_oldest_run_that_is_due() -> None:
    """Its age counts; what runs, sleeps or has ended is not due."""
    assert (look().due, look().oldest) == (0, None)
    ready(1000, state="running", ready=False)
    old = ready(400, queue="q")
    ready(100)
    found = look()
    assert found.due == 2
    assert found.oldest == health.Due(old, "health.nap", "q", 400, 0, why="no live worker serves queue q")
    (problem,) = found.problems
    assert str(old) in problem
    assert "6 min 40 s" in problem
    assert look(max_age=500).healthy


@freeze_time(START)
def test_a_run_that_waits_to_run_alone_says_so() -> None:
    """It may be due for as long as a worker needs to become empty; a stopping one waits for nothing of that."""
    ready(400, recoveries=3)
    found = look()
    assert found.oldest is not None
    assert found.oldest.alone
    assert "no live worker serves queue default; cut off 3 times" in found.problems[0]
    assert found.oldest.alone
    WorkflowRun.objects.update(state="stopping", ending="cancelled")
    found = look()
    assert found.oldest is not None
    assert not found.oldest.alone


@freeze_time(START)
def test_only_the_queues_asked_for() -> None:
    """Another queue's backlog is somebody else's."""
    ready(400, queue="slow")
    assert look(queues=("default",)).healthy
    assert not look(queues=("default", "slow")).healthy
    assert look(queues=("default", "slow")).due == 1


@freeze_time(START)
def test_every_priority_is_looked_at() -> None:
    """A run that others always pass is found behind them."""
    for _ in range(30):
        ready(1, priority=10)
    starved = ready(400, priority=-10)
    oldest = look().oldest
    assert oldest is not None
    assert oldest.run_id == starved


@freeze_time(START)
@pytest.mark.parametrize("fact", ["control", "continued", "record", "begun", "event", "younger claimed"])
def test_a_run_that_was_woken_is_not_old(fact: str) -> None:
    """It is due since the last thing known of it, however long ago it was started."""
    run_id, just_now = ready(86400), clock.now() - seconds(5)
    match fact:
        case "control":
            WorkflowRun.objects.filter(id=run_id).update(control_at=just_now)
        case "continued":
            WorkflowRun.objects.filter(id=run_id).update(continued_at=just_now)
        case "record":
            record = {"kind": Kind.SLEEP, "state": RecordState.COMPLETED, "started_at": clock.now() - seconds(80000)}
            StepRecord.objects.create(run_id=run_id, seq=1, name="nap", finished_at=just_now, **record)
        case "begun":
            record = {"kind": Kind.STEP, "state": RecordState.DUE, "started_at": just_now}
            StepRecord.objects.create(run_id=run_id, seq=1, name="flaky", **record)
        case "event":
            Event.objects.create(run_id=run_id, name="paid", created_at=just_now)
        case _:
            # A later run of the queue was claimed then: this one would have been first, had it been ready.
            ready(10, state="running", ready=False, owner_id=uuid4(), started_at=just_now)
    oldest = look().oldest
    assert oldest is not None
    assert (oldest.run_id, oldest.age) == (run_id, 5)


@freeze_time(START)
def test_what_was_claimed_before_says_nothing() -> None:
    """Earlier runs, other queues and higher priorities are claimed while this one waits."""
    just_now = clock.now() - seconds(5)
    claimed: dict[str, Any] = {"state": "running", "ready": False, "owner_id": uuid4(), "started_at": just_now}
    ready(90000, **claimed)
    run_id = ready(86400)
    ready(10, queue="other", **claimed)
    ready(10, priority=1, **claimed)
    oldest = look().oldest
    assert oldest is not None
    assert (oldest.run_id, oldest.age) == (run_id, 86400)


def test_a_run_claimed_meanwhile_is_not_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looked a week old, for nobody knows since when it was due; a moment later it was at work."""
    run_id = ready(7 * 86400)
    owner = worker().id

    def claim(_event: Any, _seconds: float) -> bool:
        claims.claim(connections["default"], owner, 1, registry.identities())
        return True

    monkeypatch.setattr(threading.Event, "wait", claim)
    found = examine()
    assert (found.oldest, found.healthy) == (None, True)
    assert WorkflowRun.objects.get(id=run_id).state == "running"


def test_a_run_handed_back_meanwhile_is_not_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is due again, but somebody had it between the two looks."""
    run_id = ready(7 * 86400)
    worker()

    def claim_and_hand_back(_event: Any, _seconds: float) -> bool:
        WorkflowRun.objects.filter(id=run_id).update(epoch=F("epoch") + 1)
        return True

    monkeypatch.setattr(threading.Event, "wait", claim_and_hand_back)
    found = examine()
    assert (found.oldest, found.healthy) == (None, True)


def test_a_run_that_still_waits_is_old(settings: Any) -> None:
    """Looked at again after two polls, it is where it was."""
    settings.CANX_FLOW = {"POLL_SECONDS": 0.01}
    worker()
    run_id = ready(600)
    found = examine()
    assert not found.healthy
    assert found.oldest is not None
    assert found.oldest.run_id == run_id


# -- timers --------------------------------------------------------------------------------------------


@freeze_time(START)
def test_timers_that_nobody_fires() -> None:
    """Due for longer than allowed: stuck. Held ones, open ones and those that are due just now are not."""
    run_id = ready()
    for number, (due_at, held) in enumerate(
        [(None, False), (START + seconds(5), False), (START - seconds(30), False), (START - seconds(90), True)]
    ):
        Timer.objects.create(run_id=run_id, kind=Kind.SLEEP, step=f"s{number}", due_at=due_at, held=held)
    assert look().stuck == ()
    assert look(stuck_after=10).stuck == (health.Stuck(run_id, "s2", Kind.SLEEP, 30),)
    Timer.objects.create(run_id=run_id, kind=Kind.RETRY, step="oldest", due_at=START - seconds(90))
    found = look()
    assert [stuck.step for stuck in found.stuck] == ["oldest"]
    assert "1 timer due and not acted on" in found.problems[0]
    assert look(queues=("other",)).stuck == ()
    assert look(queues=("default",)).stuck != ()


def test_a_sleeper_without_a_worker_gets_stuck() -> None:
    """End to end: its timer is due, and nobody is there."""
    run_id = nap.start()
    advance(0)
    assert look().stuck == ()
    clock.shift(timedelta(days=8))
    (stuck,) = look().stuck
    assert (stuck.run_id, stuck.step) == (run_id, "week")


# -- threads and steps ---------------------------------------------------------------------------------


@freeze_time(START)
def test_threads_left_behind_are_a_warning() -> None:
    """Of live workers; a problem only when asked for."""
    worker(abandoned=2)
    worker(abandoned=3, beat_at=START - seconds(600))
    found = examine()
    assert (found.abandoned, found.healthy) == (2, True)
    assert found.warnings == ("2 threads left behind by steps that outlived their timeout",)
    strict = examine(Limits(strict=True))
    assert (strict.problems, strict.warnings) == (found.warnings, ())


@freeze_time(START)
def test_long_steps_without_a_timeout_are_a_warning() -> None:
    """As their worker reports them; one with a timeout ends by itself, and an older report has no time."""
    long, limited, short, plain, idle = (ready(state="running", ready=False) for _ in range(5))
    hours = (START - seconds(7200)).isoformat()
    said = {
        str(long): {"step": "crunch", "attempt": 1, "since": hours, "timeout": None},
        str(limited): {"step": "crunch", "attempt": 1, "since": hours, "timeout": 86400.0},
        str(short): {"step": "crunch", "attempt": 1, "since": START.isoformat(), "timeout": None},
        str(plain): {"step": "crunch", "attempt": 1},
        str(idle): {"step": None, "attempt": 1, "progress": {"done": 1}},
    }
    worker(activity=json.dumps(said))
    found = examine()
    assert found.long_steps == (health.LongStep(long, "crunch", "blue", 7200),)
    assert found.healthy
    assert "has no timeout and runs for 2 h" in found.warnings[0]
    assert not examine(Limits(strict=True)).healthy
    assert examine(Limits(step_seconds=8000)).warnings == ()
    # What a worker said last that is silent since, nobody knows to be true: another has taken its runs over.
    Worker.objects.update(beat_at=START - seconds(3600))
    assert examine().long_steps == ()


def test_the_number_of_questions_does_not_grow() -> None:
    """However many runs, timers and workers there are."""
    counts = []
    for _ in range(2):
        for _ in range(12):
            run_id = ready(10)
            Timer.objects.create(run_id=run_id, kind=Kind.SLEEP, due_at=clock.now() - seconds(3600))
            worker()
        with CaptureQueriesContext(connection) as queries:
            examine(confirm=False)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 17


# -- what does not get on ------------------------------------------------------------------------------


def failing(age: float, *errors: str, **more: Any) -> UUID:
    """A run whose step was tried first so many seconds ago, and is tried again in a minute."""
    run_id = ready(age, state="retrying", ready=False, **more)
    moment = clock.now() - seconds(age)
    stored = [{"type": "shop.Away", "message": error, "max_attempts": 16} for error in errors]
    StepRecord.objects.create(
        run_id=run_id, seq=1, name="charge", kind=Kind.STEP, state=RecordState.OPEN, attempts=len(errors),
        errors=json.dumps(stored), started_at=moment,
    )  # fmt: skip
    Timer.objects.create(run_id=run_id, kind=Kind.RETRY, step="charge", due_at=clock.now() + seconds(60))
    return run_id


@freeze_time(START)
def test_runs_that_are_retrying_are_a_warning() -> None:
    """How many, and the one that is tried for longest: its step, its next attempt, its last error."""
    assert (look().retrying, look().longest, look().warnings) == (0, None, ())
    failing(10, "no answer")
    old = failing(1800, "no answer", "still none", queue="mail")
    Timer.objects.create(run_id=ready(state="sleeping", ready=False), kind=Kind.SLEEP, due_at=clock.now())
    found = look()
    assert (found.retrying, found.healthy) == (2, True)
    (warning,) = found.warnings
    assert warning == (
        f"2 runs retrying, the oldest for 30 min: run {old} of health.nap, step 'charge', next is attempt 3 of 16, "
        f"last error: Away: still none"
    )
    assert look(strict=True).problems == found.warnings
    assert look(queues=("default",)).retrying == 1


@freeze_time(START)
def test_a_queue_that_no_live_worker_serves_is_named() -> None:
    """Where runs are due: one that is empty needs no worker, and where none is wanted none is missing."""
    worker(queues=["default"], name="blue")
    ready(queue="mail"), ready(queue="mail"), ready(queue="default"), ready(queue="empty", ready=False)
    (problem,) = examine().problems
    assert problem == (
        "2 runs are due in queue 'mail', which no live worker serves: start one with "
        "`manage.py runflowworker --queue mail`"
    )
    assert examine(Limits(queues=("default",))).healthy
    assert examine(NOBODY).healthy
    late = worker(queues=["mail"])
    assert examine().healthy
    Worker.objects.filter(id=late.id).update(beat_at=clock.now() - seconds(3600))
    assert examine().problems == (problem,)
