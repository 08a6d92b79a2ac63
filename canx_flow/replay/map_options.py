"""How the items of a map are to be called: the options of `ctx.map`, checked. Made by the contexts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..core import executors
from ..core.delegations import START_TIMEOUT, DelegateOptions
from ..core.executors import Executor
from ..core.naming import checked
from ..retry import Retry
from ..states import Kind
from .step_options import StepOptions


@dataclass(frozen=True, slots=True)
class Away:
    """What calls each item elsewhere, and how."""

    executor: Executor
    task: Any
    options: DelegateOptions

    @classmethod
    def of(
        cls, policy: Retry, name: str, task: Any, retry: Retry | None, timeout: float | timedelta | None,
        at_most_once: bool, given: Mapping[str, Any],
    ) -> Away:  # fmt: skip
        """Look up the executor: ValueError if there is none of this name, TypeError if it does not accept the task.

        `given`: options that only steps have which are called here; ValueError if one is set.
        """
        executor = executors.find(checked(name, "executor"))
        if not executor.accepts(task):
            raise TypeError(f"executor {name!r} does not accept {task!r}")
        for option, value in given.items():
            if value is not None and value is not False:
                raise ValueError(f"{option} is no option of a map whose items executor {name!r} calls")
        return cls(executor, task, DelegateOptions.of(policy, START_TIMEOUT, timeout, None, retry, at_most_once))


@dataclass(frozen=True, slots=True)
class MapOptions:
    """`step`: those of each item's. `concurrency`: `None` for the places that all branches of a run share."""

    function: Callable[..., Any]
    step: StepOptions
    concurrency: int | None
    tolerate: float
    compensate: Callable[[Any], Any] | None = None
    #: For the undo: what the step was given.
    retry: Retry | None = None
    #: What calls the items elsewhere, if another executor does.
    away: Away | None = None

    @property
    def kind(self) -> str:
        """The kind of an item's record."""
        return Kind.STEP if self.away is None else Kind.DELEGATE

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        step: StepOptions,
        concurrency: int | None,
        tolerate: float,
        compensate: Callable[[Any], Any] | None = None,
        retry: Retry | None = None,
        away: Away | None = None,
    ) -> MapOptions:
        """Check them."""
        if concurrency is not None and (isinstance(concurrency, bool) or not isinstance(concurrency, int)):
            raise TypeError(f"concurrency must be an int, not {type(concurrency).__name__}")
        if concurrency is not None and concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        if isinstance(tolerate, bool) or not isinstance(tolerate, (int, float)):
            raise TypeError(f"tolerate must be a number, not {type(tolerate).__name__}")
        if not tolerate >= 0 or (isinstance(tolerate, float) and not tolerate < 1):
            raise ValueError(f"tolerate must be a count of items (int), or a share of them below 1, not {tolerate}")
        return cls(function, step, concurrency, tolerate, compensate, retry, away)

    def allowed(self, number: int) -> int:
        """Return how many of so many items may fail."""
        if isinstance(self.tolerate, int):
            return self.tolerate
        return math.floor(self.tolerate * number + 1e-9)  # 0.29 of 100 is a little less than 29.
