"""Queues: what is due in each, since when, what runs, and who serves it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import Context, workflow
from canx_flow.core import clock
from canx_flow.insight import overdue, queues
from canx_flow.insight.queues import Queue, Queues
from canx_flow.store import leases
from canx_flow.testing import run_until_idle

from ..admin.runs import owned

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@workflow("queues.sleepy", queue="of-the-code")
def sleepy(ctx: Context) -> None:
    """Sleeps."""
    ctx.sleep("nap", HOUR)


@pytest.fixture(autouse=True)
def noon() -> Iterator[Any]:
    """The clock of these tests, which stands until it is moved."""
    with freeze_time(START) as clock:
        yield clock


def start(queue: str, number: int = 1, **about: Any) -> UUID:
    """So many due runs there; the last one."""
    return [sleepy.using(queue=queue, **about).start() for _ in range(number)][-1]


def a_worker(*serves: str, name: str = "w-1") -> UUID:
    """A live worker of these queues; of all, if there are none."""
    return leases.register(host="elsewhere", pid=1, name=name, queues=serves, concurrency=16).id


def read() -> Queues:
    """What there is now."""
    return queues.read("default", clock.now())


def named(found: Queues) -> dict[str, Queue]:
    """By their names."""
    return {queue.name: queue for queue in found.rows}


def test_each_queue_says_what_is_due_and_since_when(noon: Any) -> None:
    """What sleeps or runs is not due; of several priorities it is the run that waits for longest, not the next."""
    first = start("mail", priority=-5)
    noon.tick(60)
    start("mail", 2)
    noon.tick(60)
    start("slow")
    found = named(read())
    assert {name: queue.due for name, queue in found.items() if queue.due} == {"mail": 3, "slow": 1}
    assert found["mail"].oldest is not None
    assert (found["mail"].oldest.run_id, found["mail"].oldest.age) == (first, 120.0)
    assert found["slow"].oldest is not None
    assert found["slow"].oldest.age == 0.0
    assert found["default"].oldest is None


def test_a_run_that_has_slept_is_due_since_it_woke(noon: Any) -> None:
    """Though it was started long before the next one, which is due for longer."""
    start("mail")
    run_until_idle()
    noon.tick(timedelta(minutes=50))
    start("mail")
    noon.tick(timedelta(minutes=10))
    from canx_flow.store import timers

    timers.fire("default")
    mail = named(read())["mail"]
    assert mail.due == 2
    assert mail.oldest is not None
    assert mail.oldest.age == 600.0


def test_those_that_no_live_worker_serves_come_first(noon: Any) -> None:
    """Those with due runs, the fullest first. A silent worker serves nothing; one without queues serves all."""
    start("a", 3), start("b"), start("c", 2)
    a_worker("a")
    assert [(queue.name, queue.served) for queue in read().rows if queue.due] == [
        ("c", False), ("b", False), ("a", True),
    ]  # fmt: skip
    noon.tick(60)
    assert not named(read())["a"].served
    assert [worker.name for worker in named(read())["a"].workers] == ["w-1"]
    a_worker(name="w-2")
    assert all(queue.served for queue in read().rows)


def test_queues_without_due_runs_are_shown_too() -> None:
    """The default one; those that workers listen to, that workflows here name, and that runs were in."""
    start("was-used")
    run_until_idle()
    a_worker("listened-to")
    assert {"default", "of-the-code", "listened-to", "was-used"} <= named(read()).keys()
    assert read().due == 0


def test_running_runs_are_counted_by_their_owners() -> None:
    """Each in its queue."""
    owned(start("mail"))
    mail = named(read())["mail"]
    assert (mail.running, mail.due) == (1, 0)


def test_due_runs_are_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is said, and the oldest is looked for among these."""
    monkeypatch.setattr(overdue, "MOST", 2)
    start("mail", 3)
    mail = named(read())["mail"]
    assert (mail.due, mail.is_capped) == (2, True)


def test_of_very_many_queues_some_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those with due runs."""
    monkeypatch.setattr(queues, "MOST", 2)
    start("x"), start("y")
    found = read()
    assert [queue.name for queue in found.rows] == ["x", "y"]
    assert found.left_out >= 2


def test_the_number_of_queries_does_not_grow() -> None:
    """With runs, queues or workers."""
    counts = []
    for more in ("a", "bcdefg"):
        for queue in more:
            start(queue, 2), a_worker(queue)
        with CaptureQueriesContext(connection) as captured:
            read()
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 12
