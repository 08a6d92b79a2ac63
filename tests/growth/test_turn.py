"""A worker's turn: polls, claims and looks for due timers."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connections

from canx_flow.models import Worker
from canx_flow.store import claims, leases, parking, poll, timers

from .work import LITTLE, measured

KNOWN = [("order", "")]


@pytest.mark.parametrize("queues", [(), ("a0",)])
def test_a_poll_reads_little(queues: tuple[str, ...]) -> None:
    """Beside sleeping, ended and ready runs, and delivered events, an idle worker's poll is a few look-ups."""
    with measured() as work:
        found = poll.ask(connections["default"], queues)
    assert (found.ready, found.undelivered) == (True, False)
    work.assert_little()


def test_a_look_for_due_timers_reads_little(statistics: str, tier: str) -> None:
    """Beside sleepers that are not due."""
    if (statistics, tier) == ("fresh", "postgresql"):
        pytest.skip("without statistics it takes a third for due, and sorts them, in a table of this size")
    with measured() as work:
        assert timers.fire("default").seen == 0
    work.assert_little()


@pytest.mark.parametrize("queues", [(), ("a6",), ("a0", "a3", "none"), ("none",)])
def test_a_claim_reads_little(queues: tuple[str, ...]) -> None:
    """It reads hardly more ready runs than it takes, from any queues, the last in the alphabet or one that has none."""
    owner = Worker.objects.create(id=uuid4())
    with measured() as work:
        runs = claims.claim(connections["default"], owner.id, 2, KNOWN, queues)
    assert len(runs) == (queues != ("none",)) * 2
    work.assert_little(6 * LITTLE)


@pytest.mark.parametrize("queues", [(), ("a0", "a3")])
def test_a_claim_reads_little_of_what_the_worker_does_not_know(queues: tuple[str, ...]) -> None:
    """However many of the ready runs are of other workflows."""
    owner = Worker.objects.create(id=uuid4())
    with measured() as work:
        assert claims.claim(connections["default"], owner.id, 16, [("rare", ""), ("other", "2")], queues) == []
    work.assert_little(8 * LITTLE)


def test_a_look_for_unknown_workflows_reads_little() -> None:
    """A look-up for each workflow of which runs are ready, not one for each run."""
    Worker.objects.create(id=uuid4(), workflows='[["order", ""]]')
    with measured() as work:
        assert parking.park_unknown("default", leases.live_workers()) == []
    work.assert_little()


def test_a_look_for_owners_that_are_gone_reads_little() -> None:
    """Of runs that have an owner, which are few."""
    with measured() as work:
        leases.owners_not_alive()
    work.assert_little()
