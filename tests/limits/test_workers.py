"""Limits of steps among several real workers: never more at once, never sooner than the rate, whoever is killed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from canx_flow.client import cancel, get_run, pause, resume
from canx_flow.core import clock
from canx_flow.models import LimitBucket, LimitHolder, StepRecord, Timer, WorkflowRun
from canx_flow.store import limits
from tests import limiting
from tests.limiting import begun, most_at_once
from tests.processes import Workers
from tests.waiting import wait_until

KINDS = [
    limiting.limited,
    limiting.limited_async,
    limiting.limited_branches,
    limiting.limited_branches_async,
    limiting.limited_failing,
    limiting.limited_atomic,
]


@pytest.fixture(autouse=True)
def _limits(settings: Any) -> None:
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": limiting.LIMITS}


def _have_ended(runs: list[UUID]) -> bool:
    return not WorkflowRun.objects.filter(id__in=runs).exclude(state="completed").exists()


def _reserved(limit: str, seconds: float) -> float:
    """Have all starts of a limit reserved for so many seconds; return until when that is.

    So it is known which moments are given: when a call begins tells only that its moment has come.
    """
    until = limits.now_of(clock.now()) + int(seconds * 1_000_000)
    LimitBucket.objects.create(name=limit, tat=until)
    return until / 1_000_000


def _early(moments: Sequence[float], since: float, burst: int, rate: int) -> list[int]:
    """Return which calls have begun before their moments. The clocks are those of one machine."""
    return [n for n, at in enumerate(moments) if at < since + (n + 1 - burst) / rate - 0.005]


def _nothing_is_left() -> bool:
    return not LimitHolder.objects.exists() and not Timer.objects.exists()


def test_places_are_exact_whoever_is_killed(workers: Workers, effects: ModuleType) -> None:
    """Steps of all kinds in four workers, three of which are killed: never more at once than may be."""
    started = workers.start_many(4, "--concurrency", "8")
    runs = [run_id for flow in KINDS for run_id in flow.start_many([("places", n) for n in range(6)])]
    for killed in started[:3]:
        seen = len(effects.read())
        wait_until(lambda: len(effects.read()) > seen + 30)  # noqa: B023 - asked at once
        effects.append(f"killed {killed.pid}")
        killed.kill()
        workers.start("--concurrency", "8", banner=False)
    wait_until(lambda: _have_ended(runs), 120)
    assert most_at_once(effects.read(), "places") == 3
    wait_until(_nothing_is_left)


@pytest.mark.parametrize("flow", KINDS, ids=lambda flow: flow.name)
def test_a_rate_is_kept_by_several_workers(workers: Workers, effects: ModuleType, flow: Any) -> None:
    """No call begins before its share of the rate, over all workers."""
    since = _reserved("rate", 3)
    workers.start_many(2, "--concurrency", "8")
    runs = flow.start_many([("rate", n) for n in range(20)])
    wait_until(lambda: _have_ended(runs), 120)
    moments = begun(effects.read(), "rate")
    assert len(moments) >= 20
    assert _early(moments, since, 2, 40) == []


def test_a_rate_and_places_hold_together_whoever_is_killed(workers: Workers, effects: ModuleType) -> None:
    """A limit that has both keeps both, though two of three workers are killed."""
    since = _reserved("both", 3)
    started = workers.start_many(3, "--concurrency", "8")
    runs = [run_id for flow in KINDS[:4] for run_id in flow.start_many([("both", n) for n in range(8)])]
    for killed in started[:2]:
        seen = len(effects.read())
        wait_until(lambda: len(effects.read()) > seen + 20)  # noqa: B023 - asked at once
        effects.append(f"killed {killed.pid}")
        killed.kill()
    wait_until(lambda: _have_ended(runs), 120)
    lines = effects.read()
    assert most_at_once(lines, "both") <= 2
    assert _early(begun(lines, "both"), since, 5, 50) == []


def test_a_run_that_waits_for_a_place_goes_on_in_another_worker(workers: Workers, effects: ModuleType) -> None:
    """A place that one worker gives back is used by a run that has waited for it."""
    workers.start_many(2, "--concurrency", "1")
    first = limiting.limited_gate.start("one", "a")
    wait_until(lambda: effects.count("at a"))
    second = limiting.limited_gate.start("one", "b")
    wait_until(lambda: get_run(second).state == "waiting")
    effects.release("a")
    wait_until(lambda: effects.count("at b"))
    assert get_run(first).state == "completed"
    effects.release("b")
    wait_until(lambda: get_run(second).state == "completed")


def test_the_place_of_a_killed_worker_is_free(workers: Workers, effects: ModuleType) -> None:
    """A place is held by a run as long as its worker has it: once that is recovered, another run has it."""
    held = workers.start("--max-runs", "1")
    limiting.limited_gate.start("one", "a")
    wait_until(lambda: effects.count("at a"))
    workers.start()
    second = limiting.limited_gate.start("one", "b")
    wait_until(lambda: get_run(second).state == "waiting")
    held.kill()
    effects.release("a")
    effects.release("b")
    wait_until(lambda: get_run(second).state == "completed")


@pytest.mark.parametrize("act", ["pause", "cancel"])
def test_a_run_that_is_stopped_gives_its_place_back(workers: Workers, effects: ModuleType, act: str) -> None:
    """The step in flight of a run that is paused or cancelled ends, and then another run has its place."""
    workers.start()
    first = limiting.limited_gate.start("one", "a")
    wait_until(lambda: effects.count("at a"))
    second = limiting.limited_gate.start("one", "b")
    wait_until(lambda: get_run(second).state == "waiting")
    assert (pause if act == "pause" else cancel)(first)
    assert LimitHolder.objects.count() == 1
    effects.release("a")
    wait_until(lambda: effects.count("at b"))
    effects.release("b")
    wait_until(lambda: get_run(second).state == "completed")
    if act == "pause":
        resume(first)
        wait_until(lambda: get_run(first).state == "completed")
    wait_until(_nothing_is_left)


def test_a_run_that_is_cancelled_while_it_waits_for_a_place_is_behind_nobody(
    workers: Workers, effects: ModuleType
) -> None:
    """It ends at once, and the place goes to the next that waits."""
    workers.start()
    limiting.limited_gate.start("one", "a")
    wait_until(lambda: effects.count("at a"))
    second, third = (limiting.limited_gate.start("one", name) for name in ("b", "c"))
    wait_until(lambda: get_run(second).state == get_run(third).state == "waiting")
    assert cancel(second)
    assert get_run(second).state == "cancelled"
    effects.release("a")
    wait_until(lambda: effects.count("at c"))
    assert effects.count("at b") == 0
    effects.release("c")
    wait_until(lambda: get_run(third).state == "completed")


def test_what_is_waited_for_is_no_part_of_a_timeout(workers: Workers, effects: ModuleType) -> None:
    """Steps with 0.3 seconds each, of which a limit lets two begin in a second, are all done."""
    workers.start()
    runs = limiting.limited_in_time.start_many([("second", n) for n in range(5)])
    wait_until(lambda: _have_ended(runs), 30)
    assert len(begun(effects.read(), "second")) == 5


def test_the_loser_of_a_race_gives_its_place_back(workers: Workers, effects: ModuleType) -> None:
    """A branch that waits for its moment begins nothing once the race is decided, and holds nothing."""
    workers.start()
    first = limiting.limited.start("second", 0)
    runs = limiting.limited_race.start_many([("second", f"r{n}") for n in range(3)])
    wait_until(lambda: _have_ended([first, *runs]), 30)
    wait_until(_nothing_is_left)
    lines = effects.read()
    assert "quick" in {WorkflowRun.objects.get(id=run_id).result.strip('"') for run_id in runs}
    decided = {line.split()[1]: at for at, line in enumerate(lines) if line.startswith("decided")}
    begun_by = {line.split()[3].partition("-")[0]: at for at, line in enumerate(lines) if line.startswith("begin")}
    assert [name for name, at in decided.items() if begun_by.get(name, 0) > at] == []


def test_a_call_that_is_cut_off_while_it_waits_holds_nothing(workers: Workers, effects: ModuleType) -> None:
    """A timeout of the body around a step that waits for its moment gives its place back, and nothing is recorded."""
    workers.start()
    run_id = limiting.limited_cut_off.start("cut", "a")
    wait_until(lambda: effects.count("at a"))
    wait_until(lambda: not LimitHolder.objects.exists(), 5)
    effects.release("a")
    wait_until(lambda: _have_ended([run_id]))
    assert len(begun(effects.read(), "cut")) == 2
    assert not StepRecord.objects.filter(run_id=run_id, name="second").exists()
    wait_until(_nothing_is_left)


def test_a_worker_that_is_told_to_stop_does_not_wait_for_limits(workers: Workers, effects: ModuleType) -> None:
    """It hands back at once what waits, and another worker calls it in its time."""
    since = _reserved("second", 1)
    worker = workers.start("--concurrency", "4")
    runs = limiting.limited.start_many([("second", n) for n in range(6)])
    wait_until(lambda: begun(effects.read(), "second"))
    worker.terminate()
    began = time.monotonic()
    assert worker.wait() == 0
    assert time.monotonic() - began < 5
    workers.start("--concurrency", "4")
    wait_until(lambda: _have_ended(runs), 30)
    moments = begun(effects.read(), "second")
    assert len(moments) == 6
    assert _early(moments, since, 1, 2) == []


def test_many_that_ask_at_once_are_answered_together(workers: Workers, effects: ModuleType) -> None:
    """Runs far beyond the rate suspend, hold no slot, and each has a moment of its own."""
    workers.start("--concurrency", "16")
    runs = limiting.limited_async.start_many([("minute", n) for n in range(60)])
    wait_until(lambda: WorkflowRun.objects.filter(id__in=runs, state="sleeping").count() == 59, 30)
    moments = sorted(due for due in Timer.objects.values_list("due_at", flat=True) if due is not None)
    apart = [(after - before).total_seconds() for before, after in pairwise(moments)]
    assert all(58 < seconds < 62 for seconds in apart)
    assert LimitBucket.objects.count() == 1
