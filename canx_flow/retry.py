"""When a failed step is tried again, and after how long. Pure: the waiting itself is a timer row.

Called by the operations after a failed attempt; users hand `Retry` to workflows, steps and settings.
"""

from __future__ import annotations

import math
import random as _random
from dataclasses import dataclass
from random import Random
from typing import Any

from .core.delegated import is_a
from .core.naming import shown
from .exceptions import GiveUp, RetryAfter

LONGEST_DELAY = 10 * 365 * 86400.0  # seconds between two attempts, whatever a policy or RetryAfter says
_MOST_FACTOR = 1_000_000


@dataclass(frozen=True)
class Retry:
    """A retry policy. Times are in seconds, ten years at most.

    `max_attempts`: calls in all, the first included; `None` for ever. The n-th wait is
    `initial * factor ** (n - 1)`, at most `max_delay`, times a random number from 1 - `jitter` to 1.
    Retried is what is a `retry_on` and no `give_up_on`. TypeError or ValueError name the argument at fault.
    """

    max_attempts: int | None = 16
    initial: float = 1.0
    factor: float = 2.0
    max_delay: float = 300.0
    jitter: float = 0.1
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        _check_attempts(self.max_attempts)
        _check_number("initial", self.initial, 0, LONGEST_DELAY)
        _check_number("factor", self.factor, 1, _MOST_FACTOR)
        _check_number("max_delay", self.max_delay, 0, LONGEST_DELAY)
        _check_number("jitter", self.jitter, 0, 1)
        _check_classes("retry_on", self.retry_on)
        _check_classes("give_up_on", self.give_up_on)

    def wants(self, exc: BaseException, attempts: int) -> bool:
        """Tell whether to try again after `exc`. `attempts`: failures so far, this one included."""
        if isinstance(exc, GiveUp):
            return False
        if self.max_attempts is not None and attempts >= self.max_attempts:
            return False
        if isinstance(exc, RetryAfter):
            return True
        return any(is_a(exc, cls) for cls in self.retry_on) and not any(is_a(exc, cls) for cls in self.give_up_on)

    def delay(self, exc: BaseException, attempts: int, random: Random | None = None) -> float:
        """Return the seconds until the next attempt, after `attempts` failures of which `exc` is the last."""
        if isinstance(exc, RetryAfter):
            return exc.seconds
        uniform = random.uniform if random is not None else _random.uniform
        return self._wait(attempts) * uniform(1 - self.jitter, 1)

    def _wait(self, attempts: int) -> float:
        if not self.initial:
            return 0.0
        try:
            wait = self.initial * float(self.factor) ** max(attempts - 1, 0)
        except OverflowError:
            wait = math.inf
        return float(min(wait, self.max_delay))


def _check_attempts(value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_attempts must be an int or None, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"max_attempts must be at least 1, not {shown(value)}")


def _check_number(name: str, value: Any, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be an int or a float, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least:g} to {most:,.0f}, not {shown(value)}")


def _check_classes(name: str, value: Any) -> None:
    classes = value if isinstance(value, tuple) else (None,)
    if not all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in classes):
        raise TypeError(f"{name} must be a tuple of exception classes, as in (ConnectionError,), not {shown(value)}")
