"""What a body asks for without waiting, and gets the same answer on every replay: `ctx.now` and `ctx.patched`.

Written once, for both contexts, which call it. An answer is stored with the record that follows.
"""

from __future__ import annotations

from datetime import datetime

from ..core import clock, codec
from ..states import Kind, RecordState
from .branch import Branch


def now(branch: Branch) -> datetime:
    """Return the moment of the first time this was asked, recorded with the next record."""
    key = branch.scope.engine_key("now")
    record = branch.find(key, Kind.NOW)
    if record is not None:
        value: datetime = branch.decode(record)
        return value
    moment = clock.now()
    text, value = codec.round_trip(moment, "the time")
    branch.record(key, Kind.NOW, RecordState.COMPLETED, started_at=moment, finished_at=moment, result=text)
    return value


def patched(branch: Branch, change_id: str) -> bool:
    """Return whether the branch had not got past this point when the change was deployed; asked for once in each.

    A False is not stored: what makes it one, a record from behind this point, is there on every replay.
    """
    key = branch.scope.engine_key(f"patch:{change_id}")
    if key in branch.journal.records:
        branch.find(key, Kind.PATCH)
        return True
    if branch.scope.holds_later():
        return False
    now = clock.now()
    branch.record(key, Kind.PATCH, RecordState.COMPLETED, started_at=now, finished_at=now, result="true")
    return True
