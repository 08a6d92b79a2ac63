"""Which broadcasts the earlier generations of a run have read: those are not read again.

Written by `generations`, read by `events`. For each name and key a row of events, found by its fingerprint: it names
the last ones that were read, in the order in which broadcasts are read. Whatever came before these counts as read, too,
so that the row does not grow; a sender that commits that late is not waited for. It goes with broadcasts of its age.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from ..core import clock
from ..models import Event

_MOST = 100  # broadcasts of one name and key that a row names


@dataclass(frozen=True, slots=True)
class Remembered:
    """The broadcasts of one name and key that were read last; `cut`: so are all that came before the first of them."""

    ids: tuple[int, ...]
    sent_at: datetime
    cut: bool

    def unread(self, broadcasts: QuerySet[Event]) -> QuerySet[Event]:
        """Return those of these broadcasts of the name and key that may not have been read."""
        if not self.cut:
            return broadcasts
        return broadcasts.filter(Q(created_at__gt=self.sent_at) | Q(id__gt=self.ids[0]), created_at__gte=self.sent_at)


def find(alias: str, run_id: UUID, name: str, key: str | None) -> Remembered | None:
    """Return what earlier generations of this run have read of this name and key."""
    text = _rows(alias, run_id, name, key).values_list("payload", flat=True).first()
    if text is None:
        return None
    said = json.loads(text)
    return Remembered(tuple(said["ids"]), datetime.fromisoformat(said["sent_at"]), said["cut"])


def add(alias: str, run_id: UUID, name: str, key: str | None, ids: Sequence[int]) -> None:
    """Remember that a generation of this run has read these broadcasts of one name and key."""
    before = find(alias, run_id, name, key)
    known = before.ids if before is not None else ()
    broadcasts = Event.objects.using(alias).filter(run_id=None, id__in={*known, *ids}).order_by("created_at", "id")
    there = list(broadcasts.values_list("id", "created_at"))
    if before is not None:
        _rows(alias, run_id, name, key).delete()
    if not there:  # What is gone can be read by nobody.
        return
    last = there[-_MOST:]
    cut = len(there) > _MOST or (before is not None and before.cut)
    said = {"ids": [event_id for event_id, _ in last], "sent_at": last[0][1].isoformat(), "cut": cut}
    Event.objects.using(alias).create(
        run_id=run_id, name=name, key=key, payload=json.dumps(said), fingerprint=_fingerprint(run_id, name, key),
        created_at=last[-1][1], delivered=True, consumed_by="", consumed_at=clock.now(),
    )  # fmt: skip


def _rows(alias: str, run_id: UUID, name: str, key: str | None) -> QuerySet[Event]:
    return Event.objects.using(alias).filter(fingerprint=_fingerprint(run_id, name, key))


def _fingerprint(run_id: UUID, name: str, key: str | None) -> str:
    """Return what no dedup id has: that of a run is hashed with the run alone."""
    return hashlib.sha256(json.dumps(["read by", str(run_id), name, key]).encode()).hexdigest()
