"""Reasons of a run that people hold up, that no worker takes yet, or that has ended or will."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ...states import FAILED
from ..display import ShownError
from .base import Level, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked(Reason):
    """It cannot go on until someone acts, or a worker starts whose code fits."""

    level = Level.BAD
    reason: str

    @property
    def text(self) -> str:
        return "{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Reason):
    """It starts no step until it is resumed."""

    by: str = ""
    at: datetime | None = None
    why: str = ""

    @property
    def text(self) -> str:
        if self.at is None:
            return _("until it is resumed")
        said = _("by {by} {at}") if self.by else "{at}"
        return said + (": {why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved(Reason):
    """It is due, and no live worker serves its queue. `live`: how many live workers serve others."""

    level = Level.WARN
    queue: str
    live: int = 0

    @property
    def text(self) -> str:
        return _("no live worker serves queue {queue}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Reason):
    """It is due, and no live worker of its queue knows its workflow."""

    level = Level.WARN
    queue: str
    workflow: str

    @property
    def text(self) -> str:
        return _("no live worker of queue {queue} knows workflow {workflow}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone(Reason):
    """Its workers died again and again, so only a worker with nothing else in flight may take it."""

    level = Level.WARN
    deaths: int

    @property
    def text(self) -> str:
        return _(
            "waits to run alone, for {deaths} of its workers died: one worker claims nothing else until it is empty"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind(Reason):
    """Others of its queue go first. `at_least`: not all of them were counted."""

    queue: str
    ahead: int
    at_least: bool = False

    @property
    def text(self) -> str:
        if self.at_least:
            return _("behind {ahead} or more others in queue {queue}")
        return ngettext("behind {ahead} other in queue {queue}", "behind {ahead} others in queue {queue}", self.ahead)


@dataclass(frozen=True, slots=True, kw_only=True)
class Next(Reason):
    """The next worker of its queue that is free takes it."""

    queue: str

    @property
    def text(self) -> str:
        return _("next free worker of queue {queue}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Reason):
    """Its end is decided. `left`: undo steps, as far as they are known."""

    ending: str
    undoes: bool = False
    left: int = 0

    @property
    def text(self) -> str:
        return self._fails() if self.ending == FAILED else self._cancels()

    def _fails(self) -> str:
        if not self.undoes:
            return _("will be failed, once the step in flight has ended")
        if not self.left:
            return _("will be failed, once what it has done is undone")
        return ngettext(
            "will be failed, {left} undo step is left", "will be failed, {left} undo steps are left", self.left
        )

    def _cancels(self) -> str:
        if not self.undoes:
            return _("will be cancelled, once the step in flight has ended")
        if not self.left:
            return _("will be cancelled, once what it has done is undone")
        return ngettext(
            "will be cancelled, {left} undo step is left", "will be cancelled, {left} undo steps are left", self.left
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(Reason):
    at: datetime | None
    took: float | None = None

    @property
    def text(self) -> str:
        return _("after {took}, {at}") if self.took is not None else "{at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Reason):
    """`error`: what ended it; where that is not known, `reason`."""

    level = Level.BAD
    at: datetime | None
    error: ShownError | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        return "{error}" if self.error is not None else "{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Reason):
    at: datetime | None
    by: str = ""
    why: str = ""

    @property
    def text(self) -> str:
        return (_("by {by} {at}") if self.by else "{at}") + (": {why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled(Reason):
    """No reason for itself: which schedule has started it, and when that was due."""

    schedule: str
    at: datetime

    @property
    def text(self) -> str:
        return _("started by schedule {schedule}, due {at}")
