"""What a worker that was told to stop says while it waits: for which runs, in which steps, since when.

Used by the loop as it hands its runs back. A Ctrl-C that seems to do nothing is followed by another one, which cuts
steps off: so the first line comes at once, and another every few seconds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from .. import conf
from ..core import clock
from ..core.durations import span
from ..observe import logs
from ..replay.activation import Activation
from .heartbeat import interval

logger = logs.logger("canx_flow.worker")

_FIRST_AFTER = 0.2  # seconds: most steps have ended by then, and there is nothing to say
_EVERY = 5.0  # seconds between two lines
_NAMED = 3  # runs that a line names; the others are counted


@dataclass(frozen=True, slots=True)
class InFlight:
    """What is left: so many `runs`, of which these are called; `said` of them is what the heartbeat says.

    `stored`: whether the database takes what they end with.
    """

    runs: int
    activations: Mapping[UUID, Activation]
    said: Mapping[str, Mapping[str, Any]]
    stored: bool = True

    def __str__(self) -> str:
        """`2 runs: run … of order, in step 'charge' for 12 s; run … of order, in its body`"""
        count = f"{self.runs:,} run{'' if self.runs == 1 else 's'}"
        named = [words for _, words in sorted(self._named())][:_NAMED]
        ending = max(0, self.runs - len(self.activations))
        more = len(self.activations) - len(named)
        parts = [*named, *([f"{more:,} more in a step or their body"] if more > 0 else [])]
        if ending:
            what = "to be stored" if self.stored else "to be stored: the database does not answer"
            parts.append(f"{'the' if not parts else f'{ending:,} with their'} end {what}")
        return f"{count}: {'; '.join(parts)}" if parts else count

    def _named(self) -> Iterator[tuple[str, str]]:
        """Each run that is called, by when its step began: those that wait for longest come first."""
        for run_id, activation in list(self.activations.items()):
            said = self.said.get(str(run_id), {})
            yield said.get("since") or "~", f"run {run_id} of {activation.run.workflow}, {_where(said)}"


class Leaving:
    """The lines of one worker that was told to stop, and when the next one is due."""

    def __init__(self, name: str, timeout: float, now: float) -> None:
        self._who = f"Worker {name or socket.gethostname()} (pid {os.getpid()})"
        self._timeout = timeout
        self._until = now + timeout
        self._due = now + _FIRST_AFTER
        self._said = False

    def patience(self, now: float) -> float:
        """Seconds until the next line is due."""
        return max(0.0, self._due - now)

    def is_due(self, now: float) -> bool:
        return now >= self._due

    def say(self, left: InFlight, now: float) -> None:
        """What it still waits for."""
        self._due = now + _EVERY
        how = "still waits" if self._said else "was told to stop and waits"
        hint = "" if self._said else ". A second Ctrl-C (INT or TERM) leaves at once"
        logger.warning("%s %s, for %s at most, for %s%s", self._who, how, span(self._until - now), left, hint)
        self._said = True

    def cut_off(self, left: InFlight, *, forced: bool) -> None:
        """That it waits no longer, and what becomes of the runs."""
        why = "it was told to" if forced else f"{span(self._timeout)} have passed"
        logger.warning(
            "%s leaves at once (%s) with %s. Other workers go on with them, and call anew what was cut off",
            self._who, why, left,
        )  # fmt: skip


def _where(said: Mapping[str, Any]) -> str:
    step = said.get("step")
    if step is None:
        where = "in its body"
    else:
        attempt = f" (attempt {said['attempt']})" if said.get("attempt", 1) > 1 else ""
        where = f"in step {step!r}{attempt} for {_since(said['since'])}"
    return f"{where}, blocking the event loop at {said['blocks']['at']}" if said.get("blocks") else where


def _since(since: str) -> str:
    """For how long; the heartbeat has met the step one interval late at most."""
    age = (clock.now() - datetime.fromisoformat(since)).total_seconds()
    return span(age) if age >= 1 else f"less than {interval(conf.get().lease_seconds):.3g} s"
