"""Workflows in a project's own tests: no worker process, inside a plain `TestCase`, with freezegun or without.

run_id = subscription.start("user-123")
run_until_idle()                      # everything that is due now, on this thread and connection
advance(timedelta(days=30))           # the clock moves from timer to timer, and everything due then runs
"""

from __future__ import annotations

from ..clock import reset as reset_clock
from .inline import advance, run_until_idle

__all__ = ["advance", "reset_clock", "run_until_idle"]
