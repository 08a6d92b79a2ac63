"""What a worker that was told to stop announces while it waits: for which runs, in which steps, since when.

Used by `life` as it hands its runs back. A Ctrl-C that seems to do nothing is followed by another one, which cuts
steps off: so the first line comes at once, and another every few seconds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from .. import conf
from ..core import clock
from ..observe import announce, facts
from ..replay.branch import Branch
from .heartbeat import interval

_FIRST_AFTER = 0.2  # seconds: most steps have ended by then, and there is nothing to say
_EVERY = 5.0  # seconds between two lines
_NAMED = 3  # runs that a line names; the others are counted


@dataclass(frozen=True, slots=True)
class InFlight:
    """What is left: so many `runs`, of which these are called; `said` of them is what the heartbeat says.

    `stored`: whether the database takes what they end with.
    """

    runs: int
    activations: Mapping[UUID, Branch]
    said: Mapping[str, Mapping[str, Any]]
    stored: bool = True

    def fact(self) -> facts.InFlight:
        """Return it as facts know it: the runs whose steps began first are named."""
        called = [(run_id, root, self.said.get(str(run_id), {})) for run_id, root in self._called()]
        called.sort(key=lambda each: each[2].get("since") or "~")
        named = tuple(_run_left(run_id, root, said) for run_id, root, said in called[:_NAMED])
        ending = max(0, self.runs - len(called))
        return facts.InFlight(self.runs, named, len(called) - len(named), ending, self.stored)

    def _called(self) -> list[tuple[UUID, Branch]]:
        return list(self.activations.items())  # A copy: slots add and remove theirs meanwhile.


class Leaving:
    """The lines of one worker that was told to stop, and when the next one is due."""

    def __init__(self, name: str, timeout: float, now: float) -> None:
        self._name = name or socket.gethostname()
        self._timeout = timeout
        self._until = now + timeout
        self._due = now + _FIRST_AFTER
        self._said = False

    def patience(self, now: float) -> float:
        """Return the seconds until the next line is due."""
        return max(0.0, self._due - now)

    def is_due(self, now: float) -> bool:
        return now >= self._due

    def say(self, left: InFlight, now: float) -> None:
        """Announce what it still waits for."""
        self._due = now + _EVERY
        announce(facts.WorkerWaits(self._name, os.getpid(), self._said, self._until - now, left.fact()))
        self._said = True

    def cut_off(self, left: InFlight, *, forced: bool) -> None:
        """Announce that it waits no longer, and for which runs it did."""
        announce(facts.WorkerCutOff(self._name, os.getpid(), forced, self._timeout, left.fact()))


def _run_left(run_id: UUID, root: Branch, said: Mapping[str, Any]) -> facts.RunLeft:
    blocks = said.get("blocks")
    return facts.RunLeft(
        run_id,
        root.run.workflow,
        said.get("step"),
        attempt=said.get("attempt", 1),
        seconds=_age(said.get("since")),
        beat=interval(conf.get().lease_seconds),
        blocks_at=blocks["at"] if blocks else "",
    )


def _age(since: str | None) -> float | None:
    """Return how long ago that was; `None` below a second: the heartbeat meets a step one interval late at most."""
    age = 0.0 if since is None else (clock.now() - datetime.fromisoformat(since)).total_seconds()
    return age if age >= 1 else None
