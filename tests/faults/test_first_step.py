"""A run that is cancelled or paused after its claim and before its first step."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from canx_flow.models import Worker
from tests import workflows
from tests.processes import Workers
from tests.waiting import wait_until


@pytest.mark.parametrize("at_most_once", [False, True], ids=["plain", "at most once"])
@pytest.mark.parametrize(("verb", "state"), [("cancel", "cancelled"), ("pause", "paused")])
def test_c081_c087_nothing_is_called_once_the_run_was_told_to_stop(
    workers: Workers, effects: ModuleType, verb: str, state: str, at_most_once: bool
) -> None:
    """The body was busy when the call came: the first step is not called, and an attempt begun is taken back."""
    workers.start()
    run_id = workflows.late.start("gate", at_most_once)
    wait_until(lambda: effects.count("at gate"))
    # What the claim said of its state is believed for a twentieth of a second; a heartbeat comes every half.
    beat = Worker.objects.get().beat
    wait_until(lambda: Worker.objects.get().beat > beat + 1)
    act: Any = getattr(workflows.late, verb)
    assert act(run_id) is True
    effects.release("gate")

    wait_until(lambda: workflows.late.runs.filter(id=run_id, state=state, owner=None).exists())
    assert effects.count("gate called") == 0
    if verb == "pause":
        workflows.late.resume(run_id)
        wait_until(lambda: workflows.late.status(run_id).state == "completed")
        assert effects.count("gate called") == 1
