"""kill -9 at every moment of a run's life: another worker goes on where it stood, and repeats only what it must."""

from __future__ import annotations

import json
from types import ModuleType
from uuid import UUID

import pytest
from pytest_django import Settings

from canx_flow import RunFailed
from canx_flow.core.clock import now
from canx_flow.models import StepRecord, Timer, Worker, WorkflowRun

from .. import workflows
from ..models import Effect
from ..processes import WorkerProcess, Workers, manage
from ..waiting import wait_until


def test_c025_c097_a_killed_step_is_called_again(workers: Workers, effects: ModuleType) -> None:
    """C025, C097: another worker goes on with the step in which its worker was killed, and repeats nothing else."""
    runs = [workflow.start(name) for workflow, name in _ALL_HELD]
    first = workers.start()
    wait_until(lambda: all(effects.count(f"at {name}") for _, name in _ALL_HELD))
    first.kill()
    workers.start()
    wait_until(lambda: all(effects.count(f"at {name}") == 2 for _, name in _ALL_HELD))
    for _, name in _ALL_HELD:
        effects.release(name)
    for run, (workflow, name) in zip(runs, _ALL_HELD, strict=True):
        assert workflow.result(run, timeout=20) == name
        assert [effects.count(f"{name} {step}") for step in ("before", "held", "after")] == [1, 2, 1]
        assert StepRecord.objects.get(run_id=run, name="held").attempts == 1  # The killed call was no attempt.


_ALL_HELD = [(workflows.held, "sync"), (workflows.aheld, "async"), (workflows.aheld_thread, "thread")]


def test_c097_where_the_process_cannot_be_seen_the_lease_decides(
    short_lease: None, workers: Workers, effects: ModuleType
) -> None:
    """C097: a killed worker of another host keeps its run until its lease has run out; then it continues at step k."""
    run = workflows.held.start("far")
    first = workers.start()
    dead = _told_of(first, "held").id
    Worker.objects.update(boot_id="another machine")
    first.kill()
    effects.release("far")
    second = workers.start()
    assert workflows.held.result(run, timeout=20) == "far"
    assert [effects.count(f"far {step}") for step in ("before", "held", "after")] == [1, 2, 1]
    assert f"(pid {first.pid}, id {dead}) is dead: it gave no sign for 1.5 s" in second.log()
    assert f"id {dead}), which has ended: run {run} (in step 'held')" in second.log()


@pytest.mark.parametrize("workflow", [workflows.generations, workflows.agenerations], ids=["sync", "async"])
def test_a_killed_generation_goes_on_and_no_other_is_repeated(
    workers: Workers, effects: ModuleType, workflow: object
) -> None:
    """C097, C134: the worker is killed in the second generation, which the next one goes on with where it stood."""
    run = workflow.start("g")
    first = workers.start()
    wait_until(lambda: effects.count("at g"))
    first.kill()
    effects.release("g")
    workers.start()
    assert workflow.result(run, timeout=20) == "g 2"
    assert WorkflowRun.objects.get(id=run).generation == 2
    assert [effects.count(f"g {step} {number}") for number in range(3) for step in ("before", "after")] == [1] * 6
    assert effects.count("g held") == 2


@pytest.mark.parametrize("workflow", [workflows.receipts, workflows.areceipts], ids=["sync", "async"])
def test_a_step_killed_between_its_end_and_its_commit_is_called_again(
    workers: Workers, effects: ModuleType, workflow: object
) -> None:
    """C025: the function has ended and nothing is stored: at-least-once calls it again."""
    run = workflow.start("r")
    first = workers.start()
    wait_until(lambda: effects.count("at encoding r"))
    assert effects.count("r charged") == 1
    first.kill()
    assert not StepRecord.objects.filter(run_id=run).exists()
    effects.release("encoding r")
    workers.start()
    assert workflow.result(run, timeout=20) == "r"
    assert (effects.count("r charged"), effects.count("r after")) == (2, 1)


def test_c038_a_sleep_keeps_its_deadline_over_a_kill(workers: Workers, effects: ModuleType) -> None:
    """C038: the worker is killed while the run sleeps; the next one wakes it at the moment that was set at first."""
    run = workflows.naps.start("n", 4)
    first = workers.start()
    wait_until(lambda: workflows.naps.status(run).state == "sleeping")
    due = Timer.objects.get(run_id=run).due_at
    first.kill()
    workers.start()
    assert Timer.objects.get(run_id=run).due_at == due
    assert workflows.naps.result(run, timeout=20) == "n"
    assert StepRecord.objects.get(run_id=run, name="nap").finished_at >= due
    assert StepRecord.objects.get(run_id=run, name="after").started_at >= due
    assert (effects.count("n before"), effects.count("n after")) == (1, 1)


def test_c039_a_sleep_that_ended_while_no_worker_lived_ends_at_once(workers: Workers, effects: ModuleType) -> None:
    """C039: the wake time passes with every worker killed; the run goes on with the next one's first turn."""
    run = workflows.naps.start("n", 1)
    first = workers.start()
    wait_until(lambda: workflows.naps.status(run).state == "sleeping")
    first.kill()
    due = Timer.objects.get(run_id=run).due_at
    wait_until(lambda: now() > due)
    assert workflows.naps.status(run).state == "sleeping"
    workers.start()
    assert workflows.naps.result(run, timeout=20) == "n"
    assert (effects.count("n before"), effects.count("n after")) == (1, 1)


def test_a_run_killed_on_its_way_into_a_sleep_sleeps_anew(workers: Workers, effects: ModuleType) -> None:
    """The suspension has begun and is not stored: the next worker suspends the run as if for the first time."""
    run = workflows.leaving.start("l")
    first = workers.start()
    wait_until(lambda: effects.count("at l"))
    first.kill()
    assert not StepRecord.objects.filter(run_id=run).exists()
    assert not Timer.objects.filter(run_id=run).exists()
    effects.release("l")
    workers.start()
    assert workflows.leaving.result(run, timeout=20) == "l"


def test_a_message_reaches_a_run_whose_worker_was_killed_while_it_waited(workers: Workers, effects: ModuleType) -> None:
    """The event is sent while no worker lives, and is read once by the next."""
    run = workflows.waits.start("w")
    first = workers.start()
    wait_until(lambda: workflows.waits.status(run).state == "waiting")
    first.kill()
    assert workflows.waits.send(run, "go", {"n": 1})
    workers.start()
    assert workflows.waits.result(run, timeout=20) == {"n": 1}
    assert (effects.count("w before"), effects.count("w after")) == (1, 1)


def test_c024_an_at_most_once_step_that_was_killed_is_final(workers: Workers, effects: ModuleType) -> None:
    """C024: without retry= the function is not called again, and the run sees StepInterrupted."""
    run = workflows.at_most_once.start("o", False)
    first = workers.start()
    wait_until(lambda: effects.count("at o"))
    first.kill()
    workers.start()
    with pytest.raises(RunFailed, match="StepInterrupted"):
        workflows.at_most_once.result(run, timeout=20)
    assert effects.count("o held") == 1
    assert effects.count("o noted 1 StepInterrupted") == 1
    assert StepRecord.objects.get(run_id=run, name="charge").attempts == 1


def test_c024_with_retry_the_interruption_is_one_failed_attempt(workers: Workers, effects: ModuleType) -> None:
    """C024: the policy is asked, and the second call is attempt 2."""
    run = workflows.at_most_once.start("o", True)
    first = workers.start()
    wait_until(lambda: effects.count("at o"))
    first.kill()
    effects.release("o")
    workers.start()
    assert workflows.at_most_once.result(run, timeout=20) == "o"
    assert effects.count("o held") == 2
    record = StepRecord.objects.get(run_id=run, name="charge")
    assert record.attempts == 2
    assert "StepInterrupted" in record.errors


def test_c033_an_atomic_step_killed_before_its_commit_leaves_nothing(workers: Workers, effects: ModuleType) -> None:
    """C033: row and record come together or not at all; the second call writes both."""
    run = workflows.atomic_held.start("a")
    first = workers.start()
    wait_until(lambda: effects.count("at a"))
    first.kill()
    assert not Effect.objects.exists()
    assert not StepRecord.objects.filter(run_id=run).exists()
    effects.release("a")
    workers.start()
    assert workflows.atomic_held.result(run, timeout=20) == "a"
    assert Effect.objects.count() == 1
    assert effects.count("a called") == 2


def test_c034_an_atomic_step_killed_right_after_its_commit_is_not_called_again(
    workers: Workers, effects: ModuleType
) -> None:
    """C034: on resume the row exists once, and the stored result is used."""
    run = workflows.atomic_killed_after.start("a")
    assert workers.start(banner=False).wait() == -9
    assert Effect.objects.count() == 1
    workers.start()
    assert workflows.atomic_killed_after.result(run, timeout=20) == "a"
    assert Effect.objects.count() == 1
    assert (effects.count("a called"), effects.count("a after")) == (1, 1)


def test_c102_a_run_that_kills_its_workers_is_isolated_then_parked(
    workers: Workers, effects: ModuleType, settings: Settings
) -> None:
    """C102: claimed alone from the third recovery, parked after MAX_RECOVERIES of those, retry resets the count."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "MAX_RECOVERIES": 2}
    run = workflows.killer.start("k", 6)
    neighbours = {label: workflows.held.start(label) for label in ("early 1", "early 2", "early 3")}
    for _ in range(3):
        assert workers.start(banner=False).wait() == -9
    neighbours |= {label: workflows.held.start(label) for label in ("late 1", "late 2", "late 3")}
    for _ in range(2):
        assert workers.start(banner=False).wait() == -9
    worker = workers.start()
    wait_until(lambda: WorkflowRun.objects.get(id=run).state == "parked")
    assert workflows.killer.status(run).reason.startswith("TooManyRecoveries")
    assert [line for line in effects.read() if line.startswith("k beside")] == _beside(3, 3, 3, 0, 0)
    _complete(effects, neighbours)

    another = workflows.held.start("another")
    wait_until(lambda: effects.count("at another"))
    assert workflows.killer.retry(run)
    assert worker.wait() == -9
    assert WorkflowRun.objects.get(id=run).state == "running"
    workers.start()
    assert workflows.killer.result(run, timeout=20) == "k"
    _complete(effects, {"another": another})
    lines = [line for line in effects.read() if line.startswith("k beside")]
    assert lines[5:6] == _beside(1)
    assert len(lines) == 7


def _beside(*numbers: int) -> list[str]:
    return [f"k beside {number}" for number in numbers]


def _complete(effects: ModuleType, neighbours: dict[str, UUID]) -> None:
    """Those beside a killer are unharmed: each completes, and what was stored of it was done once."""
    for label in neighbours:
        effects.release(label)
    for label, run in neighbours.items():
        assert workflows.held.result(run, timeout=30) == label
        assert effects.count(f"{label} after") == 1


def test_a_call_that_was_cut_off_is_shown(settings: Settings, workers: Workers, effects: ModuleType) -> None:
    """No attempt is counted for it, and yet it is told: how often, in which step, on which worker."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LEASE_SECONDS": 60}  # It does not run out before it is looked at.
    run = workflows.held.start("x")
    for name in ("w1", "w2"):
        _kill_in_step(workers.start("--name", name), "held")
    shown = " ".join(manage("flow", "show", str(run), COLUMNS="120").stdout.split())
    # Of this host: known before the lease has run out.
    assert "held: its worker w2 is gone: taken over when another worker runs" in shown
    assert "Another worker takes it over. If none is live, start one" in shown
    workers.start("--queue", "none")  # It takes the run back, and does not claim it.
    wait_until(lambda: WorkflowRun.objects.get(id=run).recoveries == 2)
    said = "cut off 2 times since its last stored record: its worker died in step held"
    assert workflows.held.status(run).reason == said
    shown = " ".join(manage("flow", "show", str(run), COLUMNS="100").stdout.split())
    assert "cut off 2 times: its worker died in step held, last " in shown
    assert "ago on w2" in shown
    assert "held interrupted" in shown
    assert "cut off 2 times: its worker died in it; whether it had its effect is not known" in shown
    assert "cut off 2 times: its worker died" in manage("flow", "list", COLUMNS="160").stdout
    facts = json.loads(manage("flow", "show", str(run), "--json").stdout)
    assert [(cut["step"], cut["worker"]) for cut in facts["cut_off"]] == [("held", "w1"), ("held", "w2")]
    effects.release("x")
    workers.start()
    assert workflows.held.result(run, timeout=20) == "x"
    assert (workflows.held.status(run).reason, StepRecord.objects.get(run_id=run, name="held").attempts) == ("", 1)
    assert "cut off" not in manage("flow", "show", str(run)).stdout


def _told_of(worker: WorkerProcess, step: str) -> Worker:
    """The row of this worker, once its heartbeat has told of the step."""
    return wait_until(lambda: Worker.objects.filter(pid=worker.pid, activity__contains=f'"{step}"').first())


def _kill_in_step(worker: WorkerProcess, step: str) -> None:
    _told_of(worker, step)
    worker.kill()
