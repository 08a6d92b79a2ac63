"""How the items of a map are to be called: the options of `ctx.map`, checked. Made by the contexts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..retry import Retry
from .step_options import StepOptions


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

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        step: StepOptions,
        concurrency: int | None,
        tolerate: float,
        compensate: Callable[[Any], Any] | None = None,
        retry: Retry | None = None,
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
        return cls(function, step, concurrency, tolerate, compensate, retry)

    def allowed(self, number: int) -> int:
        """Return how many of so many items may fail."""
        if isinstance(self.tolerate, int):
            return self.tolerate
        return math.floor(self.tolerate * number + 1e-9)  # 0.29 of 100 is a little less than 29.
