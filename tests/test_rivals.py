"""Many callers at one key, or one dedup id, at the same moment: nobody's transaction is broken, and one wins."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from canx_flow import Context, send_event, workflow
from canx_flow.core import current
from canx_flow.models import Event, RunKey, WorkflowRun
from canx_flow.store.db.errors import is_conflict
from canx_flow.testing import run_until_idle

from .elsewhere import elsewhere
from .models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

RIVALS, ROUNDS = 16, 4


@workflow("rivals.any")
def anything(ctx: Context, what: Any = None) -> Any:
    """Gives back what it was started with, or waits for it."""
    return ctx.wait_for("answer", "answered") if what == "wait" else what


def all_at_once(call: Callable[[int], Any]) -> list[Any]:
    """What each of `RIVALS` threads gets from `call`, begun together; the first exception, if there is one."""
    barrier = threading.Barrier(RIVALS, timeout=60)

    def one(number: int) -> Any:
        barrier.wait()
        return call(number)

    calls = [elsewhere(lambda number=number: one(number)) for number in range(RIVALS)]
    return [call.result(90) for call in calls]


def kept(number: int) -> bool:
    """Whether this rival commits: every third one changes its mind."""
    return number % 3 != 0


def within(call: Callable[[], Any], number: int) -> Any:
    """What `call` gives in a transaction that writes before and after it, and then commits or not."""
    with transaction.atomic():
        Effect.objects.create(name=f"before {number}")
        answer = call()
        Effect.objects.create(name=f"after {number}")
        transaction.set_rollback(not kept(number))
    return answer


@pytest.mark.parametrize("inside", [True, False], ids=["in transactions", "outside"])
@pytest.mark.parametrize("deleted", [True, False], ids=["key of a deleted run", "new key"])
def test_many_callers_start_with_one_key(inside: bool, deleted: bool) -> None:
    """Whatever the others do, each caller gets a run, and those that commit get the same; all that they wrote stays."""

    def start(number: int) -> UUID:
        call = anything.using(key=f"order-{turn}").start
        return within(call, number) if inside else call()

    for turn in range(ROUNDS):
        if deleted:
            neighbours = [anything.using(key=f"order-{turn}{more}").start() for more in ("", "a", "b")]
            WorkflowRun.objects.filter(id__in=neighbours).delete()
        ids = all_at_once(start)
        there = list(WorkflowRun.objects.filter(key=f"order-{turn}").values_list("id", flat=True))
        assert len(there) == 1
        assert RunKey.objects.get(key=f"order-{turn}").run_id == there[0]
        assert {run_id for number, run_id in enumerate(ids) if kept(number) or not inside} == set(there)
    committed = sum(kept(number) for number in range(RIVALS)) if inside else 0
    assert Effect.objects.count() == ROUNDS * 2 * committed


@pytest.mark.parametrize("inside", [True, False], ids=["in transactions", "outside"])
@pytest.mark.parametrize("broadcast", [True, False], ids=["to all", "to one run"])
def test_many_callers_send_with_one_dedup_id(inside: bool, broadcast: bool) -> None:
    """One of those that commit has stored the event, and all the others are told that it was seen."""
    run_id = anything.start("wait")

    def send(number: int) -> bool:
        def call() -> bool:
            if broadcast:
                return send_event("answered", number, dedup_id=f"m{turn}")
            return anything.send(run_id, "answered", number, dedup_id=f"m{turn}")

        return bool(within(call, number) if inside else call())

    for turn in range(ROUNDS):
        send_event("answered", dedup_id=f"m{turn}")
        Event.objects.all().delete()
        answers = all_at_once(send)
        assert Event.objects.count() == 1
        assert [answer for number, answer in enumerate(answers) if kept(number) or not inside].count(True) == 1


@pytest.mark.parametrize("inside", [True, False], ids=["in transactions", "outside"])
def test_many_calls_of_one_step_start_many(inside: bool) -> None:
    """A step that several workers believe to have starts each run once, though each call asks for some of them."""

    def start(number: int) -> list[UUID]:
        current.step.set(current.CurrentStep(owner, "start", 1))
        chosen = [(what,) for what in (range(20) if number % 2 else range(19, 4, -1))]
        ids: list[UUID] = within(lambda: anything.start_many(chosen), number) if inside else anything.start_many(chosen)
        return ids if number % 2 else list(reversed(ids))

    for _ in range(ROUNDS):
        owner = uuid4()
        before = WorkflowRun.objects.count()
        ids = all_at_once(start)
        assert WorkflowRun.objects.count() == before + 20
        committed = {number: ids[number] for number in range(RIVALS) if kept(number) or not inside}
        whole = next(some for number, some in committed.items() if number % 2)
        assert all(some == (whole if number % 2 else whole[5:]) for number, some in committed.items())


# -- callers whose transaction sees an older state ---------------------------------------------------


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_rival_that_the_caller_cannot_see(tier: str, level: str) -> None:
    """On MySQL the rival's run is found all the same. On PostgreSQL nothing can tell of it in such a transaction: that
    is a serialization failure, and the caller's transaction is not broken by it."""
    if tier == "sqlite":
        pytest.skip("on SQLite a transaction keeps every other writer out: there is no rival")
    if (tier, level) == ("mysql", "SERIALIZABLE"):
        pytest.skip("there a transaction that has read keeps the rival out")
    with connection.cursor() as cursor:
        if tier == "mysql":
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        with transaction.atomic():
            if tier == "postgresql":
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            assert WorkflowRun.objects.count() == 0
            theirs = elsewhere(lambda: anything.using(key="order-7").start()).result(60)
            if tier == "mysql":
                assert anything.using(key="order-7").start() == theirs
            else:
                with pytest.raises(OperationalError) as caught:
                    anything.using(key="order-7").start()
                assert is_conflict(caught.value)
            Effect.objects.create(name="after")
    assert Effect.objects.filter(name="after").exists()
    assert anything.using(key="order-7").start() == theirs


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_rivals_whose_own_transactions_are_strict(tier: str, level: str) -> None:
    """Where a project's sessions are strict by default, a start outside a transaction is repeated until it is told."""
    if tier == "sqlite":
        pytest.skip("SQLite has one level")

    def start(number: int) -> UUID:
        with connection.cursor() as cursor:
            session = "SESSION CHARACTERISTICS AS" if tier == "postgresql" else "SESSION"
            cursor.execute(f"SET {session} TRANSACTION ISOLATION LEVEL {level}")
        return anything.using(key=f"order-{turn}").start(number)

    for turn in range(ROUNDS):
        assert set(all_at_once(start)) == set(
            WorkflowRun.objects.filter(key=f"order-{turn}").values_list("id", flat=True)
        )


# -- repeated sends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, False], ids=["explicit", "of a step"])
def test_a_repeated_send_to_a_run_that_has_ended(given: bool) -> None:
    """A message that was stored is answered False when it is sent again, though the run has read it and has ended."""
    run_id = anything.start("wait")

    def send() -> bool:
        token = current.step.set(None if given else current.CurrentStep(UUID(int=7), "tell", 1))
        try:
            return anything.send(run_id, "answered", 1, dedup_id="message-1" if given else None)
        finally:
            current.step.reset(token)

    run_until_idle()
    assert send() is True
    run_until_idle()
    assert anything.status(run_id).state == "completed"
    assert send() is False
    assert send() is False
    assert Event.objects.count() == 1


def test_an_event_that_another_row_keeps_out_was_not_seen(tier: str) -> None:
    """Only a row with the same dedup id makes a send False; after a restore that left a sequence behind, it raises."""
    if tier != "postgresql":
        pytest.skip("shown with PostgreSQL's sequences")
    run_id = anything.start("wait")
    anything.send(run_id, "answered", 1)
    with connection.cursor() as cursor:
        behind = "SELECT setval(pg_get_serial_sequence('canx_flow_event', 'id'), %s, false)"
        cursor.execute(behind, [Event.objects.get().id])
    with pytest.raises(IntegrityError), transaction.atomic():
        anything.send(run_id, "answered", 2, dedup_id="message-2")
    assert anything.send(run_id, "answered", 2, dedup_id="message-2") is True
