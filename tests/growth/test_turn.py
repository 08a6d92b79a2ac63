"""A worker's turn: polls, claims and looks for due timers."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connections

from canx_flow.models import Worker
from canx_flow.store import claims, poll, timers

from .work import measured

KNOWN = [("order", "")]


@pytest.mark.parametrize("queues", [(), ("a0",)])
def test_a_poll_reads_little(queues: tuple[str, ...]) -> None:
    """Beside sleeping, ended and ready runs, and delivered events, an idle worker's poll is a few look-ups."""
    with measured() as work:
        found = poll.ask(connections["default"], queues)
    assert (found.ready, found.undelivered) == (True, False)
    work.assert_little()


def test_a_look_for_due_timers_reads_little() -> None:
    """Beside sleepers that are not due."""
    with measured() as work:
        assert timers.fire("default").seen == 0
    work.assert_little()


@pytest.mark.parametrize("queues", [(), ("a6",)])
def test_a_claim_reads_little(queues: tuple[str, ...]) -> None:
    """It reads no more ready runs than it takes, also from the last queue in the alphabet."""
    owner = Worker.objects.create(id=uuid4())
    with measured() as work:
        assert len(claims.claim(connections["default"], owner.id, 2, KNOWN, queues)) == 2
    work.assert_little()
