"""Processes that start runs of one name at the same moment, beside real workers."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from canx_flow.models import RunSingleton, WorkflowRun
from canx_flow.states import ENDED

from ..processes import ROOT, environment
from ..waiting import wait_until
from .shared import gated

PROCESSES, NAMES = 8, 10

_START = """
import json, django
django.setup()
from canx_flow import AlreadyStarted
from tests import effects
from tests.policies.shared import step
answers = []
effects.gate("go", 180)
for number in range({names}):
    try:
        start = step.using(singleton=f"name-{{number}}", on_conflict="{conflict}", delay={delay}).start
        answers.append(str(start(f"{{number}}")))
    except AlreadyStarted as error:
        answers.append([str(error.run_id)])
print(json.dumps(answers))
"""


def _all_at_once(effects: Any, conflict: str, delay: float | None) -> list[list[Any]]:
    """What each process was answered, name by name. What they say on stderr is shown where the test fails."""
    code = _START.format(names=NAMES, conflict=conflict, delay=delay)
    command = [sys.executable, "-c", code]
    with ExitStack() as ends:
        begun = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
            begun.append(ends.enter_context(process))
            ends.callback(process.kill)
        wait_until(lambda: _are_there(effects, begun), 120, message="not all processes are there")
        effects.release("go")
        return [json.loads(process.communicate(timeout=120)[0]) for process in begun]


def _are_there(effects: Any, begun: list[subprocess.Popen[str]]) -> bool:
    """Whether all stand at the gate; one that has left, with an error at its import say, never will."""
    left = [process.returncode for process in begun if process.poll() is not None]
    assert not left, f"processes left before the gate, with {left}: see stderr"
    return bool(effects.count("at go") == PROCESSES)


@pytest.mark.django_db(transaction=True)
def test_c114_of_eight_processes_one_starts_each_name(effects: Any) -> None:
    """The others get its id."""
    answers = _all_at_once(effects, "existing", None)
    assert WorkflowRun.objects.count() == NAMES
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.django_db(transaction=True)
def test_c114_of_eight_processes_seven_are_rejected(effects: Any) -> None:
    """Each name is started once, and the others are told by which run."""
    answers = _all_at_once(effects, "reject", None)
    for number in range(NAMES):
        some = [answer[number] for answer in answers]
        [started] = [answer for answer in some if isinstance(answer, str)]
        assert [answer for answer in some if answer != started] == [[started]] * (PROCESSES - 1)
    assert WorkflowRun.objects.count() == NAMES


def test_what_waits_for_a_name_is_told_of_the_end(worker: Any, effects: Any) -> None:
    """It starts long before the worker's next poll."""
    named = gated.using(singleton="a", on_conflict="cancel_other")
    first = named.start("first")
    worker.start("--poll-interval", "120")
    wait_until(lambda: effects.count("at first"), 30, message="the first has not begun")
    effects.release("second")
    second = named.start("second")
    assert gated.status(first).state == "stopping"
    effects.release("first")
    wait_until(lambda: gated.status(second).state == "completed", 30, message="the second was not started")
    assert gated.status(first).state == "cancelled"


def test_eight_processes_cancel_each_other_beside_workers(workers: Any, effects: Any) -> None:
    """While workers claim and end the runs: each run ends, no name is left behind, and of those of one name never two
    did their step at once, for they were cancelled before or had ended."""
    for _ in range(2):
        workers.new().start()
    answers = _all_at_once(effects, "cancel_other", None)
    wait_until(lambda: not WorkflowRun.objects.exclude(state__in=ENDED).exists(), 60, message="not all have ended")
    assert len({run_id for answer in answers for run_id in answer}) == PROCESSES * NAMES
    assert not RunSingleton.objects.exists()
    assert not WorkflowRun.objects.filter(state="failed").exists()
    spans = WorkflowRun.objects.filter(started_at__isnull=False).values_list("arguments", "started_at", "finished_at")
    by_name: dict[str, list[Any]] = {}
    for name, begun, ended in spans:
        by_name.setdefault(name, []).append((begun, ended))
    for some in by_name.values():
        ordered = sorted(some)
        assert all(before[1] <= after[0] for before, after in pairwise(ordered))
