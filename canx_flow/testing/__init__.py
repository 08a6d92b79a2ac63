"""Workflows in a project's own tests: no worker process, inside a plain `TestCase`, with freezegun or without.

run_id = subscription.start("user-123")
run_until_idle()                      # everything that is due now, on this thread and connection
advance(timedelta(days=30))           # the clock moves from timer to timer, and everything due then runs

A clock that was advanced without freezegun or time-machine stays so for the whole process: `reset_clock()` takes it
back; call it after each test, as in a `tearDown`.
"""

from __future__ import annotations

from ..core.clock import reset as reset_clock
from ..histories.mismatches import Mismatch
from ..schedules import upcoming
from .golden import replay
from .inline import aadvance, advance, arun_until_idle, run_until_idle

__all__ = ["Mismatch", "aadvance", "advance", "arun_until_idle", "replay", "reset_clock", "run_until_idle", "upcoming"]
