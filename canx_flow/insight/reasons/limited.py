"""Reasons of a run that is due, and that an operator or a limit of its queue holds up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils.translation import gettext as _

from .base import Level, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePaused(Reason):
    """Nothing is claimed from its queue until that is resumed."""

    level = Level.WARN
    queue: str
    by: str = ""
    at: datetime | None = None
    why: str = ""

    @property
    def text(self) -> str:
        said = _("queue {queue} is paused, by {by} {at}") if self.by else _("queue {queue} is paused, {at}")
        return said + (": {why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPaused(Reason):
    """No run of its workflow is claimed until that is resumed."""

    level = Level.WARN
    workflow: str
    by: str = ""
    at: datetime | None = None
    why: str = ""

    @property
    def text(self) -> str:
        said = _("workflow {workflow} is paused, by {by} {at}") if self.by else _("workflow {workflow} is paused, {at}")
        return said + (": {why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFull(Reason):
    """As many runs of its queue are owned by workers as may be at once. `holder`: the oldest of them."""

    queue: str
    running: int
    most: int
    holder: UUID | None = None

    @property
    def text(self) -> str:
        if self.holder is None:
            return _("limit of queue {queue} is full: {running} of {most}")
        return _("limit of queue {queue} is full: {running} of {most}, the oldest is {holder}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFull(Reason):
    """As many runs of its queue, or of its partition, were started of late as may be."""

    queue: str
    rate: str
    until: datetime
    partition: str = ""

    @property
    def text(self) -> str:
        if self.partition:
            return _("rate {rate} of partition {partition} in queue {queue} is used up, free {until}")
        return _("rate {rate} of queue {queue} is used up, free {until}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionBusy(Reason):
    """As many runs of its partition are owned by workers as may be at once. `holder`: the oldest of them."""

    queue: str
    partition: str
    holder: UUID

    @property
    def text(self) -> str:
        return _("partition {partition} of queue {queue} is busy with {holder}")
