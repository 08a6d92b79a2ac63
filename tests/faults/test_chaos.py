"""A monkey among the workers: killed at random, again and again, while many runs are under way.

CHAOS_RUNS says how many runs (`make chaos`: 5,000); the suite takes a few hundred.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from types import ModuleType

from canx_flow.models import WorkflowRun
from tests import workflows
from tests.models import Effect
from tests.processes import Workers
from tests.waiting import wait_until

RUNS = int(os.environ.get("CHAOS_RUNS", "300"))


def test_c106_random_kills_lose_nothing_and_repeat_no_transaction(workers: Workers, effects: ModuleType) -> None:
    """Each run ends with the right value, each step's effect at least once, each transactional effect exactly once."""
    monkey = random.Random(106)
    alive = workers.start_many(3, "--concurrency", "8")
    labels = [f"r{number}" for number in range(RUNS)]
    ids = workflows.chaos.start_many((label,) for label in labels)
    mine = WorkflowRun.objects.filter(id__in=ids)

    def ended() -> int:
        return mine.filter(state__in=("completed", "failed", "parked")).count()

    for kill in range(1, 9):
        enough = kill * RUNS // 10
        wait_until(lambda enough=enough: ended() >= enough, 120)
        victim = alive.pop(monkey.randrange(len(alive)))
        victim.kill()
        alive.append(workers.start("--concurrency", "8", banner=False))
    wait_until(lambda: ended() == RUNS, 180)

    assert Counter(mine.values_list("state", "result")) == {("completed", "3"): RUNS}
    assert Counter(Effect.objects.values_list("name", flat=True)) == Counter(labels)
    done = set(effects.read())
    assert {f"{label} {step}" for label in labels for step in ("first", "last")} <= done
