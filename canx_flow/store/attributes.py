"""The numbers of runs' attributes, by which `with_attributes` finds runs where the database has no index for JSON.

Written beside the attributes themselves, in the same transaction, by whatever stores those: `starts` and `settling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from ..core.entries import entry
from .db.portable import Portable
from .db.tables import ATTRIBUTE


def note(session: Portable, run_ids: Sequence[UUID], attributes: Mapping[str, Any]) -> None:
    """Note the attributes of new runs, which all have the same."""
    if attributes and not session.indexes_json:
        entries = {entry(name, value) for name, value in attributes.items()}
        rows = [(session.uuid(run_id), number) for run_id in run_ids for number in sorted(entries)]
        session.execute_many(f"INSERT INTO {ATTRIBUTE} (run_id, entry) VALUES (%s, %s)", rows)


def note_anew(session: Portable, run_id: UUID, attributes: Mapping[str, Any]) -> None:
    """Note the attributes that a run, whose row is locked, has from now on."""
    if not session.indexes_json:
        session.delete(ATTRIBUTE, "run_id", [run_id])
        note(session, [run_id], attributes)
