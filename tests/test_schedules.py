"""Schedules, without worker processes: what ticks, what is left out, and what people do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfoNotFoundError

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from canx_flow import AlreadyStarted, Context, OutsideStep, ScheduleNotFound, schedule, schedules, workflow
from canx_flow.client import schedules as controls
from canx_flow.core import clock
from canx_flow.core import schedules as declarations
from canx_flow.insight.schedules import standing
from canx_flow.models import RunKey, Schedule, Worker, WorkflowRun
from canx_flow.states import WorkerState
from canx_flow.store import leases, ticks
from canx_flow.store import schedules as store
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@workflow("schedules.note")
def note(ctx: Context, label: str = "a") -> list[Any]:
    """Return what it was given, and the moment that it is about."""
    return [label, ctx.scheduled_for]


@workflow("schedules.anote")
async def anote(ctx: Any) -> Any:
    """Return the moment that it is about."""
    return ctx.scheduled_for


@workflow("schedules.long")
def long(ctx: Context) -> None:
    """Wait until it is told to end."""
    ctx.wait_for("end", "end")


@pytest.fixture(autouse=True)
def _only_these() -> Iterator[None]:
    """Leave no declaration behind."""
    before = declarations.names()
    yield
    for name in set(declarations.names()) - set(before):
        declarations.forget(name)


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Stop the clock at the beginning of an hour."""
    moment = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
    clock.shift(moment - clock.now())
    return moment


def _moments(name: str = "note") -> list[datetime]:
    runs = WorkflowRun.objects.filter(key__startswith=f"{name}@").order_by("scheduled_for")
    return [run.scheduled_for for run in runs if run.scheduled_for is not None]


def _row(name: str = "note") -> Schedule:
    return Schedule.objects.get(name=name)


def _tick() -> int:
    """Tick once, as the only worker does; return how many runs that started."""
    return len(ticks.tick("default").started)


def test_c119_a_schedule_starts_one_run_per_tick_under_advance(begin: datetime) -> None:
    """Each has the key `<name>@<moment>`, its arguments, and sees the moment as `ctx.scheduled_for`."""
    schedule("note", note, cron="0 * * * *", tz="UTC", args=("x",), queue="slow", priority=7)
    run_until_idle()
    assert _moments() == []
    advance(5 * HOUR)
    assert _moments() == [begin + n * HOUR for n in range(1, 6)]
    runs = WorkflowRun.objects.filter(workflow="schedules.note").order_by("id")
    assert [run.key for run in runs][:2] == ["note@2026-05-04T11:00:00Z", "note@2026-05-04T12:00:00Z"]
    assert {(run.state, run.queue, run.priority) for run in runs} == {("completed", "slow", 7)}
    assert note.result(runs[0].id) == ["x", begin + HOUR]
    assert _row().last_run_id == runs.last().id  # type: ignore[union-attr]
    assert _row().last_at == begin + 5 * HOUR


def test_an_async_body_sees_its_moment_and_other_runs_see_none(begin: datetime) -> None:
    """`ctx.scheduled_for` is `None` in a run that no schedule has started; a rerun has that of the old run."""
    schedule("note", anote, every=MINUTE)
    run_until_idle()
    advance(MINUTE)
    run = WorkflowRun.objects.get(workflow="schedules.anote")
    assert anote.result(run.id) == begin + MINUTE
    other, again = anote.start(), anote.rerun(run.id)
    run_until_idle()
    assert anote.result(other) is None
    assert anote.result(again) == begin + MINUTE


def test_c119_a_tick_that_has_its_run_starts_no_other(begin: datetime) -> None:
    """Should the row be set back, by whatever, the key of the tick is taken."""
    schedule("note", note, every=MINUTE)
    run_until_idle()
    row = _row()
    advance(MINUTE)
    Schedule.objects.filter(id=row.id).update(nominal_at=row.nominal_at, next_at=row.next_at, due_at=row.due_at)
    assert _tick() == 0
    assert len(_moments()) == 1
    assert _row().nominal_at == begin + 2 * MINUTE


def test_nobody_ticks_a_schedule_that_no_live_worker_declares(begin: datetime) -> None:
    """It is not looked at again until a worker declares it, and then goes on by its catch-up policy."""
    schedule("note", note, every=MINUTE)
    run_until_idle()
    clock.shift(10 * MINUTE)
    assert not ticks.tick("default", declared=set()).started
    assert _row().due_at is None
    assert ticks.tick("default", declared={"note"}).seen == 0
    run_until_idle()  # It declares it again.
    assert _moments() == [begin + 10 * MINUTE]


def _worker(*names: str, age: int = 0) -> Worker:
    worker = leases.register(host="here", pid=1, schedules=names)
    Worker.objects.filter(id=worker.id).update(started_at=clock.now() - timedelta(seconds=age))
    return worker


def _declared(cron: str) -> declarations.Scheduled:
    return declarations.Scheduled.declared("note", note, cron=cron, tz="UTC")


def test_the_youngest_worker_declares(begin: datetime) -> None:
    """In a rolling deployment and in a rollback, whatever the order in which workers look at it."""
    old, young = _worker("note", age=60), _worker("note")
    store.sync("default", old.id, [_declared("0 1 * * *")])
    assert not Schedule.objects.exists()
    store.sync("default", young.id, [_declared("0 2 * * *")])
    store.sync("default", old.id, [_declared("0 1 * * *")])
    assert store.scheduled(_row()).rule == "0 2 * * *"
    assert _row().nominal_at == datetime(2026, 5, 5, 2, tzinfo=UTC)
    Worker.objects.filter(id=young.id).update(state=WorkerState.STOPPED)
    store.sync("default", old.id, [_declared("0 1 * * *")])
    assert store.scheduled(_row()).rule == "0 1 * * *"
    assert _row().nominal_at == datetime(2026, 5, 5, 1, tzinfo=UTC)


def test_a_deployment_that_changes_no_moments_loses_no_tick(begin: datetime) -> None:
    """What is due while the arguments change stays due; where the moments change, none that has passed is made up."""
    worker = _worker("note")
    declare = declarations.Scheduled.declared
    store.sync("default", worker.id, [declare("note", note, every=HOUR)])
    clock.shift(HOUR + MINUTE)
    store.sync("default", worker.id, [declare("note", note, every=HOUR, args=("b",))])
    assert _tick() == 1
    assert WorkflowRun.objects.get().arguments == '[["b"],{}]'
    clock.shift(HOUR)
    store.sync("default", worker.id, [declare("note", note, every=30 * MINUTE)])
    assert _tick() == 0
    assert _row().nominal_at == begin + 2 * HOUR + 30 * MINUTE


def test_what_no_live_worker_declares_is_noted_and_deleted_after_a_week(begin: datetime) -> None:
    """Not what the admin has made."""
    worker, other = _worker("note"), _worker()
    store.sync("default", worker.id, [_declared("0 1 * * *")])
    Schedule.objects.create(name="admins", origin=Schedule.ADMIN, workflow="schedules.note", spec=_row().spec)
    Worker.objects.filter(id=worker.id).update(state=WorkerState.STOPPED)
    store.sync("default", other.id, [])
    assert _row().orphaned_at is not None
    clock.shift(timedelta(days=6))
    store.sync("default", other.id, [])
    assert Schedule.objects.count() == 2
    clock.shift(timedelta(days=1, minutes=1))
    store.sync("default", other.id, [])
    assert [row.name for row in Schedule.objects.all()] == ["admins"]


def test_a_clock_that_was_set_back_does_not_stop_a_schedule(begin: datetime) -> None:
    """A tick that was started by a clock of the future is made up for by none, and the next one is not years away."""
    worker, declared = _worker("note"), declarations.Scheduled.declared("note", note, every=HOUR)
    store.sync("default", worker.id, [declared])
    clock.shift(timedelta(days=1000))
    assert _tick() == 1
    clock.shift(-timedelta(days=1000))
    store.sync("default", worker.id, [declared])
    assert _row().nominal_at == begin + HOUR


def test_after_a_clock_was_set_back_no_tick_is_lost_to_a_deployment(begin: datetime) -> None:
    """Once it ticks by the clock again, a worker that comes begins nothing anew."""
    worker, declared = _worker("note"), declarations.Scheduled.declared("note", note, every=HOUR, overlap="allow_all")
    store.sync("default", worker.id, [declared])
    clock.shift(timedelta(days=1000))
    _tick()
    clock.shift(-timedelta(days=1000))
    store.sync("default", worker.id, [declared])
    clock.shift(HOUR + MINUTE)
    store.sync("default", worker.id, [declared])
    assert _tick() == 1
    assert begin + HOUR in _moments()


def test_a_declaration_holds_though_a_tick_comes_in_between(begin: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have the schedule tick while this one looks at it; it is written all the same."""
    worker, declare = _worker("note"), declarations.Scheduled.declared
    store.sync("default", worker.id, [declare("note", note, every=MINUTE)])
    youngest = store._youngest

    def ticking(alias: str) -> dict[str, UUID]:
        assert _tick() == 1
        return youngest(alias)

    monkeypatch.setattr(store, "_youngest", ticking)
    clock.shift(MINUTE)
    assert store.sync("default", worker.id, [declare("note", note, every=HOUR)])
    assert store.scheduled(_row()).rule == "every 1 h"
    assert _row().nominal_at == begin + HOUR


def test_what_was_let_go_though_a_worker_declares_it_is_taken_up_by_any(begin: datetime) -> None:
    """One that has found nobody declaring it may write that after the worker who does has looked at it, and is done."""
    worker, other = _worker("note"), _worker()
    declared = declarations.Scheduled.declared("note", note, every=HOUR)
    store.sync("default", worker.id, [declared])
    for orphaned_at in (clock.now(), None):
        Schedule.objects.update(orphaned_at=orphaned_at, due_at=None)
        assert store.sync("default", other.id, [])
        assert (_row().orphaned_at, _row().due_at) == (None, begin + HOUR)


def test_ticks_that_wait_are_taken_up_though_no_other_is_to_come(begin: datetime) -> None:
    """What none has declared for a while may have ended meanwhile, but for them."""
    worker = _worker("note")
    declared = declarations.Scheduled.declared("note", long, every=HOUR, overlap="buffer_all", end_at=begin + 2 * HOUR)
    store.sync("default", worker.id, [declared])
    for _ in range(2):
        clock.shift(HOUR)
        _tick()
    assert _row().buffered != "[]"
    assert not ticks.tick("default", declared=set(), beside=ticks.WAITING).started
    assert _row().due_at is None
    store.sync("default", worker.id, [declared])
    WorkflowRun.objects.update(state="completed")
    assert _tick() == 1


def test_new_data_of_a_time_zone_move_the_next_tick(begin: datetime) -> None:
    """It is stored as a moment; where the zone's clocks change otherwise by now, a worker that begins corrects it."""
    worker = _worker("note")
    declared = declarations.Scheduled.declared("note", note, cron="0 2 * * *", tz="Europe/Berlin")
    store.sync("default", worker.id, [declared])
    moment = _row().nominal_at
    assert moment is not None
    Schedule.objects.update(**dict.fromkeys(("nominal_at", "next_at", "due_at"), moment + HOUR))
    assert store.sync("default", worker.id, [declared])
    assert (_row().nominal_at, _row().next_at, _row().due_at) == (moment, moment, moment)
    assert not store.sync("default", worker.id, [declared])


@pytest.mark.parametrize("paused", [False, True])
def test_new_data_of_a_time_zone_drop_no_tick_that_waits(begin: datetime, *, paused: bool) -> None:
    """It is at a moment that has come, however the zone's clocks change from now on."""
    worker = _worker("note")
    declared = declarations.Scheduled.declared("note", long, cron="0 2 * * *", tz="Europe/Berlin", overlap="buffer_all")
    store.sync("default", worker.id, [declared])
    moment, waiting = _row().nominal_at, '["2026-05-04T10:00:00Z"]'
    assert moment is not None
    due_at = None if paused else moment + HOUR
    Schedule.objects.update(nominal_at=moment + HOUR, due_at=due_at, buffered=waiting, paused=paused)
    assert store.sync("default", worker.id, [declared])
    assert (_row().nominal_at, _row().buffered) == (moment, waiting)
    assert (_row().due_at is None) is paused
    assert _tick() == (0 if paused else 1)
    assert _moments() == ([] if paused else [begin])
    assert not store.sync("default", worker.id, [declared])


def test_a_schedule_that_cannot_be_read_keeps_no_other_from_ticking(begin: datetime) -> None:
    """Of whatever is wrong with it; it is tried again a second later, and under `advance` the test hears of it."""
    schedule("note", note, cron="0 * * * *", tz="UTC")
    run_until_idle()
    spec = _row().spec.replace('"UTC"', '"Europe/Atlantis"')
    moments = dict.fromkeys(("nominal_at", "next_at", "due_at"), begin + HOUR)
    Schedule.objects.create(name="lost", origin=Schedule.ADMIN, workflow="schedules.note", spec=spec, **moments)
    clock.shift(HOUR)
    ticked = ticks.tick("default")
    assert len(ticked.started) == 1
    assert "Europe/Atlantis" in str(ticked.unread["lost"])
    assert _row("lost").nominal_at == begin + HOUR
    assert begin + HOUR < (_row("lost").due_at or begin) <= clock.now() + timedelta(seconds=1)
    assert ticks.tick("default").seen == 0
    with pytest.raises(ZoneInfoNotFoundError):
        advance(2)


@pytest.mark.parametrize("spec", ["{}", "no JSON"])
def test_a_schedule_that_cannot_be_read_is_written_anew_by_the_worker_that_declares_it(
    begin: datetime, spec: str
) -> None:
    """As one that another version of the code has stored; no other worker touches it."""
    worker, other = _worker("note"), _worker()
    declared = declarations.Scheduled.declared("note", note, every=HOUR)
    store.sync("default", worker.id, [declared])
    Schedule.objects.update(spec=spec, due_at=None)
    assert not store.sync("default", other.id, [])
    assert store.sync("default", worker.id, [declared])
    assert (_row().spec, _row().due_at) == (declared.spec, begin + HOUR)


@pytest.mark.parametrize(("catch_up", "started", "missed"), [("none", [], 3), ("one", [3], 2), ("all", [1, 2, 3], 0)])
def test_c121_after_downtime_of_three_ticks(begin: datetime, catch_up: Any, started: list[int], missed: int) -> None:
    """None, the last one, or all of them; those that are left out are counted as missed."""
    schedule("note", note, every=HOUR, catch_up=catch_up, overlap="allow_all")
    run_until_idle()
    clock.shift(3 * HOUR + 30 * MINUTE)
    run_until_idle()
    assert _moments() == [begin + n * HOUR for n in started]
    row = _row()
    assert (row.skipped, row.skip_reason) == (missed, "missed" if missed else "")
    assert row.nominal_at == begin + 4 * HOUR


def test_c121_only_within_the_window_of_catching_up(begin: datetime) -> None:
    """What is older is missed; a tick that is found a moment late is not, whatever the window."""
    schedule("note", note, every=HOUR, catch_up="all", catch_up_window=2 * HOUR, overlap="allow_all")
    schedule("last", note, every=HOUR, catch_up="one", catch_up_window=0)
    schedule("prompt", note, every=HOUR, catch_up="none")
    run_until_idle()
    clock.shift(10 * HOUR + 30 * MINUTE)
    run_until_idle()
    assert _moments("note") == [begin + 9 * HOUR, begin + 10 * HOUR]
    assert _row("note").skipped_ever == 8
    assert _moments("last") == []
    clock.shift(30 * MINUTE + timedelta(seconds=5))
    run_until_idle()
    assert _moments("last") == _moments("prompt") == [begin + 11 * HOUR]


def test_many_missed_ticks_are_caught_up_in_batches(begin: datetime) -> None:
    """All of them in the end, however many."""
    schedule("note", note, every=MINUTE, catch_up="all", overlap="allow_all")
    run_until_idle()
    clock.shift(250 * MINUTE)
    assert [_tick() for _ in range(4)] == [100, 100, 50, 0]
    assert _moments() == [begin + n * MINUTE for n in range(1, 251)]


def _ended(number: int) -> None:
    """End the first runs that wait."""
    runs = WorkflowRun.objects.filter(workflow="schedules.long", state="waiting").order_by("scheduled_for")
    for run in runs[:number]:
        long.send(run.id, "end")
    run_until_idle()


def test_c123_skip(begin: datetime) -> None:
    """While a run has not ended, ticks are left out, and counted with their reason and what is in their way."""
    schedule("note", long, every=HOUR)
    run_until_idle()
    advance(4 * HOUR)
    assert _moments() == [begin + HOUR]
    row = _row()
    assert (row.skipped, row.skip_reason, row.skip_holder) == (3, "overlap", row.last_run_id)
    assert row.skipped_since == begin + 2 * HOUR
    _ended(1)
    advance(HOUR)
    assert _moments() == [begin + HOUR, begin + 5 * HOUR]
    row = _row()
    assert (row.skipped, row.skipped_since, row.skip_holder, row.skipped_ever) == (0, None, None, 3)


def test_c123_buffer_one(begin: datetime) -> None:
    """One tick waits for the end of the run before; the others are left out."""
    schedule("note", long, every=HOUR, overlap="buffer_one")
    run_until_idle()
    advance(4 * HOUR)
    assert _moments() == [begin + HOUR]
    assert (_row().buffered, _row().skipped) == ('["2026-05-04T12:00:00Z"]', 2)
    _ended(1)
    assert _moments() == [begin + HOUR, begin + 2 * HOUR]
    assert _row().buffered == "[]"


def test_c123_buffer_all(begin: datetime) -> None:
    """Every tick waits, and they start one after the other."""
    schedule("note", long, every=HOUR, overlap="buffer_all")
    run_until_idle()
    advance(3 * HOUR)
    for number in (1, 2, 3):
        assert _moments() == [begin + n * HOUR for n in range(1, number + 1)]
        _ended(1)
    assert _row().skipped == 0


@pytest.mark.parametrize("why", ["resumed", "changed", "set back"])
def test_c123_ticks_that_wait_when_a_schedule_begins_anew_are_counted(begin: datetime, why: str) -> None:
    """They are skipped: by a resume, by another expression, and by a clock that was set back."""
    schedule("note", long, every=HOUR, overlap="buffer_all")
    run_until_idle()
    advance(4 * HOUR)
    assert _row().buffered.count("Z") == 3
    if why == "resumed":
        schedules.pause("note")
        schedules.resume("note")
    elif why == "changed":
        declarations.forget("note")
        schedule("note", long, every=HOUR, offset=MINUTE, overlap="buffer_all")
        run_until_idle()
    else:
        clock.shift(-10 * HOUR)
        assert store.sync("default", None, [store.scheduled(_row())])
    row = _row()
    assert (row.buffered, row.skipped, row.skip_reason, row.skip_holder) == ("[]", 3, "anew", None)
    assert row.skipped_ever == 3
    assert row.skipped_since is not None
    assert "3 ticks were skipped: they waited" in standing(row).skips
    assert _moments() == [begin + HOUR]


def test_c123_cancel_other(begin: datetime) -> None:
    """The run before is cancelled, and says for what."""
    schedule("note", long, every=HOUR, overlap="cancel_other")
    run_until_idle()
    advance(3 * HOUR)
    runs = WorkflowRun.objects.filter(workflow="schedules.long").order_by("scheduled_for")
    assert [run.state for run in runs] == ["cancelled", "cancelled", "waiting"]
    assert "cancel_other" in runs[0].reason


def test_c123_allow_all(begin: datetime) -> None:
    """They run side by side."""
    schedule("note", long, every=HOUR, overlap="allow_all")
    run_until_idle()
    advance(3 * HOUR)
    assert WorkflowRun.objects.filter(workflow="schedules.long", state="waiting").count() == 3


def test_c122_backfill_starts_the_missing_ticks_only(begin: datetime) -> None:
    """The count comes first; a second backfill starts none, and naive moments are refused."""
    schedule("note", note, every=HOUR)
    run_until_idle()
    advance(2 * HOUR)
    start, end = begin - 2 * HOUR, begin + 2 * HOUR
    expected = [begin - 2 * HOUR, begin - HOUR, begin]
    assert schedules.missing("note", start, end) == expected
    ids = schedules.backfill("note", start, end, priority=-20, by="ann", reason="after the outage")
    assert len(ids) == 3
    assert schedules.missing("note", start, end) == schedules.backfill("note", start, end) == []
    run_until_idle()
    assert _moments() == [*expected, begin + HOUR, begin + 2 * HOUR]
    run = WorkflowRun.objects.get(id=ids[0])
    assert (run.priority, run.control_by, run.control_reason) == (-20, "ann", "after the outage")
    naive = start.replace(tzinfo=None)
    for given in ((naive, end), (start, naive), (end, start), (start, end + HOUR)):
        with pytest.raises(ValueError, match=r"start|end"):
            schedules.backfill("note", *given)
    with pytest.raises(ValueError, match="10,000"):
        schedules.missing("note", begin - 10_001 * HOUR, begin)
    with pytest.raises(TypeError, match="start"):
        schedules.missing("note", "2026-05-04", end)  # type: ignore[arg-type]


def test_c124_a_paused_schedule_does_not_tick(begin: datetime) -> None:
    """Resumed, it fires no moment that has passed; who paused it, and why, is stored, and no deployment undoes it."""
    schedule("note", note, every=HOUR)
    run_until_idle()
    assert schedules.pause("note", "month's end", by="ann") is True
    assert schedules.pause("note", "again", by="bob") is False
    assert (_row().note, _row().paused_by) == ("month's end", "ann")
    advance(3 * HOUR)
    declarations.forget("note")
    schedule("note", note, every=HOUR, args=("b",))
    advance(30 * MINUTE)
    assert _moments() == []
    assert schedules.upcoming("note", 1) == [begin + 4 * HOUR]
    assert schedules.resume("note", by="ann") is True
    assert schedules.resume("note") is False
    advance(30 * MINUTE)
    assert _moments() == [begin + 4 * HOUR]
    assert (_row().note, _row().paused_by) == ("", "")


def test_c124_trigger_starts_a_run_beside_the_ticks(begin: datetime) -> None:
    """Also of a paused schedule; its key says that it was triggered, and it has no moment."""
    schedule("note", note, every=HOUR, args=("t",))
    schedules.pause("note")
    run_id = schedules.trigger("note", "to see", by="ann")
    run_until_idle()
    run = WorkflowRun.objects.get(id=run_id)
    assert (run.key or "").startswith("note@manual:")
    assert (run.state, run.control_by, run.scheduled_for) == ("completed", "ann", None)
    assert note.result(run_id) == ["t", None]
    assert _row().last_run_id == run_id
    assert schedules.trigger("note") != run_id


def test_a_triggered_run_that_has_ended_hides_none_that_has_not(begin: datetime) -> None:
    """The next tick is skipped for the run of the last one, which is still at work."""
    schedule("note", long, every=HOUR)
    run_until_idle()
    advance(HOUR)
    first = _row().last_run_id
    triggered = schedules.trigger("note")
    long.send(triggered, "end")
    run_until_idle()
    advance(HOUR)
    assert _moments() == [begin + HOUR]
    assert (_row().skipped, _row().skip_holder) == (1, first)


def test_a_trigger_in_a_transaction_exists_only_if_that_commits(begin: datetime) -> None:
    """As a start does."""
    schedule("note", note, every=HOUR)
    schedules.pause("note")
    with transaction.atomic():
        schedules.trigger("note")
        transaction.set_rollback(True)
    assert not WorkflowRun.objects.exists()
    assert not RunKey.objects.exists()


@workflow("schedules.triggering")
def triggering(ctx: Context) -> Any:
    """Trigger in a step that is called twice."""
    return ctx.step("trigger", _trigger_twice)


def _trigger_twice() -> str:
    found = str(schedules.trigger("note"))
    if WorkflowRun.objects.filter(workflow="schedules.note").count() == 1 and not _failed:
        _failed.append(True)
        raise ConnectionError("not yet")
    return found


_failed: list[bool] = []


def test_a_trigger_that_is_to_be_done_once_says_what_became_of_the_first(begin: datetime) -> None:
    """Whoever sends it again is told of its run, and how that stands."""
    schedule("note", note, cron="0 * * * *", tz="UTC")
    run_until_idle()
    once = uuid4()
    run_id = controls.trigger("note", once=once)
    run_until_idle()
    with pytest.raises(AlreadyStarted) as met:
        controls.trigger("note", once=once)
    assert (met.value.run_id, met.value.state) == (run_id, "completed")


def test_a_step_that_is_repeated_triggers_once(begin: datetime) -> None:
    """The key of the run that it starts is the step's own."""
    _failed.clear()
    schedule("note", note, cron="0 0 1 1 *")
    schedules.pause("note")
    run_id = triggering.start()
    run_until_idle()
    advance(HOUR)
    assert [str(run.id) for run in note.runs] == [triggering.result(run_id)]


@workflow("schedules.in_body")
def in_body(ctx: Context) -> None:
    """Trigger where a replay would trigger again."""
    schedules.trigger("note")


def test_a_body_is_refused(begin: datetime) -> None:
    """OutsideStep, as of every call from outside a run."""
    run_id = in_body.start()
    run_until_idle()
    run = WorkflowRun.objects.get(id=run_id)
    assert run.state == "failed"
    assert OutsideStep.__name__ in (run.error or "")


def test_upcoming_ticks_are_those_that_come(begin: datetime) -> None:
    """In the schedule's zone, also before any worker has seen it; `n` is checked."""
    schedule("note", note, cron="30 2 * * *", tz="Europe/Berlin", window=10 * MINUTE)
    found = schedules.upcoming("note", 3)
    assert [f"{moment:%m-%d %H:%M %Z}" for moment in found] == [
        "05-05 02:30 CEST",
        "05-06 02:30 CEST",
        "05-07 02:30 CEST",
    ]
    advance(timedelta(days=3))
    assert _moments() == found
    for wrong in (-1, 10_001):
        with pytest.raises(ValueError, match="n must"):
            schedules.upcoming("note", wrong)
    with pytest.raises(TypeError, match="n must"):
        schedules.upcoming("note", "3")  # type: ignore[arg-type]


def test_an_unknown_schedule_is_refused_by_every_call() -> None:
    """ScheduleNotFound names it."""
    now = clock.now()
    calls = (
        lambda: schedules.pause("none"), lambda: schedules.resume("none"), lambda: schedules.trigger("none"),
        lambda: schedules.backfill("none", now - HOUR, now), lambda: schedules.missing("none", now - HOUR, now),
        lambda: schedules.upcoming("none"),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ScheduleNotFound, match="'none'"):
            call()


def test_a_window_moves_the_start_and_not_the_name(begin: datetime) -> None:
    """The run starts later by its share, under the key of the moment itself."""
    schedule("note", note, every=HOUR, window=30 * MINUTE)
    run_until_idle()
    row = _row()
    assert row.nominal_at is not None
    assert row.next_at is not None
    share = row.next_at - row.nominal_at
    assert timedelta(0) < share < 30 * MINUTE
    advance(HOUR + share - timedelta(seconds=1))
    assert _moments() == []
    assert schedules.upcoming("note", 2) == [begin + HOUR, begin + 2 * HOUR]
    advance(2)
    assert _moments() == [begin + HOUR]


def test_a_name_is_declared_once(begin: datetime) -> None:
    """Twice in one module is an error that names it."""
    schedule("note", note, every=HOUR)
    with pytest.raises(ValueError, match="'note' is taken"):
        schedule("note", note, every=MINUTE)


def test_a_schedule_with_nothing_left_ticks_no_more(begin: datetime) -> None:
    """After `end_at` nobody looks at it."""
    schedule("note", note, every=HOUR, end_at=begin + 2 * HOUR)
    run_until_idle()
    advance(5 * HOUR)
    assert _moments() == [begin + HOUR, begin + 2 * HOUR]
    assert (_row().next_at, _row().due_at) == (None, None)
    assert schedules.upcoming("note") == []


def test_the_calls_have_async_twins() -> None:
    """`apause`, `aresume`, `atrigger`, `amissing`, `abackfill`, `aupcoming`."""
    schedule("note", note, every=HOUR)

    async def all_of_them() -> list[Any]:
        now = clock.now()
        found = [await schedules.apause("note"), await schedules.aresume("note"), await schedules.atrigger("note")]
        found += [len(await schedules.aupcoming("note", 3)), len(await schedules.amissing("note", now - HOUR, now))]
        return [*found, len(await schedules.abackfill("note", now - HOUR, now))]

    paused, resumed, triggered, *counts = async_to_sync(all_of_them)()
    assert (paused, resumed, counts) == (True, True, [3, 1, 1])
    assert WorkflowRun.objects.filter(id=triggered).exists()


def test_a_run_that_does_not_start_in_its_time_is_cancelled(begin: datetime) -> None:
    """`expires` is counted from its tick; one that starts in time is not."""
    schedule("note", note, every=HOUR, expires=MINUTE)
    run_until_idle()
    advance(HOUR)
    clock.shift(HOUR)
    assert _tick() == 1
    clock.shift(2 * MINUTE)
    run_until_idle()
    runs = WorkflowRun.objects.filter(workflow="schedules.note").order_by("id")
    assert [(run.state, run.reason) for run in runs] == [("completed", ""), ("cancelled", "Expired")]
