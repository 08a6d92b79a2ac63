"""A run's timeline: the rows, waits and events of every state, in a constant number of questions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import Context, Retry, RunNotFound, send_event, workflow
from canx_flow.core import registry
from canx_flow.insight import reading
from canx_flow.insight.timeline import Timeline, load
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.states import Kind, RecordState
from canx_flow.store import claims, leases
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def flaky() -> None:
    """Never succeeds."""
    raise ConnectionError("no answer")


@workflow("timeline.any", retry=Retry(max_attempts=3, initial=60, factor=2, jitter=0))
def anything(ctx: Context, what: str = "") -> str:
    """A step, and then what is asked for."""
    ctx.step("first", lambda: {"label": what})
    match what:
        case "sleep":
            ctx.sleep("nap", HOUR)
        case "wait":
            ctx.wait_for("answer", "answered", key="order-7", timeout=HOUR, default=None)
            ctx.wait_for("more", "answered")
        case "step":
            ctx.step("flaky", flaky)
    return what


def run(what: str = "", **options: Any) -> UUID:
    """Started, and brought as far as it comes."""
    run_id = anything.using(**options).start(what)
    run_until_idle()
    return run_id


def rows(found: Timeline) -> list[tuple[str, str, str, int]]:
    """What is said of each row in short."""
    return [(row.name, row.kind, row.state, row.attempts) for row in found.rows]


def claimed(run_id: UUID) -> UUID:
    """Have a live worker take this run; the worker's id."""
    worker = leases.register(host="elsewhere", pid=1, name="blue")
    (taken,) = claims.claim(connections["default"], worker.id, 1, registry.identities())
    assert taken.id == run_id
    return worker.id


FIRST = ("first", "step", "completed", 1)


@freeze_time(START)
def test_a_completed_run() -> None:
    """Its steps with their times, its result, its own span."""
    found = load(run())
    assert rows(found) == [FIRST]
    assert (found.rows[0].began, found.rows[0].ended) == (START, START)
    assert (found.run.state, found.ends, found.waits, found.messages) == ("completed", START, (), ())
    assert (str(found.arguments), str(found.result)) == ('("")', '""')
    assert found.label == "timeline.any"


def test_an_undo_begins_when_the_one_before_it_has_ended() -> None:
    """Though their records are made together: what each takes is its own time, and those left come last."""
    late = Retry(max_attempts=2, initial=60, jitter=0)
    answers = iter([ConnectionError, None])

    def undo(_result: str) -> None:
        if (error := next(answers, None)) is not None:
            raise error

    def body(ctx: Context) -> None:
        ctx.step("flight", str, compensate=str)
        ctx.step("hotel", str, compensate=undo, retry=late)
        ctx.step("boat", str, compensate=str)
        raise ValueError("no car")

    with freeze_time(START) as clock:
        run_id = workflow("timeline.undone", body).start()
        run_until_idle()
        assert rows(load(run_id))[3:] == [
            ("boat[undo]", "undo", "completed", 1), ("hotel[undo]", "undo", "retrying", 1),
            ("flight[undo]", "undo", "due", 0),
        ]  # fmt: skip
        clock.tick(60)
        run_until_idle()
        found = {row.name: row for row in load(run_id).rows if row.kind == "undo"}
    registry.forget("timeline.undone")
    assert {name: row.duration() for name, row in found.items()} == {
        "boat[undo]": 0, "hotel[undo]": 60, "flight[undo]": 0,
    }  # fmt: skip


@freeze_time(START)
def test_a_sleeping_run() -> None:
    """The sleep is a row that goes on, with its timer, which says when it wakes."""
    found = load(run("sleep"))
    assert rows(found) == [FIRST, ("nap", "sleep", "sleeping", 0)]
    assert found.rows[1].ended is None
    assert found.rows[1].wait == found.waits[0]
    assert found.waits[0].words(START + timedelta(minutes=20)) == "wakes in 40 min"
    assert found.waits[0].words(START + 2 * HOUR) == "wakes 1 h ago"


@freeze_time(START)
def test_a_delayed_start() -> None:
    """No row yet, but a wait."""
    found = load(run(delay=HOUR))
    assert rows(found) == []
    assert [wait.words(START) for wait in found.waits] == ["starts in 1 h"]


@freeze_time(START)
def test_a_waiting_run() -> None:
    """For which event and key, and when that times out; without a timeout there is no time."""
    run_id = run("wait")
    found = load(run_id)
    assert rows(found) == [FIRST, ("answer", "wait", "waiting", 0)]
    assert found.waits[0].words(START) == 'waits for event "answered" with key "order-7", times out in 1 h'
    advance(HOUR)
    found = load(run_id)
    assert rows(found) == [FIRST, ("answer", "wait", "timed out", 0), ("more", "wait", "waiting", 0)]
    assert found.waits[0].words(START) == 'waits for event "answered"'


@freeze_time(START)
def test_events_read_and_unread() -> None:
    """Those sent to the run, read or not, and the broadcasts that it has read."""
    run_id = run("wait")
    send_event("answered", {"by": "all"}, key="order-7")
    send_event("answered", "somebody else's", key="order-8")
    run_until_idle()
    assert anything.send(run_id, "unknown", 1)
    found = load(run_id)
    broadcast, unread = found.messages
    assert (broadcast.name, broadcast.key, broadcast.broadcast) == ("answered", "order-7", True)
    assert (broadcast.consumed_by, broadcast.consumed_at) == ("answer", START)
    assert str(broadcast.payload) == '{"by": "all"}'
    assert (unread.name, unread.broadcast, unread.consumed_by) == ("unknown", False, None)
    assert anything.send(run_id, "answered", 2)
    run_until_idle()
    read = [(message.name, message.consumed_by) for message in load(run_id).messages]
    assert read == [("answered", "answer"), ("unknown", None), ("answered", "more")]


def test_a_retrying_run() -> None:
    """Attempts with their errors, and the next one's time."""
    with freeze_time(START):
        run_id = run("step")
        advance(timedelta(seconds=60))
        found = load(run_id)
        assert rows(found) == [FIRST, ("flaky", "step", "retrying", 2)]
        flaky_row = found.rows[1]
        assert [error.at for error in flaky_row.errors] == [START, START + timedelta(seconds=60)]
        assert [error.summary for error in flaky_row.errors] == ["ConnectionError: no answer"] * 2
        assert flaky_row.began == START
        assert flaky_row.wait is not None
        assert flaky_row.wait.words(found.now, found.failing(flaky_row.wait)) == "attempt 3 of 3 in 2 min"
        assert flaky_row.wait.words(found.now) == "next attempt in 2 min"


@freeze_time(START)
def test_a_failed_run() -> None:
    """The step that ended it, and the run's own error, which names the step."""
    run_id = run("step")
    advance(HOUR)
    found = load(run_id)
    assert rows(found) == [FIRST, ("flaky", "step", "failed", 3)]
    assert found.error is not None
    assert (found.error.step, found.error.type) == ("flaky", "canx_flow.exceptions.StepFailed")
    assert found.run.finished_at == found.ends


@freeze_time(START)
def test_waits_of_a_paused_run_are_held() -> None:
    """They keep their time, and say that they do not act."""
    run_id = run("sleep")
    anything.pause(run_id)
    found = load(run_id)
    assert rows(found)[1] == ("nap", "sleep", "sleeping", 0)
    assert found.waits[0].words(START) == "wakes in 1 h (held)"


@freeze_time(START)
def test_what_a_cancelled_run_has_left_open_is_unfinished() -> None:
    """Nothing of it sleeps any more."""
    run_id = run("sleep")
    anything.cancel(run_id)
    found = load(run_id)
    assert rows(found)[1] == ("nap", "sleep", "unfinished", 0)
    assert found.waits == ()


@freeze_time(START)
def test_what_the_worker_reports_is_a_row() -> None:
    """The step being called has no record yet; of one that has, it says that it runs."""
    run_id = anything.start()
    worker = claimed(run_id)
    assert rows(load(run_id)) == []
    said = {"step": "first", "attempt": 2, "since": START.isoformat(), "timeout": 5.0, "progress": {"done": 1}}
    leases.beat(worker, activity=json.dumps({str(run_id): said}))
    found = load(run_id)
    assert rows(found) == [("first", "step", "running", 2)]
    assert found.rows[0].began == START
    assert found.report == reading.Report("first", 2, START, 5.0, progress={"done": 1})
    assert found.progress == {"done": 1}
    StepRecord.objects.create(
        run_id=run_id, seq=1, name="first", kind=Kind.STEP, state=RecordState.DUE, attempts=1, started_at=START
    )
    assert rows(load(run_id)) == [("first", "step", "running", 1)]


@freeze_time(START)
def test_an_older_report_without_a_time_is_understood() -> None:
    """During an update, workers of the version before go on."""
    run_id = anything.start()
    worker = claimed(run_id)
    leases.beat(worker, activity=json.dumps({str(run_id): {"step": "first", "attempt": 1, "progress": None}}))
    assert load(run_id).report == reading.Report("first")


@freeze_time(START)
def test_an_at_most_once_step_that_was_cut_off() -> None:
    """It runs as long as somebody owns the run; then it was interrupted."""
    run_id = anything.start()
    worker = claimed(run_id)
    StepRecord.objects.create(
        run_id=run_id, seq=1, name="once", kind=Kind.STEP, state=RecordState.STARTED, attempts=1, started_at=START
    )
    assert rows(load(run_id)) == [("once", "step", "running", 1)]
    leases.declare_dead(worker)
    leases.recover(worker)
    assert rows(load(run_id)) == [("once", "step", "interrupted", 1)]


def test_a_silent_worker_is_noticed() -> None:
    """Nothing as long as its heartbeat is younger than the lease; dead is dead at once."""
    with freeze_time(START) as frozen:
        run_id = anything.start()
        worker = claimed(run_id)
        assert load(run_id).silent_for is None
        frozen.tick(timedelta(minutes=5))
        assert load(run_id).silent_for == 300
        leases.declare_dead(worker)
        assert load(run_id).silent_for == float("inf")
    assert load(run()).silent_for is None


def test_results_are_loaded_when_asked_for() -> None:
    """They may be large, and most who look at a timeline do not show them."""
    run_id = run()
    assert load(run_id).rows[0].result is None
    assert str(load(run_id, results=True).rows[0].result) == '{"label": ""}'


def test_a_long_history_keeps_its_end() -> None:
    """The last rows are loaded, and how many came before is said."""
    run_id = run()
    StepRecord.objects.bulk_create(
        StepRecord(run_id=run_id, seq=seq, name=f"step#{seq}", kind=Kind.STEP, state="completed", started_at=START)
        for seq in range(2, 31)
    )
    found = load(run_id, most=10)
    assert [row.name for row in found.rows] == [f"step#{seq}" for seq in range(21, 31)]
    assert found.left_out == 20
    assert load(run_id, most=30).left_out == 0


def test_the_number_of_questions_does_not_grow() -> None:
    """Ten times the rows, waits and events are asked for in as many queries."""
    counts = []
    for size in (3, 30):
        run_id = run()
        Event.objects.bulk_create(Event(run_id=run_id, name="e") for _ in range(size))
        ids = list(Event.objects.filter(run_id=run_id).values_list("id", flat=True))
        StepRecord.objects.bulk_create(
            StepRecord(run_id=run_id, seq=at + 2, name=f"s#{at}", kind="wait", state="completed", started_at=START,
                       event_id=event, errors="[]")
            for at, event in enumerate(ids)
        )  # fmt: skip
        Timer.objects.bulk_create(Timer(run_id=run_id, step=f"t#{at}", kind=Kind.SLEEP) for at in range(size))
        with CaptureQueriesContext(connection) as queries:
            found = load(run_id)
            assert len(found.rows) == size + 1
            assert len([row.errors for row in found.rows]) == size + 1
            assert (len(found.waits), len(found.messages)) == (size, size)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8


def test_an_unknown_run_is_not_found() -> None:
    """As everywhere."""
    with pytest.raises(RunNotFound):
        load(uuid4())


def test_damaged_progress_is_left_out() -> None:
    """It is for people only: no reason to show nothing else."""
    run_id = run()
    WorkflowRun.objects.filter(id=run_id).update(progress="{")
    assert load(run_id).progress is None


def test_the_wait_that_is_due_first_is_the_one_listed() -> None:
    """Of several waits of several runs, deadlines aside, in one question."""
    first, second, third = run(), run(), run()
    now = START
    Timer.objects.bulk_create(
        [
            Timer(run_id=first, kind=Kind.WAIT, step="any", event="e"),
            Timer(run_id=first, kind=Kind.SLEEP, step="later", due_at=now + HOUR),
            Timer(run_id=first, kind=Kind.SLEEP, step="sooner", due_at=now + SECOND),
            Timer(run_id=first, kind=Kind.DEADLINE, due_at=now),
            Timer(run_id=second, kind=Kind.WAIT, step="ever", event="e"),
            Timer(run_id=third, kind=Kind.DEADLINE, due_at=now),
        ]
    )
    with CaptureQueriesContext(connection) as queries:
        found = reading.first_waits("default", [first, second, third])
    assert {run_id: wait.step for run_id, wait in found.items()} == {first: "sooner", second: "ever"}
    assert len(queries) == 1
