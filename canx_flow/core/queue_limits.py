"""The limits of a queue: what they may be, and which are in force. Used by `conf`, by `store` and by what shows them.

What the settings say and what an operator has set lie beside each other: the operator's hold where there are any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from .naming import shown
from .windows import Rate

#: In place of a value, from an operator: what the settings say.
AS_SETTINGS = "settings"

AGING = 0.1
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits in force; `None`: there is none. `aging`: `None` where nobody has chosen a share."""

    concurrency: int | None = None
    per_worker: int | None = None
    rate: Rate | None = None
    partition_concurrency: int | None = None
    partition_rate: Rate | None = None
    aging: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Limits:
        """Make them of checked options."""
        known: dict[str, Any] = {name: value for name, value in values.items() if name in NAMES}
        for name in ("rate", "partition_rate"):
            if known.get(name) is not None:
                known[name] = Rate.read(known[name])
        return cls(**known)

    @property
    def any(self) -> bool:
        """Whether anything is limited: a share for the oldest alone limits nothing."""
        return self.of_queue or self.of_partitions or self.per_worker is not None

    @property
    def of_queue(self) -> bool:
        """Whether all workers together are limited."""
        return self.concurrency is not None or self.rate is not None

    @property
    def of_partitions(self) -> bool:
        """Whether each partition has a limit of its own, so that they take turns."""
        return self.partition_concurrency is not None or self.partition_rate is not None

    @property
    def is_strict(self) -> bool:
        """Whether one run follows the other: then in order, without one that another transaction has locked."""
        return self.concurrency == 1

    @property
    def share_of_oldest(self) -> float:
        """Which part of what is claimed is chosen by age alone. Of one after the other none, unless it was chosen."""
        return self.aging if self.aging is not None else 0.0 if self.is_strict else AGING


NAMES = tuple(item.name for item in fields(Limits))


@lru_cache(maxsize=1000)
def in_force(declared: str, chosen: str) -> Limits:
    """Return the limits of a queue's row: those of the settings (JSON), and before them an operator's."""
    return Limits.of(json.loads(declared) | json.loads(chosen))


def checked(name: str, value: Any, what: str | None = None) -> Any:
    """Check one option; TypeError or ValueError naming it."""
    what = what or name
    if name not in NAMES:
        raise TypeError(f"a queue has no option {shown(name)}: there are {', '.join(NAMES)}")
    if value is None:
        return None
    return _CHECKS[name](what, value)


def _number(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int or None, not {type(value).__name__}")
    if not 1 <= value <= _MOST:
        raise ValueError(
            f"{what} must be between 1 and {_MOST:,}, not {shown(value)}: to claim nothing, pause the queue"
        )
    return int(value)


def _rate(what: str, value: Any) -> str:
    Rate.read(value, what)
    return str(value)


def _share(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number or None, not {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"{what} must be between 0 and 1, not {shown(value)}")
    return float(value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "concurrency": _number,
    "per_worker": _number,
    "rate": _rate,
    "partition_concurrency": _number,
    "partition_rate": _rate,
    "aging": _share,
}
