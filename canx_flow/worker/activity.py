"""What a worker says of itself with each heartbeat: the step that each of its runs is in, since when, and which of
them keeps its event loop from turning.

Called by each heartbeat, on its thread, and by the worker's main thread as it hands its runs back. A step does
nothing for it: since when is what the beats have seen, so it is late by one interval at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ..core import clock
from ..replay.branch import Branch
from .eventloop import Blocked

_Seen = tuple[UUID, int, str, int]


class Activity:
    """The activity of one worker; remembers the steps that the last beat has told of."""

    def __init__(self) -> None:
        self._since: dict[_Seen, datetime] = {}

    def describe(self, activations: Mapping[UUID, Branch], blocked: Blocked | None = None) -> dict[str, Any]:
        """Return by run: `step`, `attempt`, `since`, `timeout` in seconds, and the run's `progress`.

        `blocks`, of a run that blocks the event loop: `since`, and `at`, where its code stands.
        """
        now = clock.now()
        before = self._since
        since: dict[_Seen, datetime] = {}
        said: dict[str, Any] = {}
        for run_id, root in activations.items():
            call, progress = next(root.calls(), None), root.activation.published.progress
            step, attempt = (None, 1) if call is None else (call.step.name, call.step.attempt)
            entry: dict[str, Any] = {"step": step, "attempt": attempt, "progress": progress}
            if call is not None:
                seen = (run_id, root.run.epoch, call.step.name, attempt)
                since[seen] = before.get(seen, now)
                entry |= {"since": since[seen].isoformat(), "timeout": call.timeout}
            if blocked is not None and blocked.run_id == run_id:
                entry["blocks"] = {"since": blocked.since.isoformat(), "at": blocked.where}
            if step is not None or progress is not None or "blocks" in entry:
                said[str(run_id)] = entry
        self._since = since  # At once: two threads ask.
        return said
