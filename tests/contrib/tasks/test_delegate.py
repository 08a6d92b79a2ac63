"""Steps that backends of Django's tasks do: at once, and by the engine itself."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from canx_flow import Context, Retry, StepFailed, workflow
from canx_flow.contrib.tasks.executor import TasksExecutor
from canx_flow.core import executors, registry
from canx_flow.models import Delegation, WorkflowRun
from canx_flow.testing import run_until_idle

ONCE = Retry(max_attempts=1)


@pytest.fixture
def delegating() -> Iterator[Any]:
    """A workflow that delegates to one task."""
    executors.register(TasksExecutor())

    @workflow("tasks.delegating")
    def delegating(ctx: Context, name: str, backend: str, *args: Any) -> Any:
        from . import work

        try:
            return ctx.delegate("far", getattr(work, name).using(backend=backend), *args, retry=ONCE)
        except StepFailed as error:
            return str(error)

    yield delegating
    registry.forget("tasks.delegating")
    del executors._executors["tasks"]


@pytest.mark.parametrize("backend", ["immediate", "default"])
def test_the_task_of_a_backend_does_the_step(work: ModuleType, delegating: Any, backend: str) -> None:
    """Plain or async; its result is the step's, its error the attempt's; its queue and priority are its own."""
    del work
    runs = [delegating.start(*given) for given in (("add", backend, 1, 2), ("add_async", backend, 3, 4))]
    failing = delegating.start("fail", backend, "no")
    run_until_idle()
    assert [delegating.result(run_id, 0) for run_id in runs] == [3, 7]
    assert delegating.result(failing, 0).startswith("step 'far' failed after 1 attempt: ")
    assert {row.state for row in Delegation.objects.all()} == {"ended"}
    assert WorkflowRun.objects.filter(workflow__startswith="task:").count() == (0 if backend == "immediate" else 3)
