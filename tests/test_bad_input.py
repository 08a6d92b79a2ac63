"""Bad input, row by row of the contract: what is raised, what it says, and that nothing was stored or lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.forms import ModelForm

from canx_flow import (
    AsyncContext,
    CanxFlowError,
    Context,
    NotSerializable,
    PayloadTooLarge,
    Retry,
    RetryAfter,
    RunNotFound,
    WaitTimeout,
    client,
    get_run,
    send_event,
    workflow,
)
from canx_flow.core import registry
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle
from canx_flow.worker.threads import StepThreads

from .models import Effect

pytestmark = pytest.mark.django_db

body: Callable[[Context], Any] = list


@workflow("bad.body", retry=Retry(max_attempts=1))
def in_body(ctx: Context) -> Any:
    """A body that does what the test says."""
    return body(ctx)


@workflow("bad.echo")
def echo(ctx: Context, value: Any = None) -> Any:
    """Gives back what it was given, by way of a step."""
    return ctx.step("echo", lambda: value)


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def _generates() -> Any:
    yield 1


async def _generates_async() -> Any:
    yield 1


class _Callable:
    """An object that is awaited, with a method that is a generator."""

    async def __call__(self) -> str:
        """Is awaited."""
        return "awaited"

    def generates(self) -> Any:
        """Runs nothing when it is called."""
        yield 1


def _nothing_stored() -> bool:
    return not (WorkflowRun.objects.exists() or Event.objects.exists() or Timer.objects.exists())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Context], Any]], Any]:
    """Run a body to where it comes to rest; its status."""

    def go(function: Callable[[Context], Any]) -> Any:
        monkeypatch.setitem(globals(), "body", function)
        run_id = in_body.start()
        run_until_idle()
        return in_body.status(run_id)

    return go


# -- names, functions, durations, moments ----------------------------------------------------------

BAD_NAMES = ["", " charge", "charge ", "a/b", "a#2", "a[0]", "a]", "tab\t", "nul\x00", "x" * 256]


@pytest.mark.once
@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize(
    "call",
    [
        lambda ctx, name: ctx.step(name, list),
        lambda ctx, name: ctx.sleep(name, 1),
        lambda ctx, name: ctx.wait_for(name, "event"),
        lambda ctx, name: ctx.uuid(name),
    ],
    ids=["step", "sleep", "wait_for", "uuid"],
)
def test_an_ill_formed_step_name_is_refused_at_the_call(run: Any, call: Any, name: str) -> None:
    """ValueError names the step name, and no record is left."""
    status = run(lambda ctx: call(ctx, name))

    assert status.state == "failed"
    assert status.error["type"] == "builtins.ValueError"
    assert "step" in status.error["message"]
    assert not StepRecord.objects.exists()


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda ctx: ctx.step(7, list), TypeError, "step name"),
        (lambda ctx: ctx.step(["x"], list), TypeError, "step name"),
        (lambda ctx: ctx.step("x", "not callable"), TypeError, "callable"),
        (lambda ctx: ctx.step("x", []), TypeError, "callable"),
        (lambda ctx: ctx.step("x", _generates), TypeError, "is a generator"),
        (lambda ctx: ctx.step("x", partial(_generates_async)), TypeError, "is a generator"),
        (lambda ctx: ctx.step("x", _Callable().generates), TypeError, "is a generator"),
        (lambda ctx: ctx.step("x", _Callable(), atomic=True), TypeError, "atomic=True needs a plain function"),
        (lambda ctx: ctx.step("x", partial(_Callable()), atomic=True), TypeError, "atomic=True needs a plain function"),
        (lambda ctx: ctx.step("x", dict, a=1), TypeError, "functools.partial: ctx.step('x', partial(dict, a=…))"),
        (lambda ctx: ctx.step("x", dict, 1, retries=3), TypeError, "Did you mean 'retry'?"),
        (lambda ctx: ctx.step("x", list, retry=3), TypeError, "retry"),
        (lambda ctx: ctx.step("x", list, timeout=-1), ValueError, "timeout"),
        (lambda ctx: ctx.step("x", list, timeout=0), ValueError, "timeout"),
        (lambda ctx: ctx.step("x", list, timeout="1"), TypeError, "timeout"),
        (lambda ctx: ctx.step("x", list, timeout=True), TypeError, "timeout"),
        (lambda ctx: ctx.sleep("x", -1), ValueError, "duration"),
        (lambda ctx: ctx.sleep("x", timedelta(seconds=-1)), ValueError, "duration"),
        (lambda ctx: ctx.sleep("x", float("nan")), ValueError, "duration"),
        (lambda ctx: ctx.sleep("x", float("inf")), ValueError, "duration"),
        (lambda ctx: ctx.sleep("x", "1 h"), TypeError, "duration"),
        (lambda ctx: ctx.sleep_until("x", datetime(2030, 1, 1)), ValueError, "aware"),
        (lambda ctx: ctx.sleep_until("x", 5), TypeError, "moment"),
        (lambda ctx: ctx.wait_for("x", ""), ValueError, "event name"),
        (lambda ctx: ctx.wait_for("x", "e" * 256), ValueError, "event name"),
        (lambda ctx: ctx.wait_for("x", "e", key=""), ValueError, "event key"),
        (lambda ctx: ctx.wait_for("x", "e", timeout=-1), ValueError, "timeout"),
        (lambda ctx: ctx.wait_for("x", 5), TypeError, "event name"),
        (lambda ctx: ctx.set_attributes(x=object()), NotSerializable, "attribute"),
        (lambda ctx: ctx.set_attributes(x=float("nan")), NotSerializable, "attribute"),
        (lambda ctx: ctx.set_attributes(x={1: 2}), NotSerializable, "keys are str, not int"),
        (lambda ctx: ctx.set_attributes(x=[(1, 2)]), NotSerializable, "'x'"),
        (lambda ctx: ctx.set_attributes(x="nul\x00"), NotSerializable, "NUL"),
        (lambda ctx: ctx.set_attributes(x={"nul\x00": 1}), NotSerializable, "NUL"),
        (lambda ctx: ctx.set_attributes(x=["\ud800"]), NotSerializable, "surrogate"),
        (lambda ctx: ctx.set_attributes(x=10**5000), NotSerializable, "'x'"),
        (lambda ctx: ctx.set_attributes(x=_endless()), NotSerializable, "contains itself"),
        (lambda ctx: ctx.set_attributes(x="x" * 1_000_000), PayloadTooLarge, "1000000"),
        (lambda ctx: ctx.progress("half"), TypeError, "done must be a number"),
        (lambda ctx: ctx.progress(float("nan")), ValueError, "done must be finite"),
        (lambda ctx: ctx.progress(10**5000), ValueError, "done must be finite"),
        (lambda ctx: ctx.progress(1, object()), TypeError, "total must be a number"),
        (lambda ctx: ctx.progress(1, float("inf")), ValueError, "total must be finite"),
        (lambda ctx: ctx.progress(1, 2, b"x"), TypeError, "message must be a str"),
        (lambda ctx: ctx.progress(1, 2, "x" * 1_000_000), PayloadTooLarge, "1000000"),
        (lambda ctx: ctx.uuid(7), TypeError, "step name"),
        (lambda ctx: ctx.wait_for("x", ["e"]), TypeError, "event name"),
        (lambda ctx: ctx.wait_for("x", "e", key=["k"]), TypeError, "event key"),
        (lambda ctx: ctx.wait_for("x", "e", key=7), TypeError, "event key"),
        (lambda ctx: ctx.wait_for("x", "e", timeout="1"), TypeError, "timeout"),
        (lambda ctx: ctx.wait_for("x", "e", timeout=1e300), ValueError, "9998"),
        (lambda ctx: ctx.sleep_until("x", datetime(9999, 6, 1, tzinfo=UTC)), ValueError, "range"),
        (lambda ctx: ctx.sleep_until("x", datetime(1, 1, 1, tzinfo=UTC)), ValueError, "range"),
        (lambda ctx: ctx.sleep("x", True), TypeError, "duration"),
        (lambda ctx: ctx.sleep("x", None), TypeError, "duration"),
        (lambda ctx: ctx.step("x", list, atomic=True, at_most_once=True), ValueError, "at_most_once and atomic"),
        (lambda ctx: ctx.step("x", list, timeout=float("nan")), ValueError, "timeout"),
    ],
)
def test_bad_arguments_of_a_context_call_are_refused_at_the_call(
    run: Any, call: Any, error: type[Exception], says: str
) -> None:
    """The error names the argument, the run fails with it, and nothing was recorded."""
    status = run(call)

    assert status.state == "failed"
    assert status.error["type"] == f"{error.__module__}.{error.__qualname__}"
    assert says in status.error["message"]
    assert not StepRecord.objects.exists()
    assert not Timer.objects.exists()
    assert (status.attributes, status.progress) == ({}, None)


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda ctx: ctx.step("a/b", list), ValueError),
        (lambda ctx: ctx.step("x", None), TypeError),
        (lambda ctx: ctx.step("x", list, retry=3), TypeError),
        (lambda ctx: ctx.step("x", dict, a=1), TypeError),
        (lambda ctx: ctx.sleep("", 1), ValueError),
        (lambda ctx: ctx.sleep("x", -1), ValueError),
        (lambda ctx: ctx.sleep("x", 1e300), ValueError),
        (lambda ctx: ctx.sleep_until("x", datetime(2030, 1, 1)), ValueError),
        (lambda ctx: ctx.wait_for("x", ""), ValueError),
        (lambda ctx: ctx.wait_for("x", "e", timeout=-1), ValueError),
    ],
)
def test_an_async_context_refuses_the_same(call: Any, error: type[Exception]) -> None:
    """In an `async def` workflow bad input is refused as in a plain one, and the run may go on."""

    @workflow("bad.async")
    async def flow(ctx: AsyncContext) -> str:
        with pytest.raises(error):
            await call(ctx)
        return await ctx.step("fine", lambda: "fine")

    run_id = flow.start()
    run_until_idle()

    assert flow.status(run_id).result == "fine"
    assert list(StepRecord.objects.values_list("name", flat=True)) == ["fine"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("function", "advice"),
    [(lambda: _generates(), "make a list of it"), (lambda: iter([1]), "make a list of it")],  # noqa: PLW0108
)
def test_a_generator_that_a_step_returns_is_refused_with_advice(run: Any, function: Any, advice: str) -> None:
    """It can be neither stored nor looked into: the step fails and is not called again."""
    status = run(lambda ctx: ctx.step("x", function))

    assert status.state == "failed"
    assert "NotSerializable" in status.error["message"]
    assert advice in status.error["message"]


@pytest.mark.once
def test_an_object_with_an_async_call_is_awaited_as_a_step(run: Any) -> None:
    """With and without a timeout, as any async function."""
    status = run(lambda ctx: [ctx.step("a", _Callable()), ctx.step("b", partial(_Callable()), timeout=5)])

    assert status.result == ["awaited", "awaited"]


@pytest.mark.once
def test_a_refused_call_can_be_caught_and_the_run_goes_on(run: Any) -> None:
    """Bad input breaks nothing but its own call."""

    def careful(ctx: Context) -> str:
        with pytest.raises(ValueError, match="step name"):
            ctx.step("a/b", list)
        return ctx.step("ab", lambda: "fine")

    assert run(careful).result == "fine"


@pytest.mark.parametrize("delay", [timedelta(days=3_000_000), 1e12, 1e300])
def test_c045_a_delay_beyond_the_range_is_refused_and_others_are_untouched(run: Any, delay: Any) -> None:
    """ValueError says where the range ends; a run started before completes."""
    other = echo.start("other")

    assert run(lambda ctx: ctx.sleep("x", delay)).error["type"] == "builtins.ValueError"
    assert echo.status(other).result == "other"
    with pytest.raises(ValueError, match="9998"):
        echo.using(delay=delay).start()
    assert WorkflowRun.objects.count() == 2


def test_c045_a_retry_after_beyond_the_range_is_a_long_wait(run: Any) -> None:
    """A step that asks to be tried again in a million years waits as long as it may, and breaks nothing."""

    def busy() -> None:
        raise RetryAfter(1e300)

    status = run(lambda ctx: ctx.step("x", busy, retry=Retry(max_attempts=2)))

    assert (status.state, status.step) == ("retrying", "x")
    assert status.resume_at is not None


# -- starting --------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"key": ""}, ValueError, "key"),
        ({"key": "k" * 256}, ValueError, "key"),
        ({"key": 7}, TypeError, "key"),
        ({"queue": "q" * 101}, ValueError, "queue"),
        ({"queue": " q"}, ValueError, "queue"),
        ({"priority": 101}, ValueError, "priority"),
        ({"priority": -101}, ValueError, "priority"),
        ({"priority": 1.5}, TypeError, "priority"),
        ({"delay": -1}, ValueError, "delay"),
        ({"delay": float("nan")}, ValueError, "delay"),
        ({"run_at": datetime(2030, 1, 1)}, ValueError, "aware"),
        ({"run_at": "tomorrow"}, TypeError, "run_at"),
        ({"run_at": datetime(9999, 12, 31, tzinfo=UTC)}, ValueError, "range"),
        ({"delay": 1, "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, ValueError, "exclude"),
        ({"delay": "1"}, TypeError, "delay"),
        ({"delay": True}, TypeError, "delay"),
        ({"run_at": datetime(1, 1, 1, tzinfo=UTC)}, ValueError, "range"),
        ({"key": " k"}, ValueError, "key"),
        ({"key": "k\x00"}, ValueError, "key"),
        ({"key": ["k"]}, TypeError, "key"),
        ({"queue": 7}, TypeError, "queue"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": "1"}, TypeError, "timeout"),
        ({"timeout": 1e300}, ValueError, "9998"),
        ({"timeout": timedelta(days=3_000_000)}, ValueError, "9998"),
        ({"on_conflict": "explode"}, ValueError, "on_conflict"),
        ({"subject": Effect(name="unsaved")}, ValueError, "saved"),
        ({"subject": "order 7"}, TypeError, "subject"),
        ({"attributes": {"x": object()}}, NotSerializable, "attribute"),
        ({"attributes": {7: "x"}}, NotSerializable, "attribute"),
        ({"attributes": {"x": "\x00"}}, NotSerializable, "attribute 'x'"),
        ({"attributes": {"x": {"y": "\udc00"}}}, NotSerializable, "attribute 'x'"),
        ({"attributes": {"x": "x" * 1_000_000}}, PayloadTooLarge, "1000000"),
        ({"subject": Effect}, TypeError, "subject"),
        ({"subject": Effect(pk=7)}, ValueError, "saved"),
        ({"unknown": 1}, TypeError, "unknown"),
    ],
)
def test_bad_options_of_a_start_are_refused_and_leave_no_row(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    """The error names the option."""
    with pytest.raises(error, match=says):
        echo.using(**options).start()
    assert _nothing_stored()


@pytest.mark.once
def test_a_deadline_beyond_the_range_is_refused_wherever_it_was_said() -> None:
    """A timeout that no database could store is refused where it is declared, and at the start; no row is left."""
    with pytest.raises(ValueError, match=r"a timeout of .* 9998"):
        workflow("bad.deadline", echo.function, timeout=1e300)
    for starter in (echo.using(timeout=1e300), echo.using(timeout=1e300, key="k")):
        with pytest.raises(ValueError, match=r"a timeout of .* 9998"):
            starter.start()
    assert _nothing_stored()


@pytest.mark.once
def test_a_step_s_timeout_may_be_longer_than_a_thread_can_wait() -> None:
    """A step that may take a thousand years is called like any other, in a worker's own threads too."""
    threads = StepThreads(lambda: None)
    assert threads.limited(lambda _gate: "done", 1e300) == "done"


@pytest.mark.once
@pytest.mark.parametrize("value", [object(), float("nan"), float("inf"), lambda: None, Effect(name="x"), {1: "x"}])
def test_p5_arguments_that_cannot_be_stored_are_refused_in_the_caller(value: Any) -> None:
    """NotSerializable names the workflow and the path to the value, and no row is left."""
    with pytest.raises(NotSerializable, match=r"arguments of workflow 'bad.echo'"):
        echo.start([value])
    with pytest.raises(NotSerializable):
        echo.start_many([("fine",), ([value],)])
    assert _nothing_stored()


def test_c132_a_payload_over_the_limit_is_refused_with_both_sizes(settings: Any) -> None:
    """Arguments, events and broadcasts alike; nothing is stored."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_PAYLOAD_BYTES": 1000}
    run_id = echo.start("small")

    for call in (
        lambda: echo.start("x" * 1000),
        lambda: echo.send(run_id, "event", "x" * 1000),
        lambda: send_event("event", "x" * 1000),
    ):
        with pytest.raises(PayloadTooLarge, match="1000") as caught:
            call()
        assert caught.value.limit == 1000
        assert caught.value.size > 1000
    assert WorkflowRun.objects.count() == 1
    assert not Event.objects.exists()


@pytest.mark.once
def test_c132_an_oversized_result_fails_the_step_without_a_second_call(run: Any, settings: Any) -> None:
    """The side effect happened once; calling again would not make the result smaller."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_PAYLOAD_BYTES": 1000}
    calls: list[int] = []

    status = run(lambda ctx: ctx.step("big", lambda: calls.append(1) or "x" * 2000, retry=Retry(max_attempts=5)))

    assert status.state == "failed"
    assert "PayloadTooLarge" in status.error["message"]
    assert calls == [1]


@pytest.mark.once
@pytest.mark.parametrize("value", [object(), "x" * 2000], ids=["unstorable", "oversized"])
def test_an_unstorable_or_oversized_return_value_fails_the_run(run: Any, settings: Any, value: Any) -> None:
    """The run fails with that error; its steps are kept."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_PAYLOAD_BYTES": 1000}

    def returns(ctx: Context) -> Any:
        ctx.step("kept", lambda: "kept")
        return value

    status = run(returns)

    assert status.state == "failed"
    assert status.reason in ("NotSerializable", "PayloadTooLarge")
    assert StepRecord.objects.get(run_id=status.id).state == "completed"


def test_c011_stored_arguments_that_no_longer_decode_fail_the_run_at_once() -> None:
    """It does not loop, and the body is not called."""
    run_id = echo.start("x")
    WorkflowRun.objects.filter(id=run_id).update(arguments='[[{"$enum": ["gone.module.Class", "X"]}], {}]')

    assert run_until_idle() == 1
    status = echo.status(run_id)
    assert status.state == "failed"
    assert status.error["type"].endswith("NotDecodable")
    assert str(run_id) in status.error["message"]


# -- outside ---------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("event", ["", " e", "e" * 256, "e\n"])
def test_ill_formed_events_are_refused_where_they_are_sent(event: str) -> None:
    """Neither a directed event nor a broadcast of that name is stored."""
    run_id = echo.start()

    with pytest.raises(ValueError, match="event name"):
        echo.send(run_id, event)
    with pytest.raises(ValueError, match="event name"):
        send_event(event)
    with pytest.raises(ValueError, match="event key"):
        send_event("fine", key="")
    with pytest.raises(ValueError, match="dedup_id"):
        send_event("fine", dedup_id="d" * 256)
    assert not Event.objects.exists()


@pytest.mark.once
@pytest.mark.parametrize("payload", [object(), float("nan")])
def test_a_payload_that_cannot_be_stored_is_refused(payload: Any) -> None:
    """NotSerializable names the event."""
    run_id = echo.start()

    with pytest.raises(NotSerializable, match="'paid'"):
        echo.send(run_id, "paid", payload)
    with pytest.raises(NotSerializable, match="'paid'"):
        send_event("paid", payload)
    assert not Event.objects.exists()


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", list), ValueError),
        (("w" * 201, list), ValueError),
        (("a@b", list), ValueError),
        ((" a", list), ValueError),
        ((7, list), TypeError),
        (("bad.callable", "x"), TypeError),
    ],
)
def test_bad_workflows_are_refused_where_they_are_declared(arguments: Any, error: type[Exception]) -> None:
    """Not at the first start, months later."""
    with pytest.raises(error):
        workflow(*arguments)


@pytest.mark.once
@pytest.mark.parametrize(
    "options",
    [{"priority": 101}, {"priority": "high"}, {"queue": ""}, {"retry": 3}, {"timeout": -1}, {"version": " 1"}],
)
def test_bad_options_of_a_workflow_are_refused_where_it_is_declared(options: dict[str, Any]) -> None:
    """The decorator itself raises."""
    with pytest.raises((ValueError, TypeError)):
        workflow("bad.options", list, **options)


NO_RUNS = ["not-a-uuid", "", "018f", 7, None, "01890a5d-ac96-774b-bcce-b302099a8057"]
CALLS: list[Callable[[Any], Any]] = [
    echo.status,
    echo.result,
    echo.cancel,
    echo.retry,
    echo.rerun,
    echo.pause,
    echo.resume,
    echo.wake,
    lambda run_id: echo.send(run_id, "paid"),
    get_run,
    client.cancel,
    client.retry,
    client.rerun,
    client.pause,
    client.resume,
    client.wake,
    client.result,
    lambda run_id: client.send(run_id, "paid"),
]


@pytest.mark.once
@pytest.mark.parametrize("run_id", NO_RUNS)
def test_a_run_that_does_not_exist_is_not_found(run_id: Any) -> None:
    """RunNotFound from every call about one run, for an unknown id and for what is no id; nothing is stored."""
    for call in CALLS:
        with pytest.raises(RunNotFound, match="no run"):
            call(run_id)
    assert _nothing_stored()


def test_ids_may_be_text() -> None:
    """A UUID and its text mean the same run, with or without dashes."""
    run_id = echo.start("x")
    for text in (str(run_id), run_id.hex, str(run_id).upper()):
        assert echo.status(text).id == run_id
        assert echo.pause(text)
        assert echo.resume(text)


@pytest.mark.once
@pytest.mark.parametrize("dedup_id", ["", " d", "d\x00", "d" * 256, 7])
def test_an_ill_formed_dedup_id_is_refused(dedup_id: Any) -> None:
    """For one run and for all, naming the argument; nothing is stored."""
    run_id = echo.start()
    with pytest.raises((ValueError, TypeError), match="dedup_id"):
        echo.send(run_id, "paid", dedup_id=dedup_id)
    with pytest.raises((ValueError, TypeError), match="dedup_id"):
        send_event("paid", dedup_id=dedup_id)
    assert not Event.objects.exists()


def test_bad_input_inside_atomic_breaks_no_transaction() -> None:
    """What is refused is refused before the database is asked: the caller's transaction goes on."""
    with transaction.atomic():
        for call in (
            lambda: echo.start(object()),
            lambda: echo.using(key="k" * 256).start(),
            lambda: send_event("paid", float("nan")),
            lambda: echo.status("not-a-uuid"),
        ):
            with pytest.raises((ValueError, CanxFlowError)):
                call()
        run_id = echo.start("fine")
    run_until_idle()
    assert echo.status(run_id).result == "fine"


# -- what is stored and does not fit the code ------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (lambda ctx: ctx.step("x", lambda: 1), lambda ctx: ctx.sleep("x", 1), ("step", "sleep")),
        (lambda ctx: ctx.step("x", lambda: 1), lambda ctx: ctx.wait_for("x", "e", timeout=1), ("step", "wait")),
        (lambda ctx: ctx.sleep("x", 0), lambda ctx: ctx.step("x", lambda: 1), ("sleep", "step")),
        (lambda ctx: ctx.wait_for("x", "e", timeout=0, default=None), lambda ctx: ctx.sleep("x", 1), ("wait", "sleep")),
    ],
)
def test_c127_a_name_recorded_as_another_kind_parks_the_run(
    monkeypatch: pytest.MonkeyPatch, before: Any, after: Any, kinds: tuple[str, str]
) -> None:
    """Parked with HistoryMismatch that names both sides; nothing is lost, and with the old code the run completes."""
    code: list[Callable[[Context], Any]] = [before]

    def function(ctx: Context) -> str:
        code[-1](ctx)
        ctx.sleep("nap", 60)
        return "done"

    monkeypatch.setitem(globals(), "body", function)
    run_id, other = in_body.start(), echo.start("other")
    run_until_idle()
    records = list(StepRecord.objects.filter(run_id=run_id).order_by("seq").values_list("name", "kind"))
    code.append(after)
    advance(60)

    status = in_body.status(run_id)
    assert (status.state, status.finished_at) == ("parked", None)
    assert status.reason.startswith(f"HistoryMismatch: run {run_id} has a {kinds[0]} recorded under 'x'")
    assert f"now makes a {kinds[1]}" in status.reason
    assert list(StepRecord.objects.filter(run_id=run_id).order_by("seq").values_list("name", "kind")) == records
    assert echo.status(other).state == "completed"
    code.append(before)
    run_until_idle()
    assert in_body.status(run_id).result == "done"


def test_an_unknown_workflow_is_parked_and_blocks_nobody() -> None:
    """Never failed: visible with its reason, its neighbours unharmed, and it goes on when a worker knows it."""

    @workflow("bad.unknown")
    def unknown(ctx: Context) -> str:
        return "known"

    run_id, other = unknown.start(), echo.start("other")
    registry.forget("bad.unknown")
    run_until_idle()
    assert get_run(run_id).state == "parked"
    assert get_run(run_id).reason.startswith("UnknownWorkflow")
    assert echo.status(other).state == "completed"
    registry.add(unknown)
    run_until_idle()
    assert get_run(run_id).result == "known"


def test_a_stored_result_that_no_longer_decodes_parks_the_run(run: Any) -> None:
    """Parked with the step's name; nothing is called again, and with the value put right the run completes."""
    calls: list[int] = []

    def function(ctx: Context) -> Any:
        value = ctx.step("x", lambda: calls.append(1) or "fine")
        ctx.sleep("nap", 60)
        return value

    run_id = run(function).id
    StepRecord.objects.filter(run_id=run_id, name="x").update(result='{"$gone": 1}')
    advance(60)

    status = in_body.status(run_id)
    assert status.state == "parked"
    assert status.reason.startswith(f"NotDecodable: the stored result of 'x' in run {run_id} cannot be read")
    StepRecord.objects.filter(run_id=run_id, name="x").update(result='"fine"')
    run_until_idle()
    assert in_body.status(run_id).result == "fine"
    assert calls == [1]


def test_a_wait_of_no_time_at_all_times_out_without_suspending(run: Any) -> None:
    """A timeout of zero is allowed: it asks whether the event is there."""

    def asks(ctx: Context) -> str:
        try:
            return str(ctx.wait_for("x", "e", timeout=0))
        except WaitTimeout as error:
            return type(error).__name__

    assert run(asks).result == "WaitTimeout"
    advance(1)
    assert StepRecord.objects.get().state == "failed"


# -- names of ours, and how many -------------------------------------------------------------------


def test_an_attribute_may_have_any_name_of_an_argument_of_ours(run: Any) -> None:
    """`self` too: set at the start or by the body, and looked for in every way."""
    names = {"self": 1, "values": 2, "name": 3}
    started = in_body.using(attributes=names).start()
    published = run(lambda ctx: ctx.set_attributes(**names)).id
    for found in (
        WorkflowRun.objects.with_attributes(**names),
        in_body.runs.with_attributes(**names),
        client.runs().with_attributes(**names),
    ):
        assert set(found.values_list("id", flat=True)) == {started, published}


def test_a_hundred_attributes_can_be_looked_for_at_once() -> None:
    """Every database takes as many; more are refused before it is asked."""
    attributes = {f"name-{number}": number for number in range(100)}
    run_id = echo.using(attributes=attributes).start()
    assert echo.runs.with_attributes(**attributes).get().id == run_id
    with pytest.raises(ValueError, match="at most 100 attributes"):
        echo.runs.with_attributes(**attributes, one_more=1)


@pytest.mark.once
@pytest.mark.parametrize("reason", [None, 5, "\x00", "\ud800", "x" * 1_000_001])
def test_a_reason_that_cannot_be_stored_leaves_a_failed_run_failed(run: Any, reason: Any) -> None:
    """`retry` refuses it before anything is written, of one run and of many."""
    before = run(lambda ctx: ctx.step("fails", lambda: 1 / 0))
    for retry in (lambda: in_body.retry(before.id, reason), lambda: in_body.runs.retry(reason)):
        with pytest.raises((TypeError, ValueError, PayloadTooLarge), match="reason"):
            retry()
    assert in_body.status(before.id) == before


@pytest.mark.once
def test_a_subject_must_be_a_model_s_row_with_a_key_that_can_be_stored() -> None:
    """What only looks like one is no subject: a form has a `_meta`, too."""

    class Form(ModelForm):  # type: ignore[type-arg]
        class Meta:
            model = Effect
            fields = ("name",)

    for subject in (Form(), Effect):
        with pytest.raises(TypeError, match="subject must be a saved model instance"):
            echo.using(subject=subject).start()  # type: ignore[arg-type]
    for key in ("x" * 256, "a\x00b", "a\ud800b"):
        row = Effect(name="x")
        row.pk, row._state.adding = key, False
        with pytest.raises(ValueError, match="subject"):
            echo.using(subject=row).start()
    assert _nothing_stored()
