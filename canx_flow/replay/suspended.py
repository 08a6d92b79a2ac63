"""In which state a run is suspended, by the waits that block it. Called by its root branch."""

from __future__ import annotations

from collections.abc import Sequence

from ..core import clock
from ..core.changes import Wait
from ..core.limits import RESERVED
from ..states import RETRYING, SLEEPING, WAITING, Kind

_STATES = {
    Kind.SLEEP: SLEEPING, Kind.WAIT: WAITING, Kind.CALL: WAITING, Kind.RETRY: RETRYING, Kind.LIMIT: WAITING,
    Kind.DELEGATE: WAITING,
}  # fmt: skip


def suspended_on(waits: Sequence[Wait]) -> str:
    """Return the state of a run that these waits block: that of the one due first."""
    first = min(waits, key=lambda wait: (wait.due_at is None, wait.due_at or clock.now()))
    if first.kind == Kind.LIMIT and (first.event or "").startswith(RESERVED):
        return SLEEPING  # Until a moment that is its own.
    return _STATES[first.kind]
