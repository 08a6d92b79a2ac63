"""How the limits of steps stand, in lines for a terminal and as facts for programs. Called by `flow limits`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from .. import conf
from ..core import clock
from ..core.durations import when
from ..insight.limits import MOST, LimitUsage, read
from . import facts
from .terminal import Terminal


def listed(terminal: Terminal, *, json: bool) -> Iterator[str]:
    """Yield one paragraph per limit."""
    now = clock.now()
    found = read(conf.get().database, now)
    if json:
        yield facts.text(_facts(found))
        return
    if not found:
        yield "No limits."
    for usage in found:
        yield f"{terminal.strong(usage.limit.name)}  {_allowed(usage)}"
        yield "  " + ", ".join(_stands(usage, now))


def _facts(found: Sequence[LimitUsage]) -> list[dict[str, Any]]:
    return [
        {
            "limit": usage.limit.name,
            "rate": usage.limit.rate and usage.limit.rate.text,
            "burst": usage.limit.burst if usage.limit.rate else None,
            "concurrency": usage.limit.concurrency,
            "calls": usage.held if usage.limit.concurrency else None,
            "waiting_for_a_place": usage.full,
            "waiting_for_the_rate": usage.reserved,
            "next_at": facts.iso(usage.next_at),
        }
        for usage in found
    ]


def _allowed(usage: LimitUsage) -> str:
    limit = usage.limit
    said = [limit.rate.text, f"burst {limit.burst}"] if limit.rate is not None else []
    return ", ".join([*said, *([f"{limit.concurrency:,} at once"] if limit.concurrency is not None else [])])


def _stands(usage: LimitUsage, now: datetime) -> Iterator[str]:
    if usage.limit.concurrency is not None:
        yield f"{usage.held:,} {'call' if usage.held == 1 else 'calls'} under way"
        yield f"{_number(usage.full)} waiting for a place"
    if usage.limit.rate is not None:
        yield f"{_number(usage.reserved)} waiting for the rate"
    if usage.next_at is not None:
        yield f"the next call begins {when(usage.next_at, now)}"


def _number(number: int) -> str:
    return f"{number:,}" if number < MOST else f"{number:,} or more"
