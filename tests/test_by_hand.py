"""Callers that commit by hand: `set_autocommit(False)`, or `AUTOCOMMIT` switched off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from canx_flow import Context, send_event, signals, workflow
from canx_flow.models import Event, WorkflowRun
from canx_flow.testing import run_until_idle

pytestmark = pytest.mark.django_db(transaction=True)


@workflow("by-hand")
def waits(ctx: Context, times: int = 1) -> list[Any]:
    """Wait for events."""
    return [ctx.wait_for("read", "news") for _ in range(times)]


@pytest.fixture
def by_hand() -> Iterator[None]:
    """This connection commits by hand."""
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


VERBS: list[Callable[[], Any]] = [
    waits.start,
    lambda: waits.using(key="k").start(),
    lambda: waits.using(delay=60).start(),
    lambda: waits.start_many([(), ()]),
    lambda: send_event("news", 1),
]
NAMES = ["start", "with a key", "with a delay", "start_many", "send_event"]


ON_SQLITE = "Django says that atomic() cannot be used without autocommit on SQLite: its savepoints commit"


@pytest.mark.parametrize(("name", "verb"), list(zip(NAMES, VERBS, strict=True)), ids=NAMES)
def test_what_is_started_by_hand_is_there_with_the_callers_commit(
    by_hand: None, tier: str, name: str, verb: Callable[[], Any]
) -> None:
    """Stored in the caller's transaction, as everywhere, and without an error after it."""
    if tier == "sqlite" and name not in ("start", "send_event"):
        pytest.skip(ON_SQLITE)
    assert verb()
    transaction.rollback()
    assert not WorkflowRun.objects.exists()
    assert not Event.objects.exists()
    assert verb()
    transaction.commit()
    transaction.rollback()
    assert WorkflowRun.objects.exists() or Event.objects.exists()
    assert connection.run_on_commit == []


def test_a_run_is_told_and_controlled_by_hand(by_hand: None) -> None:
    """Each control answers, and what it says is so once the caller has committed."""
    run_id = waits.start()
    transaction.commit()
    for control, answer in [
        (lambda: waits.send(run_id, "news", 1), True),
        (lambda: waits.pause(run_id), True),
        (lambda: waits.resume(run_id), True),
        (lambda: waits.wake(run_id), False),
        (lambda: waits.cancel(run_id), True),
    ]:
        assert control() is answer
        transaction.commit()
    assert waits.status(run_id).state == "cancelled"
    assert connection.run_on_commit == []


def test_a_run_that_was_sent_to_by_hand_goes_on(transactional_db: None) -> None:
    """No worker is told: the sweep finds the event."""
    run_id = waits.start()
    run_until_idle()
    transaction.set_autocommit(False)
    try:
        assert waits.send(run_id, "news", "rain")
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert waits.status(run_id).state == "waiting"
    run_until_idle()
    assert waits.status(run_id).result == ["rain"]


def test_a_cancel_that_was_rolled_back_by_hand_is_announced_to_nobody(by_hand: None, tier: str) -> None:
    """A signal comes after a commit, and Django does not learn of this one."""
    if tier == "sqlite":
        pytest.skip(ON_SQLITE)
    heard: list[Any] = []

    def hear(**kwargs: Any) -> None:
        heard.append(kwargs["run_id"])

    run_id = waits.start()
    transaction.commit()
    signals.run_cancelled.connect(hear)
    try:
        assert waits.cancel(run_id)
        transaction.rollback()
    finally:
        signals.run_cancelled.disconnect(hear)
    assert waits.status(run_id).state == "pending"
    assert heard == []
