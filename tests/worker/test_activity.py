"""What a worker says of itself: which step each run is in, and since when."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import ModuleType
from uuid import UUID, uuid4

import pytest
from freezegun import freeze_time

from canx_flow.core.claimed import ClaimedRun, Standing
from canx_flow.core.current import CurrentStep
from canx_flow.models import Worker
from canx_flow.replay.activation import Activation
from canx_flow.replay.branch import Branch
from canx_flow.replay.call import Call
from canx_flow.worker.activity import Activity

from ..processes import Workers
from ..waiting import wait_until
from ..workflows import held

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _activation(step: str | None = "charge", epoch: int = 1) -> tuple[UUID, Branch]:
    run = ClaimedRun(uuid4(), "w", "", "default", "running", epoch, 0, "[[],{}]", {}, Standing())
    root = Branch(Activation(run, None))
    if step is not None:
        _call(root, step)
    return run.id, root


def _call(root: Branch, step: str, attempt: int = 1, timeout: float | None = None) -> None:
    root.call = Call(str, (), CurrentStep(root.run.id, step, attempt), timeout)


@pytest.mark.once
def test_since_when_is_what_the_beats_have_seen() -> None:
    """The first beat that meets a step notes the time; another attempt, step or owner begins anew."""
    run_id, root = _activation()
    activity = Activity()

    def since() -> str:
        said: str = activity.describe({run_id: root})[str(run_id)]["since"]
        return said

    with freeze_time(START) as frozen:
        assert since() == START.isoformat()
        frozen.tick(5)
        assert since() == START.isoformat()
        _call(root, "charge", attempt=2)
        second = since()
        assert second > START.isoformat()
        frozen.tick(5)
        root.run.epoch = 2
        assert since() > second
        assert activity.describe({}) == {}
        frozen.tick(5)
        assert since() == (START.replace(second=15)).isoformat()


@pytest.mark.once
def test_only_runs_that_have_something_to_say() -> None:
    """A step with its timeout, or progress; a run between two steps says nothing."""
    called, calling = _activation()
    _call(calling, "charge", timeout=2.5)
    quiet, silent = _activation(step=None)
    busy, telling = _activation(step=None)
    telling.activation.published.progress = progress = {"done": 1, "total": None, "message": ""}
    said = Activity().describe({called: calling, quiet: silent, busy: telling})
    assert said.keys() == {str(called), str(busy)}
    assert (said[str(called)]["step"], said[str(called)]["timeout"]) == ("charge", 2.5)
    assert said[str(busy)] == {"step": None, "attempt": 1, "progress": progress}


def test_a_real_worker_says_it(workers: Workers, effects: ModuleType) -> None:
    """Its heartbeat stores the step, the time and that there is no timeout."""
    run_id = str(held.start("it"))
    workers.start()
    rows = Worker.objects.filter(state="alive").values_list("activity", flat=True)
    said = wait_until(lambda: next((found for row in rows.all() if (found := json.loads(row).get(run_id))), None))
    assert (said["step"], said["attempt"], said["timeout"]) == ("held", 1, None)
    assert datetime.fromisoformat(said["since"]).tzinfo is not None
    effects.release("it")
    assert held.result(run_id, timeout=20) == "it"
