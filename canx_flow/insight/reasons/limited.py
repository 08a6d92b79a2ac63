"""Reasons of a run that is due, and that an operator or a limit of its queue holds up."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils.translation import gettext as _

from .base import Level, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steered(Reason):
    """What an operator has paused: by whom, when and why."""

    level = Level.WARN
    by: str = ""
    at: datetime | None = None
    why: str = ""

    @property
    def text(self) -> str:
        return self.told() + (": {why}" if self.why else "")

    @abstractmethod
    def told(self) -> str:
        """Say what is paused, by whom and since when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePaused(_Steered):
    """Nothing is claimed from its queue until that is resumed."""

    queue: str

    def told(self) -> str:
        return _("queue {queue} is paused, by {by} {at}") if self.by else _("queue {queue} is paused, {at}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPaused(_Steered):
    """No run of its workflow is claimed until that is resumed."""

    workflow: str

    def told(self) -> str:
        if self.by:
            return _("workflow {workflow} is paused, by {by} {at}")
        return _("workflow {workflow} is paused, {at}")


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
