"""Reasons of a run that waits: for a moment, an event, a child, another attempt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..display import ShownError
from .base import Level, Reason, clauses


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Reason):
    """An open wait. `held`: its run is paused or parked, so it does not act until that goes on."""

    step: str = ""
    until: datetime | None = None
    held: bool = False

    @property
    def text(self) -> str:
        said = clauses(*self.told(), self.held and _("held until the run goes on"))
        return f"{{step}}: {said}" if self.step else said

    @abstractmethod
    def told(self) -> Iterator[str]:
        """Yield what is said of it after its step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting(Wait):
    """A delayed start."""

    def told(self) -> Iterator[str]:
        yield _("starts {until}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Debounced(Wait):
    """It starts after a time without another start of its singleton, which is `key`."""

    key: str

    def told(self) -> Iterator[str]:
        yield _("starts {until}, unless another start of singleton {key} moves it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Wait):
    """It waits for the end of the run that has held its singleton, which is `key`, and was cancelled for it."""

    key: str
    holder: UUID

    def told(self) -> Iterator[str]:
        yield _("singleton {key} was held by run {holder}, which was cancelled for this one and has not ended yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring(Wait):
    """It is cancelled unless it has started by then."""

    def told(self) -> Iterator[str]:
        yield _("cancelled {until} unless it has started")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending(Wait):
    """It is a child, and is cancelled as its parent was."""

    def told(self) -> Iterator[str]:
        yield _("its parent was stopped")
        yield _("cancelled {until}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleeping(Wait):
    def told(self) -> Iterator[str]:
        yield _("wakes {until}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Wait):
    """For an event; `since`: for how many seconds."""

    event: str
    key: str | None = None
    since: float | None = None

    def told(self) -> Iterator[str]:
        yield _("for event {event}")
        if self.key is not None:
            yield _("key {key}")
        if self.since is not None:
            yield _("since {since}")
        if self.until is not None:
            yield _("times out {until}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calling(Wait):
    """For the end of a child."""

    child: UUID
    since: float | None = None

    def told(self) -> Iterator[str]:
        yield _("for child {child}")
        if self.since is not None:
            yield _("since {since}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegated(Wait):
    """Another executor has its task. `worker`: on which of its own it has started, if any has; `since`: for how many
    seconds it is there, `beat`: how many ago it was heard of last. `trouble`: what its last dispatch has met."""

    executor: str = ""
    task: str = ""
    attempt: int = 1
    worker: str = ""
    since: float | None = None
    beat: float | None = None
    trouble: str = ""

    def told(self) -> Iterator[str]:
        if self.worker:
            yield _("{executor} runs {task} on {worker}")
        else:
            yield _("dispatched to {executor}: {task}")
        if self.attempt > 1:
            yield _("attempt {attempt}")
        if self.since is not None:
            yield _("since {since}")
        if self.beat is not None:
            yield _("last heard of {beat} ago")
        if self.trouble:
            yield _("not dispatched yet: {trouble}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(Wait):
    """For another attempt of a step; `most`: of how many, if that is limited."""

    attempt: int
    most: int | None = None
    error: ShownError | None = None

    def told(self) -> Iterator[str]:
        said = _("attempt {attempt} of {most} {until}") if self.most is not None else _("attempt {attempt} {until}")
        yield said + (" — {error}" if self.error is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage(Wait):
    """Its body has met a database that was away."""

    level = Level.WARN
    reason: str = ""

    def told(self) -> Iterator[str]:
        yield _("tried again {until}") + (" — {reason}" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFull(Wait):
    """For a place in a limit that is full. `holder`: who has one longest; `others`: how many have one beside."""

    limit: str
    key: str | None = None
    holder: UUID | None = None
    others: int = 0

    def told(self) -> Iterator[str]:
        yield _("limit {limit} is full")
        if self.key is not None:
            yield _("key {key}")
        if self.holder is not None and self.others:
            yield ngettext(
                "held by run {holder} and {others} other call",
                "held by run {holder} and {others} other calls",
                self.others,
            )
        elif self.holder is not None:
            yield _("held by run {holder}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRate(Wait):
    """For the moment that is reserved for it in the rate of a limit."""

    limit: str
    key: str | None = None

    def told(self) -> Iterator[str]:
        yield _("the rate of limit {limit} lets it begin {until}")
        if self.key is not None:
            yield _("key {key}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Others(Reason):
    """It has so many further open waits."""

    number: int

    @property
    def text(self) -> str:
        return ngettext("{number} more open wait", "{number} more open waits", self.number)
