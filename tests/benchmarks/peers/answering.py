"""The side of a peer that starts runs and asks for them: one JSON line in, one out. Run in the peers' environment."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol


class Engine(Protocol):
    def prepare(self) -> None:
        """Make its tables."""

    def start(self, flow: str, argument: Any, times: int) -> list[str]:
        """Enqueue so many runs; their ids."""

    def start_limited(self, flow: str, argument: Any, times: int, limits: dict[str, Any], partitions: int) -> list[str]:
        """The same through a queue with these limits. Asked only of an engine that `has_limits`."""

    def done(self) -> int:
        """How many runs have ended."""

    def is_done(self, run: str) -> bool:
        """Whether this one has."""

    def waiting(self) -> int:
        """How many runs hold no worker until they are woken. Not asked of an engine that `replays_at_start`."""

    def wake(self, turn: int) -> None:
        """Send the event of this number. Not asked of those either."""


def answer(engine: Engine) -> None:
    """Until the input ends."""
    # What the engine itself prints must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        question = json.loads(line)
        answers.write(json.dumps(getattr(engine, question["ask"])(*question["with"])) + "\n")
        answers.flush()
