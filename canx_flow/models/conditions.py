"""Conditions on runs and on what is theirs, each in the words of the index that answers it.

SQLite takes a partial index only for a condition that names the index's own. Called by whatever lists runs.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db.models import Q, Value

from ..core.columns import Between
from ..states import COMPLETED, RUNNING

#: For a truth value that an index has in its condition. Before 6.1 Django writes `filter(ready=True)` without `= 1`, in
#: which SQLite does not know the index's words.
TRUE, FALSE = Value(True), Value(False)

DEFAULT_QUEUE = "default"

#: The condition of `canx_run_unusual`: most runs are completed, and those that are running have their owner's index.
UNUSUAL = ~Q(state=COMPLETED) & ~Q(state=RUNNING)
#: The condition of `canx_run_queue`: where most runs are in one queue, that is this one.
OTHER_QUEUE = ~Q(queue=DEFAULT_QUEUE)
#: For `canx_run_owner`. Not `IS NOT NULL`, for which PostgreSQL takes nearly all runs as long as it has no statistics.
HAS_OWNER = Q(owner_id__gte=UUID(int=0), owner_id__lte=UUID(int=(1 << 128) - 1))
#: The conditions of `canx_run_error` and `canx_run_error_print`.
HAS_ERROR, HAS_PRINT = Q(error_type__isnull=False), Q(error_print__isnull=False)
#: The condition of `canx_run_subject`.
HAS_SUBJECT = ~Q(subject_type="")


def in_states(*wanted: str) -> Q:
    """Return the condition that a run is in one of these states; for `RunQuerySet.states`."""
    one_of = Q(state=wanted[0]) if len(wanted) == 1 else Q(state__in=wanted)
    return one_of if {COMPLETED, RUNNING} & {*wanted} else one_of & UNUSUAL


def failed_with(kind: str) -> Q:
    """Return the condition that a run's error is of this type."""
    return Q(error_type=kind) & HAS_ERROR


def failed_like(fingerprint: str) -> Q:
    """Return the condition that a run has failed like others, by `error_print`."""
    return Q(error_print=fingerprint) & HAS_PRINT


def in_queue(name: str) -> Q:
    """Return the condition that a run is in this queue."""
    return Q(queue=name) if name == DEFAULT_QUEUE else Q(queue=name) & OTHER_QUEUE


def of_runs(ids: Collection[UUID]) -> Q:
    """Return the condition that a timer, record or event is of one of these runs.

    With their range: of a table without statistics PostgreSQL takes a list of values for a large part of it, and reads
    it whole; a range it takes for a small one.
    """
    return Q(run_id__in=ids) & Q(Between("run_id", min(ids), max(ids))) if ids else Q(run_id__in=())


def about(subject_type: str, key: str) -> Q:
    """Return the condition that a run is about this object."""
    return Q(subject_type=subject_type, subject_id=key) & HAS_SUBJECT
