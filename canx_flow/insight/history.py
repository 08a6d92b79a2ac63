"""What was done to a run, by people and by the engine, newest first. Read by the timeline, drawn by admin and terminal.

The rows are `store/history`'s; what code has sent to the run is added from the events themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from ..models import RunHistory, WorkflowRun
from ..store.history import ENGINE, PEOPLE
from .messages import Message

__all__ = ["ENGINE", "MOST", "PEOPLE", "Entry", "load", "whole", "without_reasons"]

#: Entries of one view: of a run that has more, the last ones.
MOST = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One control call, or one thing that the engine did. `by`: a name, or the worker that had the run; may be empty.

    `channel`: admin, terminal or code, empty of the engine. `state`: the state after it, empty if it has none of its
    own. `detail`: the event of a `send`, the other run of a `fork`, `rerun` or `start`, the number of a recovery.
    """

    at: datetime
    actor: str
    by: str
    channel: str
    verb: str
    state: str
    reason: str
    detail: str
    #: Of no other entry of the run: by it a page knows the entry again.
    key: str = ""

    @property
    def other(self) -> UUID | None:
        """The run that this one was made of, or that was made of it."""
        return UUID(self.detail) if self.verb in ("fork", "rerun", "start") and self.detail else None


def load(run: WorkflowRun, most: int = MOST, actor: str = "") -> tuple[Entry, ...]:
    """Read the last entries, of people, of the engine or of both, newest first; one more, if there are more."""
    rows = RunHistory.objects.using(run._state.db).filter(run_id=run.id).order_by("-id")
    rows = rows.filter(actor=actor) if actor else rows
    return tuple(map(_entry, rows[: most + 1]))


def _entry(row: RunHistory) -> Entry:
    return Entry(row.at, row.actor, row.by, row.channel, row.verb, row.state, row.reason, row.detail, str(row.id))


def whole(run: WorkflowRun, messages: Iterable[Message], actor: str = "") -> tuple[Entry, ...]:
    """Return the last entries, and with them what code has sent to the run, which has no row."""
    entries = load(run, actor=actor)
    return entries if actor == ENGINE else with_sent(entries, messages)


def without_reasons(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Return them for those who may not see payloads: a reason may say what an error said."""
    return tuple(replace(entry, reason="") for entry in entries)


def with_sent(entries: Sequence[Entry], messages: Iterable[Message]) -> tuple[Entry, ...]:
    return tuple(sorted([*entries, *_sent_by_code(entries, messages)], key=lambda entry: entry.at, reverse=True))


def _sent_by_code(entries: Sequence[Entry], messages: Iterable[Message]) -> Iterator[Entry]:
    """Yield an entry for each event of which no entry tells: an entry is as old as its event, or a little older."""
    noted = [entry for entry in reversed(entries) if entry.verb == "send"]
    for message in messages:
        if message.broadcast:
            continue
        mine = next((e for e in noted if e.detail == message.name and e.at <= message.sent_at), None)
        if mine is not None:
            noted.remove(mine)
        else:
            yield Entry(message.sent_at, PEOPLE, "", "code", "send", "", "", message.name, f"sent-{message.id}")
