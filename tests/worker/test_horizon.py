"""What a worker looks at again, and what it skips while looks are slow."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connections

from canx_flow.core import clock
from canx_flow.core.identity import first_id_at
from canx_flow.models import Event, Worker, WorkflowRun
from canx_flow.store import claims, poll
from canx_flow.store.bookmark import Bookmark
from canx_flow.store.db.databases import session_for
from canx_flow.store.poll import Found
from canx_flow.worker.horizon import Horizon
from tests.worker.lives import StandingClock, asleep

pytestmark = pytest.mark.django_db

KNOWN = [("mine", "")]
MINUTE = timedelta(minutes=1)


def nothing(event: int | None = 7) -> Found:
    """What a poll finds where nothing is to do."""
    return Found(False, False, False, False, False, None, event)


def look(horizon: Horizon, steady: StandingClock, seconds: float) -> None:
    """One at everything, which takes so long."""
    began = steady.now
    steady.now += seconds
    horizon.polled(nothing(7 if horizon.remembers() else None), began)


@pytest.fixture
def horizon(clock: StandingClock) -> Horizon:
    """A worker's."""
    return Horizon("default", clock)


def test_quick_looks_are_at_everything(horizon: Horizon, clock: StandingClock) -> None:
    """Nothing is remembered, and nothing skipped; one slow look among them is chance."""
    for seconds in (0.001, 0.5, 0.001, 0.5, 0.001):
        look(horizon, clock, seconds)
        assert horizon.bookmark is None
        assert horizon.skips() is None


def test_slow_looks_at_everything_have_a_twentieth_of_the_time(
    horizon: Horizon, clock: StandingClock, tier: str
) -> None:
    """In between the worker looks behind its bookmark; only where a database keeps entries of what is gone."""
    for _ in range(3):
        look(horizon, clock, 0.5)
    if tier != "postgresql":
        assert horizon.bookmark is None
        return
    assert horizon.skips() is horizon.bookmark is not None
    clock.now += 9.4  # Ten seconds since that look has begun.
    assert horizon.skips() is not None
    clock.now += 0.2
    assert horizon.skips() is None
    look(horizon, clock, 0.001)
    assert horizon.bookmark is None


def _bookmark() -> Bookmark:
    """One behind everything that there is."""
    last = Event.objects.order_by("-id").values_list("id", flat=True).first()
    return Bookmark.behind(nothing_ready=True, next_due=None, event=last or 0)


@pytest.mark.parametrize("queues", [(), ("default",), ("default", "other")])
def test_a_poll_behind_a_bookmark_finds_what_is_new(queues: tuple[str, ...], tier: str) -> None:
    """Ready runs of every priority, events, timers; nothing of what stands before it."""
    if tier != "postgresql":
        pytest.skip("others look at everything")
    Event.objects.create(name="old")
    WorkflowRun.objects.create(id=first_id_at(clock.now() - MINUTE), workflow="mine")
    bookmark = _bookmark()
    connection = connections["default"]
    found = poll.ask(connection, queues, bookmark)
    assert (found.ready, found.undelivered, found.next_due) == (False, False, None)
    assert poll.ask(connection, queues).ready
    for priority in (1, 0, -1):
        run = WorkflowRun.objects.create(workflow="mine", priority=priority)
        assert poll.ask(connection, queues, bookmark).ready
        run.delete()
    Event.objects.create(name="new")
    asleep(3600)
    found = poll.ask(connection, queues, bookmark)
    assert found.undelivered
    assert found.next_due is not None


def test_a_claim_behind_a_bookmark_leaves_out_what_was_taken(tier: str) -> None:
    """Larger priorities first, all the same; what has come to stand before it is taken once nothing is behind."""
    if tier != "postgresql":
        pytest.skip("others look at everything")
    owner = Worker.objects.create(id=uuid4()).id
    bookmark = _bookmark()

    def claim(most: int, *, anywhere: bool = False) -> list[UUID]:
        runs = claims.claim(connections["default"], owner, most, KNOWN, bookmark=bookmark, anywhere=anywhere)
        return [run.id for run in runs]

    before, woken = (
        WorkflowRun.objects.create(id=first_id_at(clock.now() - place * MINUTE), workflow="mine").id for place in (2, 1)
    )
    new = [WorkflowRun.objects.create(workflow="mine", priority=priority).id for priority in (0, 5, -5)]
    assert claim(2) == [new[1], new[0]]
    assert claim(5) == [new[2]]
    assert claim(1) == [before]
    late = WorkflowRun.objects.create(workflow="mine").id
    assert claim(1, anywhere=True) == [woken]
    assert claim(5) == [late]
    long_ago = WorkflowRun.objects.create(id=first_id_at(clock.now() - 3 * MINUTE), workflow="mine").id
    assert claim(5) == [long_ago]
    assert claim(5) == []


def test_only_one_database_keeps_entries_of_what_is_gone(tier: str) -> None:
    """For the others a bookmark would be of no use."""
    assert session_for("default").keeps_dead_entries is (tier == "postgresql")
