"""The records that a fork is given: those of another run that were stored earlier than one step's.

Called by `client`, in the transaction that stores the fork and has the other run's row locked: no record comes or goes
meanwhile. They are copied by the database, whatever their size.
"""

from __future__ import annotations

from uuid import UUID

from ..models import StepRecord
from ..states import Kind, RecordState
from .db.databases import session_for
from .db.tables import EVENT, RECORD_COLUMNS, STEP

_COPY = f"""
INSERT INTO {STEP} ({RECORD_COLUMNS})
SELECT %s, 0, seq, name, kind, state, attempts, result, errors,
  CASE WHEN EXISTS (SELECT 1 FROM {EVENT} event WHERE event.id = {STEP}.event_id AND event.run_id IS NULL)
    THEN event_id END,
  started_at, finished_at
FROM {STEP} WHERE run_id = %s AND seq < %s AND state IN (%s, %s) AND kind <> '{Kind.UNDO}'
"""


def seq_of(alias: str, run_id: UUID, name: str) -> int | None:
    """Return the number of the record with this name; `None` if the run has none. No run begins at an undo."""
    records = StepRecord.objects.using(alias).filter(run_id=run_id, name=name).exclude(kind=Kind.UNDO)
    return records.values_list("seq", flat=True).first()


def names(alias: str, run_id: UUID) -> list[str]:
    """Return the names of the run's records in their order, but for those of the engine's own."""
    records = StepRecord.objects.using(alias).filter(run_id=run_id).exclude(kind=Kind.UNDO).order_by("seq")
    found = records.values_list("name", flat=True)
    return [name for name in found if not name.rpartition("/")[2].startswith("#")]


def copy_records(alias: str, origin: UUID, fork: UUID, before: int) -> None:
    """Give a fork what was over before the record of this number; what was not is done anew.

    Broadcasts that were read stay read. What was sent to the other run alone stays that one's, and goes with it.
    """
    session = session_for(alias)
    over = (RecordState.COMPLETED, RecordState.FAILED)
    with session.connection.cursor() as cursor:
        cursor.execute(_COPY, [session.uuid(fork), session.uuid(origin), before, *over])
