"""The event loop of async runs, by itself."""

from __future__ import annotations

import pytest

from canx_flow.worker.eventloop import EventLoop
from canx_flow.worker.threads import StepThreads

from ..waiting import wait_until

pytestmark = pytest.mark.once


def test_one_that_breaks_while_its_worker_leaves_does_not_keep_it_from_saying_goodbye() -> None:
    """Between the look whether it is dead and the order to stop it may have been closed."""
    loop = EventLoop(StepThreads(lambda: None), {}, lambda _error: None)
    loop.stop()
    wait_until(lambda: loop.dead and loop._loop.is_closed())
    loop.dead = False
    loop.stop()
