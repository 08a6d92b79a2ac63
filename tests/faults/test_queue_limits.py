"""The limit of a queue while its workers are killed and the limit is changed: never one run too many.

LIMITED_RUNS says how many runs (`make limits`: 5,000, on eight workers); the suite takes a few hundred on four. What
counts is what the runs' own steps have left in a file, begin and end, not what the engine says of itself.
"""

from __future__ import annotations

import os
import random
import signal
import time
from types import ModuleType

from canx_flow import queues
from canx_flow.models import WorkflowRun
from tests.processes import Workers
from tests.waiting import wait_until
from tests.workflows import one_brief

RUNS = int(os.environ.get("LIMITED_RUNS", "400"))
WORKERS = 8 if RUNS > 1000 else 4
#: Seconds after which what was claimed under the limit before has begun.
GRACE = 5.0


def test_c117_a_limit_is_exact_while_workers_are_killed_and_it_is_changed(
    workers: Workers, effects: ModuleType
) -> None:
    """Ten, then three, then six, then ten again, and a worker killed now and then; every run ends in the end."""
    monkey = random.Random(117)
    queues.limits("mail", concurrency=10)
    effects.append(f"limit 10 {time.time()}")
    alive = workers.start_many(WORKERS, "--concurrency", "4")
    for number in range(RUNS):
        one_brief.using(queue="mail").start(f"r{number}", 0.02)
    done = WorkflowRun.objects.filter(state="completed")
    changes = {RUNS // 4: 3, RUNS // 2: 6, RUNS * 3 // 4: 10}
    owned, killed_at = [], time.monotonic()
    while (now := done.count()) < RUNS:
        for most in [changes.pop(at) for at in list(changes) if now >= at]:
            queues.limits("mail", concurrency=most)
            effects.append(f"limit {most} {time.time()}")
        owned.append(WorkflowRun.objects.filter(owner__isnull=False).count())
        if time.monotonic() - killed_at > 1.0:
            victim = alive.pop(monkey.randrange(len(alive)))
            # It stands still before it is gone: nobody takes its runs before this is said.
            victim.signal(signal.SIGSTOP)
            wait_until(lambda victim=victim: victim._state() == "T")
            effects.append(f"killed {victim.pid}")
            victim.kill()
            alive.append(workers.start("--concurrency", "4", banner=False))
            killed_at = time.monotonic()
    assert max(owned) <= 10
    assert _too_many(effects.read()) == []
    assert {line.split()[1] for line in effects.read() if line.startswith("end")} == {f"r{n}" for n in range(RUNS)}


def _too_many(lines: list[str]) -> list[str]:
    """Return the lines at which more runs were under way than the limit in force allowed."""
    under_way: dict[str, str] = {}
    limit, before, since, found = 0, 0, 0.0, []
    for line in lines:
        what, *about = line.split()
        if what == "limit":
            limit, before, since = int(about[0]), limit, float(about[1])
        elif what == "killed":
            under_way = {label: pid for label, pid in under_way.items() if pid != about[0]}
        elif what == "end":
            under_way.pop(about[0], None)
        else:
            under_way[about[0]] = about[1]
            allowed = limit if float(about[2]) > since + GRACE else max(limit, before)
            if len(under_way) > allowed:
                found.append(line)
    return found
