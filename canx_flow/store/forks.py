"""The records that a fork is given: those of another run that were stored earlier than one step's.

Called by `client`, in the transaction that stores the fork and has the other run's row locked: no record comes or goes
meanwhile. They are copied by the database, whatever their size.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet

from ..core import codec, naming
from ..models import StepRecord
from ..states import Kind, RecordState
from . import children
from .db.databases import session_for
from .db.tables import RECORD_COLUMNS, STEP, placeholders

_COPY = f"""
INSERT INTO {STEP} ({RECORD_COLUMNS})
SELECT %s, 0, seq, name, kind, state, attempts, result, errors, event_id, started_at, finished_at
FROM {STEP} WHERE run_id = %s AND seq < %s AND state IN (%s, %s) AND kind <> '{Kind.UNDO}'"""
_OVER = (RecordState.COMPLETED, RecordState.FAILED)


def seq_of(alias: str, run_id: UUID, name: str) -> int | None:
    """Return the number of the record with this name; `None` if the run has none. No run begins at an undo."""
    records = StepRecord.objects.using(alias).filter(run_id=run_id, name=name).exclude(kind=Kind.UNDO)
    return records.values_list("seq", flat=True).first()


def names(alias: str, run_id: UUID) -> list[str]:
    """Return the names of the run's records in their order, but for those of the engine's own."""
    records = StepRecord.objects.using(alias).filter(run_id=run_id).exclude(kind=Kind.UNDO).order_by("seq")
    found = records.values_list("name", flat=True)
    return [name for name in found if not name.rpartition("/")[2].startswith("#")]


def copy(alias: str, origin: UUID, fork: UUID, before: int) -> None:
    """Give a fork what was over before the record of this number; what was not is done anew.

    Events that were read stay read. The ends of children that were spawned, and whose ends are not among what was read,
    are told to the fork, too; a child of which nothing is left is spawned anew.
    """
    spawned = _spawned(StepRecord.objects.using(alias).filter(run_id=origin, seq__lt=before, kind=Kind.CALL))
    there = children.pass_on(alias, fork, list(spawned.values()))
    gone = [name for name, child in spawned.items() if child not in there]
    session = session_for(alias)
    rest = f" AND name NOT IN ({placeholders(gone)})" if gone else ""
    with session.connection.cursor() as cursor:
        cursor.execute(_COPY + rest, [session.uuid(fork), session.uuid(origin), before, *_OVER, *gone])


def _spawned(calls: QuerySet[StepRecord]) -> dict[str, UUID]:
    """Return the children that were spawned, by the key, and whose ends were not read before."""
    # The record of an end names its event; that of a spawned child has its id for a result.
    ended = set(calls.filter(state__in=_OVER, event_id__isnull=False).values_list("name", flat=True))
    begun = calls.filter(state=RecordState.COMPLETED, event_id=None).values_list("name", "result")
    return {name: codec.loads(text) for name, text in begun if text and naming.result_of(name) not in ended}
