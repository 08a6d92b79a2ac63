"""The limits of steps, on the page of queues: what each allows, how many calls are under way, who waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..insight import limits
from ..insight.limits import MOST, LimitUsage
from ..insight.speech import number
from . import fragments


@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit."""

    name: SafeString
    allows: str
    held: str
    full: str
    reserved: str
    next: SafeString | str


def limit_rows(alias: str, now: datetime) -> list[LimitRow]:
    """Return a row for each limit of the settings."""
    return [_row(usage, now) for usage in limits.read(alias, now)]


def _row(usage: LimitUsage, now: datetime) -> LimitRow:
    has_places, has_rate = usage.limit.concurrency is not None, usage.limit.rate is not None
    return LimitRow(
        name=fragments.name(usage.limit.name), allows=_allows(usage),
        held=number(usage.held) if has_places else "", full=_counted(usage.full) if has_places else "",
        reserved=_counted(usage.reserved) if has_rate else "",
        next="" if usage.next_at is None else fragments.due(usage.next_at, now),
    )  # fmt: skip


def _allows(usage: LimitUsage) -> str:
    limit = usage.limit
    said = []
    if limit.rate is not None:
        said.append(_("{rate}, burst {burst}").format(rate=limit.rate.text, burst=number(limit.burst)))
    if limit.concurrency is not None:
        said.append(_("{number} at once").format(number=number(limit.concurrency)))
    return ", ".join(said)


def _counted(found: int) -> str:
    return f"{'≥' if found >= MOST else ''}{number(found)}"
