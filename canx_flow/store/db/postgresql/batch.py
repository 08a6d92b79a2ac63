"""Changes as PostgreSQL's statements take them, many in one parameter, and what those answer. Called by `session`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ....core import clock
from ....core.changes import Change, Record
from ..tables import Lease, Locked

#: What is encoded holds nothing twice.
json_of = json.JSONEncoder(check_circular=False).encode


class Batch:
    """Plain changes of many runs for one statement: `PLAIN`, or `PLAIN_AND_TELL` if some of those runs have parents."""

    def __init__(self, changes: Sequence[Change]) -> None:
        wanted: dict[Lease, dict[str, Any]] = {}
        records, tells = [], False
        # In the order of their ids, as all transactions lock.
        for change in sorted(changes, key=_by_run):
            lease = change.lease
            row = wanted.get(lease)
            if row is None:
                row = wanted[lease] = {"n": len(wanted), "run_id": str(change.run_id), "epoch": change.epoch}
            if change.settle is not None:
                row.update(ends=True, result=change.settle.result)
                if change.settle.parent is not None:
                    row["parent"], tells = str(change.settle.parent), True
            records += [as_json(record, n=row["n"]) for record in change.inserts]
        self._wanted, self._records, self.tells = wanted, records, tells

    def parameters(self, owner: UUID) -> list[str]:
        """Return those of the statement."""
        mine, wanted = str(owner), json_of(list(self._wanted.values()))
        return [wanted, json_of(self._records), mine, clock.now().isoformat(), *([mine] if self.tells else ())]

    def read(self, rows: Sequence[Sequence[Any]]) -> dict[Lease, Locked]:
        """Return what the statement has answered: the rows that were the owner's."""
        leases = list(self._wanted)
        if not self.tells:
            return {leases[int(n)]: Locked(state, ended == "true") for n, state, ended in rows}
        found: dict[Lease, Locked] = {}
        woken = 0
        for n, state, ended, heard, woke in rows:
            lease = leases[int(n)]
            row = found[lease] = Locked(state, ended == "true")
            if row.ended and "parent" in self._wanted[lease]:
                # How many were woken, the first of them says.
                row.heard, row.woke, woken = heard == "true", int(woke) - woken, int(woke)
        return found


def _by_run(change: Change) -> int:
    return change.run_id.int  # Compared faster than UUIDs, and in the same order.


def as_json(record: Record, **where: str | int) -> dict[str, Any]:
    """Return a record as the statements read it; `where`: what it belongs to."""
    return {
        **where, "seq": record.seq, "name": record.name, "kind": record.kind, "state": record.state,
        "attempts": record.attempts, "result": record.result, "errors": record.errors, "event_id": record.event_id,
        "started_at": iso(record.started_at), "finished_at": iso(record.finished_at),
    }  # fmt: skip


def iso(moment: datetime | None) -> str | None:
    """Return a moment as text."""
    return None if moment is None else moment.isoformat()
