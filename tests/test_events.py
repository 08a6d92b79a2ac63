"""Events: kept before the wait, read once and in order, sent to one run or to all that wait."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from freezegun import freeze_time

from canx_flow import (
    AsyncContext,
    Context,
    InvalidState,
    NotSerializable,
    PayloadTooLarge,
    Retry,
    RunNotFound,
    WaitTimeout,
    client,
    conf,
    send_event,
    workflow,
)
from canx_flow.core import clock
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.store import forgetting
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@workflow("events.reader")
def reader(ctx: Context, event: str = "news", key: str | None = None, times: int = 1) -> list[Any]:
    """Reads `times` events, and returns their payloads."""
    return [ctx.wait_for("read", event, key=key) for _ in range(times)]


def results(*run_ids: UUID) -> list[Any]:
    """What these runs of `reader` have returned; `None` for one that has not."""
    return [reader.status(run_id).result for run_id in run_ids]


# -- sent to one run -------------------------------------------------------------------------------


def test_an_event_ends_a_wait() -> None:
    """A run that waits is woken by the event, and goes on with its payload."""
    run_id = reader.start()
    run_until_idle()
    assert reader.status(run_id).state == "waiting"
    assert reader.send(run_id, "news", {"headline": "rain"}) is True
    assert run_until_idle() == 1
    assert reader.status(run_id).result == [{"headline": "rain"}]
    assert not Timer.objects.exists()


def test_c046_an_event_sent_before_the_wait_ends_it_at_once() -> None:
    """What was sent before the run even began is there when it waits: it does not suspend."""
    run_id = reader.start()
    assert reader.send(run_id, "news", "early")
    assert run_until_idle() == 1
    assert reader.status(run_id).result == ["early"]


def test_c048_three_events_end_three_waits_in_order() -> None:
    """Each wait reads the oldest that no other has read, whether it came before or during the wait."""
    early, late, mixed = reader.start(times=3), reader.start(times=3), reader.start(times=3)
    for number in (1, 2, 3):
        reader.send(early, "news", number)
    reader.send(mixed, "news", 1)
    run_until_idle()
    for number in (1, 2, 3):
        reader.send(late, "news", number)
    reader.send(mixed, "news", 2)
    run_until_idle()
    reader.send(mixed, "news", 3)
    run_until_idle()
    assert results(early, late, mixed) == [[1, 2, 3]] * 3


def test_an_event_is_read_once() -> None:
    """One event ends one wait; the next wait of that name waits for another."""
    run_id = reader.start(times=2)
    reader.send(run_id, "news", "one")
    run_until_idle()
    status = reader.status(run_id)
    assert (status.state, status.step) == ("waiting", "read#2")
    event = Event.objects.get(run_id=run_id)
    assert (event.consumed_by, event.delivered) == ("read", True)


@pytest.mark.once
def test_an_event_of_another_name_wakes_nobody() -> None:
    """It is stored for a later wait, and the run sleeps on."""
    run_id = reader.start()
    run_until_idle()
    assert reader.send(run_id, "gossip", 1)
    assert run_until_idle() == 0
    assert reader.status(run_id).state == "waiting"


def test_send_matches_any_wait_whatever_its_key() -> None:
    """An event sent to a run needs no key: the address is the run."""
    keyed, bare = reader.start(key="order-7"), reader.start()
    run_until_idle()
    for run_id in (keyed, bare):
        reader.send(run_id, "news", "for you")
    run_until_idle()
    assert results(keyed, bare) == [["for you"], ["for you"]]


def test_an_event_reaches_the_run_it_was_sent_to_only() -> None:
    """A neighbour that waits for the same event waits on."""
    one, other = reader.start(), reader.start()
    reader.send(one, "news", 1)
    run_until_idle()
    assert results(one, other) == [[1], None]


@pytest.mark.parametrize("frozen", [True, False])
def test_c049_a_repeated_dedup_id_is_delivered_once(frozen: bool) -> None:
    """The second send with a `dedup_id` says False and stores nothing, even at the same moment and with other news."""
    run_id, other = reader.start(times=2), reader.start()
    with freeze_time(START) if frozen else transaction.atomic():
        assert reader.send(run_id, "news", 1, dedup_id="message-1") is True
        assert reader.send(run_id, "news", 1, dedup_id="message-1") is False
        assert reader.send(run_id, "news", 2, dedup_id="message-1") is False
        assert reader.send(run_id, "gossip", 1, dedup_id="message-1") is False
        assert reader.send(run_id, "news", 3, dedup_id="message-2") is True
        assert reader.send(other, "news", 4, dedup_id="message-1") is True
    run_until_idle()
    assert results(run_id, other) == [[1, 3], [4]]
    assert reader.runs.states("completed").count() == 2


def test_c049_a_dedup_id_is_remembered_after_its_event_was_read() -> None:
    """A message that comes again after its event was consumed is known all the same."""
    run_id = reader.start(times=2)
    reader.send(run_id, "news", 1, dedup_id="message-1")
    run_until_idle()
    assert reader.send(run_id, "news", 1, dedup_id="message-1") is False
    run_until_idle()
    assert reader.status(run_id).state == "waiting"


def test_c049_a_repeated_dedup_id_does_not_break_the_callers_transaction() -> None:
    """What the caller does after a refused repetition still commits."""
    run_id = reader.start()
    with transaction.atomic():
        reader.send(run_id, "news", 1, dedup_id="message-1")
        reader.send(run_id, "news", 1, dedup_id="message-1")
        other = reader.start()
    assert reader.status(other).state == "pending"


def test_without_dedup_id_equal_events_are_two() -> None:
    """Two sends of one payload are two events unless a `dedup_id` says otherwise."""
    run_id = reader.start(times=2)
    assert reader.send(run_id, "news", 1)
    assert reader.send(run_id, "news", 1)
    run_until_idle()
    assert results(run_id) == [[1, 1]]


@pytest.mark.parametrize(
    "payload",
    [None, True, "text\x00", (1, 2), {"a": [Decimal("1.10"), date(2026, 1, 2)]}, {3, 4}, b"\xff", UUID(int=7), START],
    ids=repr,
)
def test_a_payload_arrives_as_it_was_sent(payload: Any) -> None:
    """Types are kept, and a replay reads the same value."""

    @workflow("events.payload")
    def receiver(ctx: Context) -> Any:
        got = ctx.wait_for("read", "news")
        ctx.sleep("nap", HOUR)
        return got

    run_id = receiver.start()
    receiver.send(run_id, "news", payload)
    advance(HOUR)
    status = receiver.status(run_id)
    assert (status.state, status.result, type(status.result)) == ("completed", payload, type(payload))


@pytest.mark.once
@pytest.mark.parametrize(
    ("send", "error", "said"),
    [
        (lambda run_id: reader.send(run_id, ""), ValueError, "event name"),
        (lambda run_id: reader.send(run_id, "x" * 256), ValueError, "event name"),
        (lambda run_id: reader.send(run_id, " news"), ValueError, "event name"),
        (lambda run_id: reader.send(run_id, "new\ns"), ValueError, "event name"),
        (lambda run_id: reader.send(run_id, 7), TypeError, "event name"),
        (lambda run_id: reader.send(run_id, "news", dedup_id=""), ValueError, "dedup_id"),
        (lambda run_id: reader.send(run_id, "news", object()), NotSerializable, "event 'news'"),
        (lambda run_id: reader.send(run_id, "news", "x" * 1_000_001), PayloadTooLarge, "1000000"),
        (lambda _: send_event(""), ValueError, "event name"),
        (lambda _: send_event("news", key=""), ValueError, "event key"),
        (lambda _: send_event("news", dedup_id="x" * 256), ValueError, "dedup_id"),
        (lambda _: send_event("news", float("nan")), NotSerializable, "event 'news'"),
        (lambda _: send_event("news", "x" * 1_000_001), PayloadTooLarge, "1000000"),
    ],
)
def test_a_bad_event_is_refused_in_the_caller(send: Callable[[UUID], bool], error: type[Exception], said: str) -> None:
    """Ill-formed names and payloads that cannot be stored raise at the call; nothing is stored."""
    run_id = reader.start()
    with pytest.raises(error, match=said):
        send(run_id)
    assert not Event.objects.exists()


@pytest.mark.once
@pytest.mark.parametrize("run_id", [UUID(int=1), str(UUID(int=1)), "no uuid", 7])
def test_send_to_an_unknown_run_is_refused(run_id: Any) -> None:
    """A run that does not exist gets nothing: RunNotFound."""
    with pytest.raises(RunNotFound):
        reader.send(run_id, "news")
    assert not Event.objects.exists()


def test_send_to_a_run_that_completed_or_was_cancelled_is_refused() -> None:
    """Such a run reads no more events: InvalidState, and nothing is stored."""
    completed, cancelled = reader.start(times=0), reader.start()
    run_until_idle()
    reader.cancel(cancelled)
    for run_id in (completed, cancelled):
        with pytest.raises(InvalidState, match=reader.status(run_id).state):
            reader.send(run_id, "news")
    assert not Event.objects.exists()


def test_an_event_sent_to_a_failed_run_is_read_after_its_retry() -> None:
    """A failed run may go on, so its events are kept."""
    broken = [True]

    def check() -> None:
        if broken:
            raise ValueError("broken")

    @workflow("events.failed", retry=Retry(max_attempts=1))
    def failing(ctx: Context) -> Any:
        ctx.step("check", check)
        return ctx.wait_for("read", "news")

    run_id = failing.start()
    run_until_idle()
    assert failing.status(run_id).state == "failed"
    assert failing.send(run_id, "news", "kept") is True
    assert run_until_idle() == 0
    broken.clear()
    failing.retry(run_id)
    run_until_idle()
    assert failing.status(run_id).result == "kept"


def test_send_in_a_step_that_is_repeated_sends_once() -> None:
    """Inside a step each send has a `dedup_id` of its own, so a second attempt of the step does not send again."""
    receiver = reader.start(times=3)
    attempts: list[bool] = []

    def tell_twice() -> None:
        attempts.append(reader.send(receiver, "news", "first"))
        attempts.append(reader.send(receiver, "news", "second"))
        if len(attempts) == 2:
            raise ConnectionError("after sending")

    @workflow("events.sender")
    def sender(ctx: Context) -> None:
        ctx.step("tell", tell_twice)

    sender.start()
    advance(HOUR)
    assert attempts == [True, True, False, False]
    assert reader.status(receiver).step == "read#3"
    ids = Event.objects.order_by("id").values_list("dedup_id", flat=True)
    assert len(set(ids)) == len(ids) == 2


# -- timeouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("default", [True, False])
def test_c051_a_timeout_is_recorded_and_replays_though_the_event_comes_later(default: bool) -> None:
    """Once a wait has timed out it has timed out for ever; the late event is left for the next wait."""
    outcomes: list[str] = []

    @workflow("events.c051")
    def waiter(ctx: Context) -> Any:
        try:
            first = ctx.wait_for("first", "news", timeout=HOUR, **({"default": "nothing"} if default else {}))
        except TimeoutError:
            first = "nothing"
        outcomes.append(first)
        ctx.sleep("nap", HOUR)
        return [first, ctx.wait_for("second", "news")]

    run_id = waiter.start()
    advance(HOUR)
    assert (waiter.status(run_id).state, outcomes) == ("sleeping", ["nothing"])
    record = StepRecord.objects.get(run_id=run_id, name="first")
    assert (record.kind, record.state) == ("wait", "failed")
    waiter.send(run_id, "news", "late")
    advance(HOUR)
    assert waiter.status(run_id).result == ["nothing", "late"]
    assert outcomes == ["nothing", "nothing"]


@pytest.mark.once
def test_an_uncaught_timeout_fails_the_run() -> None:
    """WaitTimeout leaves the body as any exception does."""

    @workflow("events.uncaught")
    def waiter(ctx: Context) -> None:
        ctx.wait_for("read", "news", timeout=HOUR)

    run_id = waiter.start()
    advance(HOUR)
    status = waiter.status(run_id)
    assert status.error is not None
    assert (status.state, status.reason, status.error["type"]) == (
        "failed",
        "WaitTimeout",
        "canx_flow.exceptions.WaitTimeout",
    )
    assert "'news'" in status.error["message"]
    assert "'read'" in status.error["message"]


@pytest.mark.once
@pytest.mark.parametrize("default", ["nothing", None])
def test_c052_a_payload_of_none_is_no_timeout(default: Any) -> None:
    """None that was sent is returned; the default is returned only when nothing came."""

    @workflow("events.c052")
    def waiter(ctx: Context) -> Any:
        try:
            return ["sent", ctx.wait_for("read", "news", timeout=HOUR)]
        except WaitTimeout:
            return ["timed out"]

    @workflow("events.c052-default")
    def with_default(ctx: Context) -> Any:
        return ["got", ctx.wait_for("read", "news", timeout=HOUR, default=default)]

    told, untold, defaulted, never = waiter.start(), waiter.start(), with_default.start(), with_default.start()
    waiter.send(told, "news")
    with_default.send(defaulted, "news", None)
    advance(HOUR)
    assert [waiter.status(run_id).result for run_id in (told, untold)] == [["sent", None], ["timed out"]]
    assert [with_default.status(run_id).result for run_id in (defaulted, never)] == [["got", None], ["got", default]]


def test_an_unread_event_wins_over_a_timeout_not_yet_recorded() -> None:
    """Both came while no worker ran: the event is returned, and no timeout is ever recorded."""

    @workflow("events.wins")
    def waiter(ctx: Context) -> Any:
        return ctx.wait_for("read", "news", timeout=HOUR, default="nothing")

    with freeze_time(START) as frozen:
        before, after = waiter.start(), waiter.start()
        run_until_idle()
        frozen.tick(30 * timedelta(minutes=1))
        waiter.send(before, "news", "in time")
        frozen.tick(HOUR)
        waiter.send(after, "news", "late, but before anybody looked")
        run_until_idle()
    assert waiter.status(before).result == "in time"
    assert waiter.status(after).result == "late, but before anybody looked"
    assert set(StepRecord.objects.values_list("state", flat=True)) == {"completed"}


def test_an_event_closes_the_timeout_of_its_wait() -> None:
    """A wait that was served leaves no timer behind that would wake the run again."""

    @workflow("events.closed")
    def waiter(ctx: Context) -> Any:
        ctx.wait_for("read", "news", timeout=HOUR)
        return ctx.wait_for("more", "news")

    run_id = waiter.start()
    run_until_idle()
    waiter.send(run_id, "news")
    run_until_idle()
    assert [(t.step, t.due_at) for t in Timer.objects.filter(run_id=run_id)] == [("more", None)]
    assert advance(2 * HOUR) == 0


# -- broadcasts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [True, False])
def test_c054_a_broadcast_wakes_every_run_that_waits_once(frozen: bool) -> None:
    """Three runs that wait are each activated once, and each reads the event; also at the moment they were started."""
    with freeze_time(START) if frozen else transaction.atomic():
        run_ids = [reader.start() for _ in range(3)]
        run_until_idle()
        assert send_event("news", "for all") is True
        assert run_until_idle() == 3
    assert results(*run_ids) == [["for all"]] * 3


def test_a_broadcast_reaches_a_run_that_waits_later() -> None:
    """A run started before the event was sent finds it when it comes to wait, a month later."""

    @workflow("events.later")
    def late(ctx: Context) -> Any:
        ctx.sleep("nap", timedelta(days=29))
        return ctx.wait_for("read", "news")

    with freeze_time(START):
        run_id = late.start()
        advance(1)
        send_event("news", "old")
        advance(timedelta(days=29))
    assert late.status(run_id).result == "old"


def test_a_broadcast_does_not_reach_a_run_started_after_it() -> None:
    """What was sent before a run existed is not news to it, whether it was delivered already or not."""
    with freeze_time(START) as frozen:
        before = reader.start()
        frozen.tick(1)
        send_event("news", "old")
        frozen.tick(1)
        undelivered = reader.start()
        run_until_idle()
        advance(HOUR)
        delivered = reader.start()
        run_until_idle()
    assert results(before, undelivered, delivered) == [["old"], None, None]
    assert reader.status(delivered).state == "waiting"


def test_a_broadcast_is_read_once_by_each_run() -> None:
    """Two waits of one run for an event that was broadcast once: the second waits on, and nothing spins."""
    with freeze_time(START) as frozen:
        run_ids = [reader.start(times=2) for _ in range(2)]
        frozen.tick(1)
        run_until_idle()
        send_event("news", "one")
        assert run_until_idle() == 2
        assert run_until_idle() == 0
        assert [reader.status(run_id).step for run_id in run_ids] == ["read#2"] * 2
        frozen.tick(1)
        send_event("news", "two")
        assert run_until_idle() == 2
    assert results(*run_ids) == [["one", "two"]] * 2


def test_a_broadcast_does_not_wake_a_run_that_has_read_it() -> None:
    """While a broadcast is still fanned out, a run that has read it and waits for the next one is left asleep."""
    run_id = reader.start(times=2)
    run_until_idle()
    send_event("news", "one")
    assert run_until_idle(limit=10) == 1
    assert reader.status(run_id).step == "read#2"


def test_events_sent_to_one_and_to_all_are_read_in_the_order_sent() -> None:
    """Whichever came first is read first."""
    with freeze_time(START) as frozen:
        run_id = reader.start(times=4)
        for number in range(2):
            frozen.tick(1)
            reader.send(run_id, "news", f"to one {number}")
            frozen.tick(1)
            send_event("news", f"to all {number}")
        run_until_idle()
    assert results(run_id) == [["to one 0", "to all 0", "to one 1", "to all 1"]]


def test_a_broadcast_reaches_exactly_its_key() -> None:
    """With a key it reaches the waits with that key; without one, only the waits without."""
    one, other, bare = reader.start(key="1"), reader.start(key="2"), reader.start()
    run_until_idle()
    with freeze_time(clock.now() + HOUR):
        send_event("news", "for 1", key="1")
        run_until_idle()
        assert results(one, other, bare) == [["for 1"], None, None]
        send_event("news", "for nobody in particular")
        run_until_idle()
        assert results(one, other, bare) == [["for 1"], None, ["for nobody in particular"]]
        send_event("news", "for 2", key="2")
        run_until_idle()
        assert results(other) == [["for 2"]]


@pytest.mark.parametrize("by", ["event", "key"])
def test_p14_events_and_keys_compare_byte_by_byte(by: str) -> None:
    """`Charge`, `charge`, `café`, `cafe` are four events and four keys, and a blank at the end would be a fifth."""
    names = ["Charge", "charge", "café", "cafe", "charge\N{NO-BREAK SPACE}x", "charge x"]
    if by == "event":
        run_ids = [reader.start(event=name) for name in names]
    else:
        run_ids = [reader.start(key=name) for name in names]
    run_until_idle()
    with freeze_time(clock.now() + HOUR):
        for name in names:
            send_event(name, name) if by == "event" else send_event("news", name, key=name)
        run_until_idle()
    assert results(*run_ids) == [[name] for name in names]


def test_p14_events_sent_to_a_run_compare_byte_by_byte() -> None:
    """A run that waits for `café` is not woken by `cafe`, nor by `Café`."""
    run_id = reader.start(event="café")
    run_until_idle()
    for name in ("cafe", "Café", "CAFÉ"):
        reader.send(run_id, name, name)
    assert run_until_idle() == 0
    reader.send(run_id, "café", "this one")
    run_until_idle()
    assert results(run_id) == [["this one"]]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_dedup_id_of_a_broadcast_is_unique_per_event_and_key(frozen: bool) -> None:
    """The same id under another event, or another key, is another message; ids too compare byte by byte."""
    with freeze_time(START) if frozen else transaction.atomic():
        assert send_event("news", 1, dedup_id="m") is True
        assert send_event("news", 1, dedup_id="m") is False
        assert send_event("news", 2, dedup_id="m") is False
        assert send_event("news", 1, dedup_id="M") is True
        assert send_event("gossip", 1, dedup_id="m") is True
        assert send_event("news", 1, key="k", dedup_id="m") is True
        assert send_event("news", 1, key="k", dedup_id="m") is False
        assert send_event("news", 1, key="K", dedup_id="m") is True
        assert send_event("news", 1, key="null", dedup_id="m") is True


def test_a_dedup_id_may_come_again_when_its_event_is_no_longer_kept() -> None:
    """For EVENT_DAYS a broadcast is kept, and its id known; then it is forgotten."""
    days = timedelta(days=conf.get().event_days)
    with freeze_time(START) as frozen:
        send_event("news", dedup_id="m")
        run_until_idle()
        frozen.tick(days - HOUR)
        run_until_idle()
        assert forgetting.forget_all("default", clock.now() - days) == 0
        assert send_event("news", dedup_id="m") is False
        frozen.tick(2 * HOUR)
        assert forgetting.forget_all("default", clock.now() - days) == 1
        assert send_event("news", dedup_id="m") is True


def test_a_broadcast_nobody_waits_for_wakes_nobody() -> None:
    """Runs that wait for something else sleep on, and the event is kept."""
    run_id = reader.start()
    run_until_idle()
    assert send_event("gossip") is True
    assert run_until_idle() == 0
    assert reader.status(run_id).state == "waiting"


# -- transactions and senders that die -------------------------------------------------------------


def test_an_event_of_a_transaction_that_rolled_back_never_was() -> None:
    """A send inside a transaction exists only if that commits."""
    run_id = reader.start()
    run_until_idle()
    with transaction.atomic():
        assert reader.send(run_id, "news", "never", dedup_id="m")
        assert send_event("news", "never", dedup_id="m")
        transaction.set_rollback(True)
    assert run_until_idle() == 0
    assert reader.send(run_id, "news", "at last", dedup_id="m") is True
    run_until_idle()
    assert results(run_id) == [["at last"]]


@pytest.mark.django_db(transaction=True)
def test_the_sender_wakes_the_run_after_its_commit() -> None:
    """Within the transaction the run still waits; with the commit it is ready, before any worker has looked."""
    run_id = reader.start()
    run_until_idle()
    with transaction.atomic():
        reader.send(run_id, "news", 1)
        assert reader.status(run_id).state == "waiting"
    assert reader.status(run_id).state == "pending"
    run_until_idle()
    assert results(run_id) == [[1]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("broadcast", [True, False])
def test_an_event_whose_sender_died_after_the_commit_is_swept(broadcast: bool) -> None:
    """A row that nobody was told of, as a killed sender leaves it, wakes its runs with the next worker's look."""
    run_id = reader.start()
    run_until_idle()
    # The row alone: what `send` stores, without what it does after the commit.
    Event.objects.create(run_id=None if broadcast else run_id, name="news", payload='"left behind"')
    assert reader.status(run_id).state == "waiting"
    assert run_until_idle() == 1
    assert results(run_id) == [["left behind"]]


def test_an_event_that_comes_while_a_run_is_paused_is_read_on_resume() -> None:
    """A paused run is not woken; what came meanwhile is there when it goes on."""
    run_id, other = reader.start(), reader.start()
    run_until_idle()
    for paused in (run_id, other):
        reader.pause(paused)
    with freeze_time(clock.now() + HOUR):
        reader.send(run_id, "news", "to one")
        run_until_idle()
        send_event("news", "to all")
        assert run_until_idle() == 0
        assert {reader.status(paused).state for paused in (run_id, other)} == {"paused"}
        for paused in (run_id, other):
            reader.resume(paused)
        run_until_idle()
    assert results(run_id, other) == [["to one"], ["to all"]]


# -- twins -----------------------------------------------------------------------------------------


def test_async_workflows_and_async_senders() -> None:
    """`await ctx.wait_for`, `asend` and `asend_event` do what their plain twins do."""

    @workflow("events.async")
    async def waiter(ctx: AsyncContext) -> Any:
        one = await ctx.wait_for("one", "news")
        two = await ctx.wait_for("two", "news", key="k")
        three = await ctx.wait_for("three", "news", timeout=HOUR, default="nothing")
        return [one, two, three]

    run_id = waiter.start()
    run_until_idle()
    assert async_to_sync(waiter.asend)(run_id, "news", 1, dedup_id="m") is True
    assert async_to_sync(waiter.asend)(run_id, "news", 1, dedup_id="m") is False
    run_until_idle()
    with freeze_time(clock.now() + HOUR):
        assert async_to_sync(client.asend_event)("news", 2, key="k") is True
        run_until_idle()
        assert waiter.status(run_id).step == "three"
        advance(HOUR)
    assert waiter.status(run_id).result == [1, 2, "nothing"]


def test_a_run_of_any_workflow_is_sent_to_through_the_client() -> None:
    """`client.send` asks for no workflow; a workflow's own `send` refuses another's run."""

    @workflow("events.other")
    def other(ctx: Context) -> Any:
        return ctx.wait_for("read", "news")

    run_id = other.start()
    with pytest.raises(RunNotFound):
        reader.send(run_id, "news")
    assert client.send(str(run_id), "news", 1) is True
    run_until_idle()
    assert client.get_run(run_id).result == 1
    assert WorkflowRun.objects.get(id=run_id).events.count() == 1
