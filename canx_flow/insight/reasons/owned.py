"""Reasons of a run that a worker has in hand, or had when it died."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .base import Level, Reason, clauses


@dataclass(frozen=True, slots=True, kw_only=True)
class Working(Reason):
    """Its worker is alive. `took`: the seconds in this step; `heartbeat`: since the worker was last heard of."""

    worker: str
    step: str = ""
    took: float | None = None
    attempt: int = 1
    heartbeat: float = 0.0

    @property
    def text(self) -> str:
        return clauses(
            self.step and "{step}", self.took is not None and "{took}",
            self.attempt > 1 and _("attempt {attempt}"), _("worker {worker}"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent(Reason):
    """Its worker was not heard of for so many seconds, longer than its lease."""

    level = Level.BAD
    worker: str
    silent: float
    step: str = ""

    @property
    def text(self) -> str:
        said = _("worker {worker} silent for {silent}: taken over when another worker runs")
        return f"{{step}}: {said}" if self.step else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone(Reason):
    """The process of its worker has ended."""

    level = Level.BAD
    worker: str = ""
    step: str = ""

    @property
    def text(self) -> str:
        said = (
            _("its worker {worker} is gone: taken over when another worker runs")
            if self.worker
            else _("its worker is gone: taken over when another worker runs")
        )
        return f"{{step}}: {said}" if self.step else said


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocking(Reason):
    """It keeps its worker's event loop from turning."""

    level = Level.WARN
    place: str

    @property
    def text(self) -> str:
        return _("blocks the event loop of its worker, so that no other async run goes on there: it stands at {place}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Reason):
    """So many of its workers died since its last stored record; in these steps, as far as that is known."""

    level = Level.WARN
    times: int
    step: str = ""

    @property
    def text(self) -> str:
        if self.step:
            return ngettext(
                "cut off once: its worker died in {step}",
                "cut off {times} times: its worker died in {step}",
                self.times,
            )
        return ngettext("cut off once: its worker died", "cut off {times} times: its worker died", self.times)
