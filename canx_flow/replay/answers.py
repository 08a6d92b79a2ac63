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

    A False is not stored: what makes it one, a record from behind this point, is there on every replay. Only where
    something new stands in front of it: stored last, that may be taken for the end of the branch by the next replay.
    """
    key = branch.scope.engine_key(f"patch:{change_id}")
    if key in branch.journal.records:
        record = branch.find(key, Kind.PATCH)
        return record is None or branch.decode(record) is True
    answer = branch.scope.is_past
    if answer or not branch.scope.replaying:
        now, text = clock.now(), "true" if answer else "false"
        branch.record(key, Kind.PATCH, RecordState.COMPLETED, started_at=now, finished_at=now, result=text)
    return answer
