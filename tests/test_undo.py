"""Undo: what `compensate` registers runs when the run is cancelled or fails, newest result first, each durably."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connections

from canx_flow import (
    GiveUp,
    InvalidState,
    Retry,
    RunCancelled,
    RunFailed,
    StepFailed,
    current_step,
    signals,
    workflow,
)
from canx_flow.core import registry
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.store import claims, leases
from canx_flow.testing import advance, run_until_idle
from canx_flow.testing.port import InlineStore

from .kinds import each_kind

pytestmark = [pytest.mark.django_db, each_kind]

HOUR = timedelta(hours=1)
ONCE = Retry(max_attempts=1)
LATER = Retry(max_attempts=3, initial=60, factor=1, jitter=0)
SAFE = "flight hotel"


class Crash(KeyboardInterrupt):
    """Ends an inline worker in the middle of what it does, as a kill would."""


class CardDeclined(Exception):  # noqa: N818 - reads as users would name it
    """What no other attempt mends."""


class Trip:
    """A booking of several things, each of which can be undone; what was called for them, in order.

    `on`: what is to happen within a call, by its name: `book hotel`, `undo hotel`.
    """

    def __init__(self, kind: Any, name: str) -> None:
        self.calls: list[str] = []
        self.on: dict[str, Callable[[], object]] = {}
        self.retry = ONCE
        self.after: Callable[[Any], Any] | None = None
        self.waits = True
        #: What a deployment has added to the body: a step before the others, questions.
        self.added = ""
        self.asks = False
        self.flow = workflow(f"undo.{name}.{kind.__name__}", kind(self.body))

    async def body(self, ctx: Any, things: str = SAFE) -> str:
        """Book these things, then wait for a word."""
        if self.asks:
            ctx.now()
            ctx.patched("asks")
        for thing in [*self.added.split(), *things.split()]:
            await ctx.step(thing, self.book, thing, compensate=self.undo, retry=self.retry)
        if self.after is not None:
            await self.after(ctx)
        return str(await ctx.wait_for("word", "word")) if self.waits else "there"

    def book(self, thing: str) -> dict[str, str]:
        self._call("book", thing)
        return {"booked": thing}

    def undo(self, booking: dict[str, str]) -> None:
        self._call("undo", booking["booked"])

    def _call(self, verb: str, thing: str) -> None:
        self.calls.append(f"{verb} {thing}")
        if (happens := self.on.get(f"{verb} {thing}")) is not None:
            happens()

    def suspended(self, things: str = SAFE, **options: Any) -> UUID:
        """A run that has booked these things, and waits."""
        run_id = self.flow.using(**options).start(things)
        run_until_idle()
        assert self.state(run_id) == "waiting"
        return run_id

    def state(self, run_id: UUID) -> str:
        return self.flow.status(run_id).state

    def undone(self) -> list[str]:
        """What was undone, in order."""
        return [call.removeprefix("undo ") for call in self.calls if call.startswith("undo ")]


@pytest.fixture
def trip(kind: Any, request: pytest.FixtureRequest) -> Trip:
    """A trip of this test's own."""
    return Trip(kind, request.node.originalname)


def raising(error: BaseException) -> Callable[[], object]:
    """A call that raises this."""

    def fails() -> None:
        raise error

    return fails


def once(happens: Callable[[], object]) -> Callable[[], object]:
    """The same for the first call alone."""
    left = [happens]
    return lambda: left.pop()() if left else None


def records(run_id: UUID) -> dict[str, str]:
    """The undo records of a run, with their states."""
    return dict(StepRecord.objects.filter(run_id=run_id, kind="undo").values_list("name", "state"))


def row(run_id: UUID) -> WorkflowRun:
    """The run as it is stored."""
    return WorkflowRun.objects.get(id=run_id)


# -- cancel ----------------------------------------------------------------------------------------


def test_c085_a_cancelled_run_is_undone_newest_result_first(trip: Trip) -> None:
    """C085: each undo gets the stored result of its step, and then the run is cancelled with the reason given."""
    run_id = trip.suspended()
    assert trip.flow.cancel(run_id, "asked by phone", by="support") is True
    assert (trip.state(run_id), row(run_id).ready) == ("stopping", True)
    assert trip.undone() == []
    assert run_until_idle() == 1
    assert trip.calls == ["book flight", "book hotel", "undo hotel", "undo flight"]
    status = trip.flow.status(run_id)
    assert (status.state, status.reason, status.error) == ("cancelled", "asked by phone", None)
    assert records(run_id) == {"hotel[undo]": "completed", "flight[undo]": "completed"}
    assert not Timer.objects.filter(run_id=run_id).exists()
    with pytest.raises(RunCancelled, match="asked by phone"):
        trip.flow.result(run_id)
    assert trip.flow.cancel(run_id) is True
    assert run_until_idle() == 0


def test_c085_the_step_in_flight_is_stored_and_undone(trip: Trip) -> None:
    """C085: cancelled in the middle of a step, the run stores its result, starts nothing after it, and undoes it."""
    trip.on["book hotel"] = lambda: trip.flow.cancel(run_id, "enough")
    run_id = trip.flow.start("flight hotel car")
    run_until_idle()
    assert trip.calls == ["book flight", "book hotel", "undo hotel", "undo flight"]
    assert StepRecord.objects.get(run_id=run_id, name="hotel").state == "completed"
    assert trip.flow.status(run_id).reason == "enough"
    assert trip.state(run_id) == "cancelled"


def test_a_cancel_in_the_last_step_keeps_the_run_from_completing(trip: Trip) -> None:
    """The body returns after it: it was cancelled before, so it is undone, and not completed."""
    trip.waits = False
    trip.on["book hotel"] = lambda: trip.flow.cancel(run_id)
    run_id = trip.flow.start()
    run_until_idle()
    assert (trip.state(run_id), trip.undone()) == ("cancelled", ["hotel", "flight"])
    assert trip.flow.status(run_id).result is None


def test_a_failed_attempt_in_flight_is_not_tried_again(trip: Trip) -> None:
    """The step in flight may finish, without further attempts: it has no result, so it is not undone."""
    trip.retry = LATER

    def cancelled_and_fails() -> None:
        trip.flow.cancel(run_id)
        raise CardDeclined

    trip.on["book hotel"] = cancelled_and_fails
    run_id = trip.flow.start()
    run_until_idle()
    advance(HOUR)
    assert trip.calls == ["book flight", "book hotel", "undo flight"]
    assert trip.state(run_id) == "cancelled"


def test_a_run_with_nothing_to_undo_ends_in_the_callers_transaction(trip: Trip) -> None:
    """Where no compensated step was called, a cancel ends the run at once, as ever."""
    run_id = trip.flow.start("")
    run_until_idle()
    assert not row(run_id).has_undo
    assert trip.flow.cancel(run_id)
    assert trip.state(run_id) == "cancelled"
    assert run_until_idle() == 0


def test_that_there_is_something_to_undo_is_stored_before_the_first_call(trip: Trip) -> None:
    """A cancel that comes at any later moment finds it, and leaves the end to a worker."""
    seen: list[bool] = []
    trip.on["book flight"] = lambda: seen.append(trip.flow.runs.get().has_undo)
    trip.suspended()
    assert seen == [True]


@pytest.mark.parametrize("state", ["pending", "paused", "parked", "sleeping", "retrying"])
def test_a_run_is_undone_from_every_state(trip: Trip, state: str) -> None:
    """Wherever no worker has it: it is stopping then, and ready."""

    async def after(ctx: Any) -> None:
        if state == "sleeping":
            await ctx.sleep("nap", HOUR)
        elif state == "retrying":
            await ctx.step("flaky", raising(ValueError()), retry=LATER)

    trip.after = after
    run_id = trip.flow.start()
    run_until_idle()
    if state == "pending":
        trip.flow.send(run_id, "word")
        WorkflowRun.objects.filter(id=run_id).update(state="pending", ready=True)
    elif state == "paused":
        assert trip.flow.pause(run_id)
    elif state == "parked":
        WorkflowRun.objects.filter(id=run_id).update(state="parked", reason="HistoryMismatch: gone by now", error="{}")
    assert trip.state(run_id) == state
    assert trip.flow.cancel(run_id, "enough")
    assert (trip.state(run_id), row(run_id).ready, row(run_id).owner_id) == ("stopping", True, None)
    assert not Timer.objects.filter(run_id=run_id).exists()
    run_until_idle()
    status = trip.flow.status(run_id)
    assert (status.state, status.reason, status.error) == ("cancelled", "enough", None)
    assert trip.undone() == ["hotel", "flight"]


def test_bulk_cancel_counts_what_is_undone_as_stopping(trip: Trip) -> None:
    """It says so of runs that have something to undo, and ends the others."""
    trip.suspended()
    trip.flow.start("")
    run_until_idle()
    assert trip.flow.runs.all().cancel() == {"cancelled": 1, "stopping": 1, "unchanged": 0}
    assert trip.flow.runs.all().cancel() == {"cancelled": 0, "stopping": 0, "unchanged": 2}
    run_until_idle()
    assert set(trip.flow.runs.values_list("state", flat=True)) == {"cancelled"}


# -- failure and deadline --------------------------------------------------------------------------


def test_c096_a_run_that_fails_is_undone_over_a_crash(trip: Trip) -> None:
    """C096: steps 1 to 3 are undone as 3, 2, 1, each once, though the worker dies in the midst of it."""
    trip.on["book hike"] = raising(CardDeclined("no"))
    trip.on["undo hotel"] = once(raising(Crash()))
    run_id = trip.flow.start("flight hotel car hike")
    with pytest.raises(Crash):
        run_until_idle()
    assert (trip.state(run_id), records(run_id)["car[undo]"]) == ("stopping", "completed")
    run_until_idle()
    assert trip.undone() == ["car", "hotel", "hotel", "flight"]  # The call that was cut off is repeated.
    status = trip.flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "StepFailed")
    assert status.error is not None
    assert status.error["step"] == "hike"
    with pytest.raises(RunFailed, match="hike"):
        trip.flow.result(run_id)


def test_a_step_without_a_result_is_not_undone(trip: Trip) -> None:
    """The step that fails the run has its undo registered, and stored nothing."""
    trip.on["book hotel"] = raising(CardDeclined())
    run_id = trip.flow.start()
    run_until_idle()
    assert trip.undone() == ["flight"]
    assert trip.state(run_id) == "failed"


def test_a_failure_that_the_body_catches_undoes_nothing(trip: Trip) -> None:
    """Undo belongs to the end of a run; a run that completes keeps what it has done."""

    async def after(ctx: Any) -> None:
        try:
            await ctx.step("car", raising(CardDeclined()), retry=ONCE, compensate=trip.undo)
        except StepFailed:
            await ctx.step("tram", trip.book, "tram")

    trip.after = after
    run_id = trip.suspended()
    trip.flow.send(run_id, "word", "fine")
    run_until_idle()
    assert (trip.state(run_id), trip.undone()) == ("completed", [])
    assert row(run_id).has_undo


def test_caught_failures_are_raised_again_while_the_body_is_replayed(trip: Trip) -> None:
    """So the replay comes to what the body did after them, and undoes that, too."""

    async def after(ctx: Any) -> None:
        try:
            await ctx.step("car", raising(CardDeclined()), retry=ONCE)
        except StepFailed as error:
            tram = "tram" if error.is_a(CardDeclined) else "no tram"
            await ctx.step("tram", trip.book, tram, compensate=trip.undo)

    trip.after = after
    trip.flow.cancel(trip.suspended())
    run_until_idle()
    assert trip.undone() == ["tram", "hotel", "flight"]


def test_c131_a_deadline_undoes_and_then_fails(trip: Trip) -> None:
    """C131: as if it were cancelled, but the run ends failed, with RunTimedOut."""
    run_id = trip.suspended(timeout=HOUR)
    advance(HOUR)
    assert trip.undone() == ["hotel", "flight"]
    status = trip.flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "RunTimedOut")
    assert not Timer.objects.filter(run_id=run_id, held=False).exists()


def test_the_deadline_of_a_stopping_run_does_nothing_more(trip: Trip) -> None:
    """How it ends is decided: it goes on with its undo, and is cancelled."""
    trip.retry = LATER
    trip.on["undo hotel"] = once(raising(CardDeclined()))
    trip.on["book hotel"] = lambda: trip.flow.cancel(run_id, "enough")
    run_id = trip.flow.using(timeout=30).start()
    run_until_idle()
    assert trip.state(run_id) == "stopping"
    advance(40)
    assert (trip.state(run_id), trip.undone()) == ("stopping", ["hotel"])
    advance(60)
    assert (trip.state(run_id), trip.flow.status(run_id).reason) == ("cancelled", "enough")
    assert trip.undone() == ["hotel", "hotel", "flight"]


def test_signals_tell_of_the_end_when_it_has_come(trip: Trip, django_capture_on_commit_callbacks: Any) -> None:
    """`run_failed` is sent once, after the undo steps, each of which is a step that has completed."""
    told: list[str] = []

    def failed(**kwargs: Any) -> None:
        told.append("failed")

    def completed(step: str, **kwargs: Any) -> None:
        told.append(step)

    trip.on["book car"] = raising(CardDeclined())
    signals.run_failed.connect(failed)
    signals.step_completed.connect(completed)
    try:
        trip.flow.start("flight hotel car")
        run_until_idle()
    finally:
        signals.run_failed.disconnect(failed)
        signals.step_completed.disconnect(completed)
    assert told == ["flight", "hotel", "hotel[undo]", "flight[undo]", "failed"]


# -- how undo steps run ----------------------------------------------------------------------------


def test_an_undo_is_retried_by_the_policy_of_its_step(trip: Trip) -> None:
    """Between its attempts the run is stopping, has no owner, is not ready, and holds nothing but a timer."""
    trip.retry = LATER
    trip.on["undo hotel"] = once(raising(CardDeclined("not now")))
    run_id = trip.suspended()
    trip.flow.cancel(run_id)
    run_until_idle()
    assert (row(run_id).state, row(run_id).ready, row(run_id).owner_id) == ("stopping", False, None)
    status = trip.flow.status(run_id)
    assert (status.step, status.attempt) == ("hotel[undo]", 2)
    assert [(wait.step, wait.kind) for wait in status.waits] == [("hotel[undo]", "retry")]
    assert status.resume_at is not None
    assert run_until_idle() == 0
    advance(61)
    assert trip.undone() == ["hotel", "hotel", "flight"]
    assert StepRecord.objects.get(run_id=run_id, name="hotel[undo]").attempts == 2
    assert trip.state(run_id) == "cancelled"


def test_wake_brings_the_next_attempt_of_an_undo_nearer(trip: Trip) -> None:
    """The timer of an undo is the nearest one of a stopping run; a stopping run without one is not woken."""
    trip.retry = LATER
    trip.on["undo hotel"] = once(raising(CardDeclined()))
    run_id = trip.suspended()
    trip.flow.cancel(run_id)
    assert trip.flow.wake(run_id) is False
    run_until_idle()
    assert trip.flow.wake(run_id) is True
    run_until_idle()
    assert trip.state(run_id) == "cancelled"


def test_a_crash_keeps_the_attempts_of_an_undo(trip: Trip) -> None:
    """The count is stored, and so is the moment of the next attempt; a crash adds none."""
    trip.retry = LATER
    failing: list[BaseException] = [CardDeclined(), Crash(), CardDeclined(), CardDeclined()]

    def fails() -> None:
        raise failing.pop(0)

    trip.on["undo hotel"] = fails
    run_id = trip.suspended()
    trip.flow.cancel(run_id)
    run_until_idle()
    with pytest.raises(Crash):
        advance(61)
    run_until_idle()
    advance(61)
    assert trip.undone() == ["hotel"] * 4 + ["flight"]
    assert StepRecord.objects.get(run_id=run_id, name="hotel[undo]").attempts == 3
    assert (trip.state(run_id), trip.flow.status(run_id).reason) == ("cancelled", "UndoFailed")


def test_an_undo_that_fails_for_good_is_recorded_and_the_others_go_on(trip: Trip) -> None:
    """The end says so: cancelled, with UndoFailed for a reason; the record has the error."""
    trip.on["undo hotel"] = raising(CardDeclined("no account"))
    run_id = trip.suspended("flight hotel car")
    trip.flow.cancel(run_id, "enough")
    run_until_idle()
    assert trip.undone() == ["car", "hotel", "flight"]
    assert records(run_id) == {"car[undo]": "completed", "hotel[undo]": "failed", "flight[undo]": "completed"}
    assert "no account" in str(StepRecord.objects.get(run_id=run_id, name="hotel[undo]").errors)
    status = trip.flow.status(run_id)
    assert (status.state, status.reason) == ("cancelled", "UndoFailed")
    assert row(run_id).control_reason == "enough"


def test_an_undo_that_gives_up_is_not_tried_again(trip: Trip) -> None:
    """GiveUp means the same in an undo as in any step."""
    trip.retry = LATER
    trip.on["undo hotel"] = raising(GiveUp("sold"))
    trip.flow.cancel(trip.suspended())
    run_until_idle()
    assert trip.undone() == ["hotel", "flight"]


def test_a_failed_run_keeps_its_error_beside_undo_failed(trip: Trip) -> None:
    """Its reason says that not all is undone, its error why it has failed."""
    trip.on["book hotel"] = raising(CardDeclined("no"))
    trip.on["undo flight"] = raising(ValueError("too late"))
    run_id = trip.flow.start()
    run_until_idle()
    status = trip.flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "UndoFailed")
    assert status.error is not None
    assert "CardDeclined" in status.error["message"]


def test_an_undo_is_a_step_with_a_key_and_an_identity_of_its_own(trip: Trip) -> None:
    """`current_step` names it, and gives it an idempotency key that is not its step's and outlives a crash."""
    seen: list[tuple[str, int, str]] = []

    def note() -> None:
        this = current_step()
        seen.append((this.name, this.attempt, this.idempotency_key))

    trip.on = {"book flight": note, "undo flight": lambda: (note(), dying())}
    dying = once(raising(Crash()))
    trip.flow.cancel(trip.suspended("flight"))
    with pytest.raises(Crash):
        run_until_idle()
    run_until_idle()
    assert [(name, attempt) for name, attempt, _ in seen] == [("flight", 1), ("flight[undo]", 1), ("flight[undo]", 1)]
    assert seen[0][2] != seen[1][2] == seen[2][2]


def test_a_step_in_a_loop_is_undone_once_for_each_result(trip: Trip) -> None:
    """Its keys are those of the uses of its name."""
    run_id = trip.suspended("flight flight flight")
    trip.flow.cancel(run_id)
    run_until_idle()
    assert set(records(run_id)) == {"flight[undo]", "flight#2[undo]", "flight#3[undo]"}
    by_seq = StepRecord.objects.filter(run_id=run_id, kind="undo").order_by("seq").values_list("name", flat=True)
    assert list(by_seq) == ["flight#3[undo]", "flight#2[undo]", "flight[undo]"]


def test_what_an_undo_returns_need_not_be_storable(trip: Trip) -> None:
    """Nobody reads it, and undone it is: a retry would undo it twice."""

    async def after(ctx: Any) -> None:
        await ctx.step("car", trip.book, "car", compensate=lambda _booking: object())
        await ctx.step("hike", trip.book, "hike", compensate=lambda booking: [booking["booked"]])

    trip.after = after
    run_id = trip.suspended("")
    trip.flow.cancel(run_id)
    run_until_idle()
    assert trip.flow.status(run_id).reason == ""
    results = StepRecord.objects.filter(run_id=run_id, kind="undo").values_list("name", "result")
    assert dict(results) == {"car[undo]": None, "hike[undo]": '["hike"]'}


def test_an_undo_may_be_async(trip: Trip) -> None:
    """As any step's function may, in either kind of workflow."""

    async def undo(booking: dict[str, str]) -> None:
        trip.undo(booking)

    async def after(ctx: Any) -> None:
        await ctx.step("car", trip.book, "car", compensate=undo, timeout=30)

    trip.after = after
    trip.flow.cancel(trip.suspended())
    run_until_idle()
    assert trip.undone() == ["car", "hotel", "flight"]


def test_atomic_and_at_most_once_steps_are_undone_by_plain_steps(trip: Trip) -> None:
    """An undo has the retry and timeout of its step, nothing else of it; without `retry` it has the workflow's."""

    async def after(ctx: Any) -> None:
        await ctx.step("car", trip.book, "car", compensate=trip.undo, atomic=True)
        await ctx.step("hike", trip.book, "hike", compensate=trip.undo, at_most_once=True)

    trip.after = after
    trip.on["undo hike"] = once(raising(Crash()))
    run_id = trip.suspended("flight")
    trip.flow.cancel(run_id)
    with pytest.raises(Crash):
        run_until_idle()
    trip.on["undo car"] = once(raising(CardDeclined()))
    advance(HOUR)
    assert trip.undone() == ["hike", "hike", "car", "car", "flight"]
    assert trip.flow.status(run_id).reason == ""


# -- the replay of the body ------------------------------------------------------------------------


def test_the_body_is_replayed_without_doing_anything_new(trip: Trip) -> None:
    """No step is called, no timer opened, no event read, nothing published or logged: it is left where it stood."""
    lines: list[str] = []
    stopping: list[bool] = []

    async def after(ctx: Any) -> None:
        if stopping:
            lines.append(f"replaying {ctx.is_replaying}")
            ctx.set_attributes(stage="stopping")
            ctx.progress(99)
            ctx.log.error("said while it is stopping")
        await ctx.wait_for("go", "go", timeout=HOUR)
        ctx.now()
        await ctx.step("never", trip.book, "never", compensate=trip.undo)

    trip.after = after
    run_id = trip.suspended()
    before = StepRecord.objects.filter(run_id=run_id).count()
    trip.flow.send(run_id, "go")
    stopping.append(True)
    trip.flow.cancel(run_id)
    run_until_idle()
    assert trip.calls == ["book flight", "book hotel", "undo hotel", "undo flight"]
    assert lines == ["replaying True"]
    assert (row(run_id).attributes, row(run_id).progress) == ({}, None)
    assert StepRecord.objects.filter(run_id=run_id).count() == before + 2
    assert Event.objects.get(run_id=run_id).consumed_at is None


def test_nothing_is_logged_while_the_body_is_replayed(trip: Trip, caplog: pytest.LogCaptureFixture) -> None:
    """Not even behind the last step on record, where another activation would log."""

    async def after(ctx: Any) -> None:
        ctx.log.warning("booked")

    trip.after = after
    run_id = trip.suspended()
    assert [record.message for record in caplog.records].count("booked") == 1
    trip.flow.cancel(run_id)
    run_until_idle()
    assert [record.message for record in caplog.records].count("booked") == 1


def test_a_body_that_swallows_everything_is_undone_all_the_same(trip: Trip) -> None:
    """It may catch what leaves it: every further call raises that again, and what it returns is ignored."""

    async def after(ctx: Any) -> None:
        for name in ("car", "hike"):
            with suppress(BaseException):
                await ctx.step(name, trip.book, name, compensate=trip.undo)

    trip.after = after
    trip.on["book car"] = lambda: trip.flow.cancel(run_id)
    run_id = trip.flow.start()
    run_until_idle()
    assert trip.calls[:3] == ["book flight", "book hotel", "book car"]
    assert trip.undone() == ["car", "hotel", "flight"]
    assert trip.state(run_id) == "cancelled"


def test_code_that_no_longer_registers_an_undo_undoes_nothing(trip: Trip) -> None:
    """The list is made by today's code, as long as nothing of it is on record."""
    run_id = trip.suspended()
    trip.undo = None  # type: ignore[assignment, method-assign]
    trip.flow.cancel(run_id)
    run_until_idle()
    assert (trip.state(run_id), records(run_id)) == ("cancelled", {})


def test_code_that_loses_an_undo_midway_parks_the_run(trip: Trip) -> None:
    """Once they are on record, an undo that is missing is no reason to end: a person must look at it."""
    trip.retry = LATER
    trip.on["undo hotel"] = once(raising(CardDeclined()))
    run_id = trip.suspended()
    trip.flow.cancel(run_id, "enough")
    run_until_idle()
    undo, trip.undo = trip.undo, None  # type: ignore[assignment, method-assign]
    advance(61)
    status = trip.flow.status(run_id)
    assert status.state == "parked"
    assert "flight[undo]" in status.reason
    trip.undo = undo  # type: ignore[method-assign]
    run_until_idle()
    assert (trip.state(run_id), trip.flow.status(run_id).reason) == ("cancelled", "enough")
    assert trip.undone() == ["hotel", "hotel", "flight"]


def test_code_that_does_something_new_before_a_result_parks_the_run(trip: Trip) -> None:
    """The replay would end there, and what comes behind it would not be undone: a person must look at it."""
    run_id = trip.suspended("flight hotel")
    trip.added = "visa"
    trip.flow.cancel(run_id, "enough")
    run_until_idle()
    status = trip.flow.status(run_id)
    assert status.state == "parked"
    assert "HistoryMismatch" in status.reason
    assert "'flight'" in status.reason
    assert trip.undone() == []
    trip.added = ""
    run_until_idle()
    assert (trip.state(run_id), trip.undone()) == ("cancelled", ["hotel", "flight"])


def test_a_step_that_was_removed_is_ignored(trip: Trip) -> None:
    """Where the code goes on to what came behind it, nothing of it can be lost: there is no undo of it."""
    run_id = trip.suspended("flight hotel car")
    WorkflowRun.objects.filter(id=run_id).update(arguments='[["flight car"],{}]')
    trip.flow.cancel(run_id)
    run_until_idle()
    assert (trip.state(run_id), trip.undone()) == ("cancelled", ["car", "flight"])


def test_answers_that_are_not_on_record_end_no_replay(trip: Trip) -> None:
    """`now` and `patched` wait for nothing: code that asks for them before a result is replayed to its end."""
    run_id = trip.suspended()
    trip.asks = True
    trip.flow.cancel(run_id)
    run_until_idle()
    assert (trip.state(run_id), trip.undone()) == ("cancelled", ["hotel", "flight"])
    assert not StepRecord.objects.filter(run_id=run_id, kind__in=("now", "patch")).exists()


def test_a_new_generation_undoes_nothing_of_those_before(trip: Trip) -> None:
    """It begins with an empty history; a cancel undoes what it has done itself, as far as the body goes."""

    async def after(ctx: Any) -> None:
        if trip.calls.count("book flight") == 1:
            trip.on["book flight"] = cancelled
            ctx.continue_as_new("flight car")

    def cancelled() -> None:
        trip.flow.cancel(run_id)

    trip.after = after
    run_id = trip.flow.start()
    run_until_idle()
    assert trip.calls == ["book flight", "book hotel", "book flight", "undo flight"]
    assert trip.state(run_id) == "cancelled"


def test_a_cancel_before_a_new_generation_undoes_the_old_one(trip: Trip) -> None:
    """The body would have begun anew: its end was decided before."""

    async def after(ctx: Any) -> None:
        ctx.continue_as_new("car")

    trip.after = after
    trip.on["book hotel"] = lambda: trip.flow.cancel(run_id)
    run_id = trip.flow.start()
    run_until_idle()
    assert (trip.state(run_id), trip.undone()) == ("cancelled", ["hotel", "flight"])
    assert row(run_id).generation == 0


def test_a_fork_undoes_what_it_was_given(trip: Trip) -> None:
    """Its copied records are its own results; the undo steps of the other run are not copied."""
    run_id = trip.suspended("flight hotel car")
    trip.flow.cancel(run_id)
    run_until_idle()
    trip.calls.clear()
    fork = trip.flow.fork(run_id, "car")
    assert records(fork) == {}
    run_until_idle()
    trip.flow.cancel(fork)
    run_until_idle()
    assert trip.calls == ["book car", "undo car", "undo hotel", "undo flight"]
    with pytest.raises(ValueError, match="has no step"):
        trip.flow.fork(run_id, "car[undo]")


def test_an_undo_that_a_deployment_adds_counts_from_its_next_commit(trip: Trip) -> None:
    """A run that replays its steps under code which undoes them is undone."""
    undo, trip.undo = trip.undo, None  # type: ignore[assignment, method-assign]
    run_id = trip.suspended()
    assert not row(run_id).has_undo
    trip.undo = undo  # type: ignore[method-assign]
    trip.after = lambda ctx: ctx.step("car", trip.book, "car")
    WorkflowRun.objects.filter(id=run_id).update(state="pending", ready=True)
    run_until_idle()
    assert row(run_id).has_undo
    trip.flow.cancel(run_id)
    run_until_idle()
    assert trip.undone() == ["hotel", "flight"]


# -- branches and items ----------------------------------------------------------------------------


def _each_branch(trip: Trip, things: dict[str, str]) -> dict[str, Any]:
    """Branches that each book some things; a `!` at the end of them waits for a word."""

    def of(some: str) -> Any:
        async def branch(ctx: Any) -> str:
            for thing in some.rstrip("!").split():
                await ctx.step(thing, trip.book, thing, compensate=trip.undo, retry=ONCE)
            if some.endswith("!"):
                await ctx.wait_for("word", "word")
            return some

        return branch

    return {name: of(some) for name, some in things.items()}


def test_steps_in_branches_are_undone(trip: Trip) -> None:
    """Those of branches that have ended, and of such as wait, in the order of their results; and what came before."""

    async def after(ctx: Any) -> None:
        await ctx.gather(**_each_branch(trip, {"left": "hotel", "right": "car !"}))

    trip.after = after
    run_id = trip.suspended("flight")
    trip.flow.cancel(run_id)
    run_until_idle()
    assert trip.state(run_id) == "cancelled"
    assert set(records(run_id)) == {"flight[undo]", "left/hotel[undo]", "right/car[undo]"}
    ended = StepRecord.objects.filter(run_id=run_id, kind="step").order_by("-seq").values_list("name", flat=True)
    assert trip.undone() == [name.rpartition("/")[2] for name in ended]


def test_a_gather_that_fails_has_all_its_branches_undone(trip: Trip) -> None:
    """Also the results of those that have not failed, whether the body was waiting for them or not."""

    async def after(ctx: Any) -> None:
        await ctx.gather(**_each_branch(trip, {"left": "hotel", "right": "car hike", "wait": "tram !"}))

    trip.after = after
    trip.on["book hike"] = raising(CardDeclined())
    run_id = trip.flow.start("flight")
    run_until_idle()
    status = trip.flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "StepFailed")
    assert trip.undone()[-1] == "flight"
    booked = [call.removeprefix("book ") for call in trip.calls if call.startswith("book ")]
    assert sorted(trip.undone()) == sorted(set(booked) - {"hike"})


def test_the_losers_of_a_race_are_undone(trip: Trip) -> None:
    """What they have stored is there, though nobody reads it."""

    async def after(ctx: Any) -> None:
        await ctx.race(**_each_branch(trip, {"slow": "hotel !", "fast": "car"}))

    trip.after = after
    run_id = trip.suspended("flight")
    trip.flow.cancel(run_id)
    run_until_idle()
    assert trip.state(run_id) == "cancelled"
    booked = [call.removeprefix("book ") for call in trip.calls if call.startswith("book ")]
    assert sorted(trip.undone()) == sorted(booked)
    assert trip.undone()[-1] == "flight"


@pytest.mark.parametrize("fails", [False, True], ids=["mapped", "midway"])
def test_items_of_a_map_are_undone(trip: Trip, fails: bool) -> None:
    """Each result, the last one first, whether the map has come to its end or one of its items has failed the run."""

    async def after(ctx: Any) -> None:
        await ctx.map("book", trip.book, ["a", "b", "c"], compensate=trip.undo, retry=ONCE, concurrency=1)

    trip.after = after
    if fails:
        trip.on["book c"] = raising(CardDeclined())
        run_id = trip.flow.start("flight")
        run_until_idle()
    else:
        run_id = trip.suspended("flight")
        trip.flow.cancel(run_id)
        run_until_idle()
    assert trip.state(run_id) == ("failed" if fails else "cancelled")
    assert trip.undone() == (["b", "a", "flight"] if fails else ["c", "b", "a", "flight"])
    assert "book[0][undo]" in records(run_id)


def test_a_branch_that_today_s_code_lacks_parks_the_run(trip: Trip) -> None:
    """Its results would not be undone."""
    things = {"left": "hotel", "right": "car"}

    async def after(ctx: Any) -> None:
        await ctx.gather(**_each_branch(trip, things))

    trip.after = after
    run_id = trip.suspended("flight")
    del things["right"]
    trip.flow.cancel(run_id)
    run_until_idle()
    assert trip.state(run_id) == "parked"
    things["right"] = "car"
    run_until_idle()
    assert (trip.state(run_id), sorted(trip.undone())) == ("cancelled", ["car", "flight", "hotel"])


# -- crashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("fails", [False, True], ids=["cancelled", "failed"])
def test_a_crash_at_every_write_undoes_each_once(
    trip: Trip, monkeypatch: pytest.MonkeyPatch, stored: bool, fails: bool
) -> None:
    """The worker dies right before, or right after, each write from the decision to the end: same end, same records.

    A call whose result was stored is never repeated; one whose was not is repeated once.
    """
    write, dying = InlineStore._write, [-1]

    def dies(self: Any, change: Any) -> Any:
        dying[0] -= 1
        if dying[0] == 0 and not stored:
            raise Crash
        outcome = write(self, change)
        if dying[0] == 0:
            raise Crash
        return outcome

    monkeypatch.setattr(InlineStore, "_write", dies)
    if fails:
        trip.on["book car"] = raising(CardDeclined())
    for number in range(1, 30):
        trip.calls.clear()
        dying[0] = number if fails else -1
        run_id = trip.flow.start("flight hotel car" if fails else SAFE)
        crashed = _crashed()
        if not fails:
            dying[0] = number
            trip.flow.cancel(run_id, "enough")
            crashed = _crashed()
        run_until_idle()
        status = trip.flow.status(run_id)
        assert (status.state, status.reason) == (("failed", "StepFailed") if fails else ("cancelled", "enough"))
        assert records(run_id) == {"hotel[undo]": "completed", "flight[undo]": "completed"}
        assert list(dict.fromkeys(trip.undone())) == ["hotel", "flight"]
        assert len(trip.calls) - len(set(trip.calls)) <= (0 if stored else 1)
        if not crashed:
            assert number > 3
            return
    raise AssertionError("there is no end of writes")


def _crashed() -> bool:
    try:
        run_until_idle()
    except Crash:
        return True
    return False


# -- no undo ---------------------------------------------------------------------------------------


def test_without_undo_a_cancel_ends_a_suspended_run_at_once(trip: Trip) -> None:
    """Nothing is undone, and no worker is needed for its end."""
    run_id = trip.suspended()
    assert trip.flow.cancel(run_id, undo=False) is True
    assert trip.state(run_id) == "cancelled"
    run_until_idle()
    assert trip.undone() == []


def test_without_undo_the_step_in_flight_is_stored_and_not_undone(trip: Trip) -> None:
    """The same of a run that a worker has, also where its first compensated step is in flight."""
    trip.on["book flight"] = lambda: trip.flow.cancel(run_id, undo=False)
    run_id = trip.flow.start()
    run_until_idle()
    assert trip.calls == ["book flight"]
    assert StepRecord.objects.get(run_id=run_id, name="flight").state == "completed"
    assert trip.state(run_id) == "cancelled"


def test_without_undo_what_is_left_of_a_stopping_run_is_left_out(trip: Trip) -> None:
    """One that waits for an attempt of an undo ends at once, one that a worker has after the undo in flight."""
    trip.retry = LATER
    trip.on["undo hotel"] = raising(CardDeclined())
    waiting = trip.suspended()
    trip.flow.cancel(waiting, "enough")
    run_until_idle()
    assert trip.flow.cancel(waiting, "leave it", undo=False) is True
    status = trip.flow.status(waiting)
    assert (status.state, status.reason) == ("cancelled", "enough")
    assert not Timer.objects.filter(run_id=waiting).exists()

    trip.on["undo hotel"] = lambda: trip.flow.cancel(under_way, undo=False)
    under_way = trip.suspended()
    trip.flow.cancel(under_way)
    run_until_idle()
    assert trip.state(under_way) == "cancelled"
    assert records(under_way) == {"hotel[undo]": "completed", "flight[undo]": "due"}


def test_a_run_that_will_fail_is_not_cancelled_without_undo_either(trip: Trip) -> None:
    """`False`, and it goes on with its undo."""
    trip.retry = LATER
    trip.on["undo flight"] = once(raising(CardDeclined()))
    trip.on["book hotel"] = raising(GiveUp("no"))
    run_id = trip.flow.start()
    run_until_idle()
    assert trip.state(run_id) == "stopping"
    assert trip.flow.cancel(run_id) is False
    assert trip.flow.cancel(run_id, undo=False) is False
    advance(61)
    assert (trip.state(run_id), trip.undone()) == ("failed", ["flight", "flight"])


# -- pause, retry, and the table of states and calls -------------------------------------------------


def test_a_stopping_run_is_not_paused(trip: Trip) -> None:
    """Pause and resume answer False, and change nothing, at any moment of it."""
    trip.retry = LATER
    trip.on["undo hotel"] = once(raising(CardDeclined()))
    run_id = trip.suspended()
    trip.flow.cancel(run_id)
    for _ in range(2):
        assert trip.flow.pause(run_id) is False
        assert trip.flow.resume(run_id) is False
        assert trip.state(run_id) == "stopping"
        run_until_idle()
    with pytest.raises(InvalidState):
        trip.flow.retry(run_id)
    assert trip.flow.send(run_id, "word") is True


def test_a_failed_run_that_was_undone_is_not_retried(trip: Trip) -> None:
    """InvalidState once an undo has run: what its steps did is no longer there."""
    trip.on["book hotel"] = raising(CardDeclined())
    run_id = trip.flow.start()
    run_until_idle()
    with pytest.raises(InvalidState, match="undone: fork it"):
        trip.flow.retry(run_id)
    assert trip.flow.runs.filter(id=run_id).retry() == {"retried": 0, "unchanged": 1}
    assert trip.state(run_id) == "failed"


def test_a_failed_run_of_which_nothing_was_undone_is_retried(trip: Trip) -> None:
    """A run with compensate whose first step has failed goes on as any other."""
    trip.on["book flight"] = once(raising(CardDeclined()))
    run_id = trip.flow.start()
    run_until_idle()
    assert (trip.state(run_id), trip.undone()) == ("failed", [])
    assert trip.flow.retry(run_id)
    run_until_idle()
    assert trip.state(run_id) == "waiting"
    trip.flow.cancel(run_id)
    run_until_idle()
    assert trip.undone() == ["hotel", "flight"]


def test_retry_runs_failed_undos_again_and_only_those(trip: Trip) -> None:
    """It stays a failed run, with the reason of its failure once all is undone."""
    trip.on["book car"] = raising(CardDeclined())
    trip.on["undo flight"] = once(raising(ValueError("not yet")))
    run_id = trip.flow.start("flight hotel car")
    run_until_idle()
    assert (trip.state(run_id), trip.flow.status(run_id).reason) == ("failed", "UndoFailed")
    assert trip.flow.retry(run_id) is True
    assert trip.state(run_id) == "stopping"
    run_until_idle()
    assert trip.undone() == ["hotel", "flight", "flight"]
    assert (trip.state(run_id), trip.flow.status(run_id).reason) == ("failed", "StepFailed")
    with pytest.raises(InvalidState):
        trip.flow.retry(run_id)


def test_a_cancelled_run_is_never_retried(trip: Trip) -> None:
    """Not even where an undo of it has failed."""
    trip.on["undo flight"] = raising(ValueError("no"))
    run_id = trip.suspended("flight")
    trip.flow.cancel(run_id)
    run_until_idle()
    with pytest.raises(InvalidState):
        trip.flow.retry(run_id)


# -- parked with its end decided ---------------------------------------------------------------------


def _kind_of(trip: Trip, name: str, kind: str) -> None:
    """Let history say that this step was of another kind."""
    StepRecord.objects.filter(name=name, run__workflow=trip.flow.name).update(kind=kind)


def test_a_history_that_does_not_fit_parks_the_run_with_its_end_decided(trip: Trip) -> None:
    """It goes on when code that fits comes, and ends with the reason of its cancel."""
    run_id = trip.suspended()
    trip.flow.cancel(run_id, "enough")
    _kind_of(trip, "hotel", "sleep")
    run_until_idle()
    status = trip.flow.status(run_id)
    assert status.state == "parked"
    assert status.reason.startswith("HistoryMismatch")
    assert trip.undone() == []
    assert trip.flow.cancel(run_id, "again") is True
    assert trip.flow.pause(run_id) is False
    assert trip.state(run_id) == "parked"
    _kind_of(trip, "hotel", "step")
    run_until_idle()
    status = trip.flow.status(run_id)
    assert (status.state, status.reason, status.error) == ("cancelled", "enough", None)
    assert trip.undone() == ["hotel", "flight"]


def test_a_failed_run_is_parked_and_keeps_its_error(trip: Trip) -> None:
    """What it has failed with is not lost by parking, not even twice; its end says it."""

    def dies() -> None:
        _kind_of(trip, "hotel", "sleep")
        raise Crash

    trip.on = {"book car": raising(CardDeclined("no money")), "undo hotel": once(dies)}
    run_id = trip.flow.start("flight hotel car")
    with pytest.raises(Crash):
        run_until_idle()
    for _ in range(2):  # Each worker that starts looks at it again.
        run_until_idle()
        assert trip.state(run_id) == "parked"
        assert trip.flow.status(run_id).reason.startswith("HistoryMismatch")
    _kind_of(trip, "hotel", "step")
    run_until_idle()
    status = trip.flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "StepFailed")
    assert status.error is not None
    assert (status.error["step"], "decided" in status.error) == ("car", False)
    assert trip.undone() == ["hotel", "hotel", "flight"]


def test_a_result_that_no_longer_decodes_parks_the_run(trip: Trip) -> None:
    """Without it nobody can tell what is to be undone."""
    run_id = trip.suspended()
    text = StepRecord.objects.get(run_id=run_id, name="hotel").result
    StepRecord.objects.filter(run_id=run_id, name="hotel").update(result="{damaged")
    trip.flow.cancel(run_id, "enough")
    run_until_idle()
    assert trip.state(run_id) == "parked"
    assert trip.flow.status(run_id).reason.startswith("NotDecodable")
    StepRecord.objects.filter(run_id=run_id, name="hotel").update(result=text)
    assert trip.flow.retry(run_id) is True
    assert trip.state(run_id) == "stopping"
    run_until_idle()
    assert (trip.state(run_id), trip.flow.status(run_id).reason) == ("cancelled", "enough")


def test_without_undo_a_parked_run_ends_at_once_as_was_decided(trip: Trip) -> None:
    """A cancelled one with the reason of its cancel, a failed one with its error."""
    cancelled, late = trip.suspended(), trip.suspended(timeout=HOUR)
    trip.flow.cancel(cancelled, "enough")
    _kind_of(trip, "hotel", "sleep")
    advance(HOUR)
    assert {trip.state(cancelled), trip.state(late)} == {"parked"}
    assert trip.flow.cancel(late) is False
    assert trip.flow.cancel(cancelled, "leave it", undo=False) is True
    assert trip.flow.cancel(late, "leave it", undo=False) is False
    status = trip.flow.status(cancelled)
    assert (status.state, status.reason, status.error) == ("cancelled", "enough", None)
    status = trip.flow.status(late)
    assert (status.state, status.reason) == ("failed", "RunTimedOut")
    assert status.error is not None
    assert status.error["type"].endswith("RunTimedOut")
    assert "decided" not in status.error
    assert trip.undone() == []


def test_a_stopping_run_whose_code_nobody_knows_is_parked(trip: Trip) -> None:
    """It is claimed only by a worker that knows its code; another one ends only what has nothing to undo."""
    run_id, other = trip.suspended(), trip.flow.start("")
    run_until_idle()
    WorkflowRun.objects.update(version="gone")
    owner = leases.register(host="elsewhere", pid=1).id
    WorkflowRun.objects.filter(id=other).update(state="stopping", ending="cancelled", ready=True)
    trip.flow.cancel(run_id, "enough")
    known = [("another", "")]
    assert [run.id for run in claims.claim(connections["default"], owner, 5, known)] == [other]
    leases.declare_dead(owner)
    leases.recover(owner)
    run_until_idle()
    assert trip.state(other) == "cancelled"
    assert trip.state(run_id) == "parked"
    assert trip.flow.status(run_id).reason.startswith("UnknownWorkflow")
    WorkflowRun.objects.update(version="")
    run_until_idle()
    assert (trip.state(run_id), trip.flow.status(run_id).reason) == ("cancelled", "enough")
    assert trip.undone() == ["hotel", "flight"]


def test_c102_an_undo_that_kills_its_workers_is_parked(trip: Trip) -> None:
    """C102: it is claimed alone from the third time on, parked after MAX_RECOVERIES, and `retry` lets it go on."""
    run_id = trip.suspended()
    trip.flow.cancel(run_id, "enough")
    for _ in range(13):
        owner = leases.register(host="elsewhere", pid=1).id
        known, connection = registry.identities(), connections["default"]
        alone = row(run_id).recoveries >= 3
        assert alone is not bool(claims.claim(connection, owner, 1, known))
        if alone:
            assert [run.id for run in claims.claim(connection, owner, 1, known, alone=True)] == [run_id]
        assert leases.declare_dead(owner)
        leases.recover(owner)
    assert trip.state(run_id) == "parked"
    assert trip.flow.status(run_id).reason.startswith("TooManyRecoveries")
    run_until_idle()
    assert trip.state(run_id) == "parked"
    assert trip.flow.retry(run_id)
    run_until_idle()
    assert (trip.state(run_id), trip.flow.status(run_id).reason) == ("cancelled", "enough")
    assert trip.undone() == ["hotel", "flight"]


# -- bad input ---------------------------------------------------------------------------------------


def _generates(booking: object) -> Iterator[object]:
    yield booking


@pytest.mark.parametrize(
    ("compensate", "named"), [("undo", "compensate must be a function"), (_generates, "generator")]
)
def test_what_cannot_undo_is_refused_at_the_call(trip: Trip, compensate: Any, named: str) -> None:
    """TypeError, before the step's function is called."""

    async def after(ctx: Any) -> None:
        await ctx.step("car", trip.book, "car", compensate=compensate)

    trip.after = after
    run_id = trip.flow.start("")
    run_until_idle()
    assert trip.state(run_id) == "failed"
    assert named in str(trip.flow.status(run_id).error)
    assert trip.calls == []


def test_a_key_needs_room_for_that_of_its_undo(trip: Trip) -> None:
    """ValueError where `<key>[undo]` would have more than 255 characters; 249 are allowed."""
    run_id = trip.flow.start("x" * 250)
    run_until_idle()
    assert "ValueError" in str(trip.flow.status(run_id).error)
    assert trip.calls == []
    trip.flow.cancel(trip.suspended("x" * 249))
    run_until_idle()
    assert trip.undone() == ["x" * 249]
