"""The events of one run, as people are shown them: what was sent to it, and the broadcasts that it has read.

Called by the timeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from ..core import naming
from ..models import Event, StepRecord, WorkflowRun
from . import display, stored
from .display import Shown
from .names import RunNames
from .redaction import Names
from .stored import Stored


@dataclass(frozen=True, slots=True)
class Message:
    """An event: sent to this run, or a broadcast that it has read."""

    name: str
    key: str | None
    sent_at: datetime
    broadcast: bool
    consumed_by: str | None
    consumed_at: datetime | None
    #: Under which `REDACT` is asked for what was sent.
    names: Names
    stored: Stored | None = field(repr=False)
    #: The number of its row.
    id: int = 0

    @property
    def payload(self) -> Shown | None:
        """What was sent, as people may see it."""
        return display.excerpt(self.stored, self.names)


def events(
    alias: str,
    run: WorkflowRun,
    records: Sequence[StepRecord],
    characters: int | None,
    most: int,
    large: int | None = None,
) -> tuple[Mapping[int, Event], int]:
    """Read the events that the run has read, and the last unread ones; return how many of those are left out.

    Both by an index: there is none on the events that a run has read, but its records name them. Of its children's
    ends only those that it has read: the others are no messages.
    """
    every = Event.objects.using(alias).all()
    if characters is not None:
        every = stored.beginnings(every, "payload", characters, large=large)
    waiting = (
        every.filter(run_id=run.id, consumed_at=None)
        .exclude(name__startswith=naming.END)
        .exclude(name__startswith=naming.TASK)
    )
    unread = list(waiting.order_by("-id")[:most])
    left_out = waiting.count() - most if len(unread) == most else 0
    read_by = [record.event_id for record in records if record.event_id is not None]
    read = every.filter(id__in=read_by) if read_by else ()
    return {event.id: event for event in chain(unread, read)}, max(left_out, 0)


def of(records: Sequence[StepRecord], found: Mapping[int, Event], whose: RunNames) -> tuple[Message, ...]:
    read_by = {record.event_id: record for record in records if record.event_id is not None}
    sent = [key for key, event in sorted(found.items()) if naming.child_of(event.name) is None]
    return tuple(_message(found[key], read_by.get(key), whose) for key in sent)


def _message(event: Event, reader: StepRecord | None, whose: RunNames) -> Message:
    return Message(
        name=event.name, key=event.key, sent_at=event.created_at, broadcast=event.run_id is None,
        consumed_by=reader.name if reader is not None else None,
        consumed_at=reader.finished_at if reader is not None else None,
        names=whose.of_event(event), stored=stored.of_row(event, "payload"), id=event.id,
    )  # fmt: skip
