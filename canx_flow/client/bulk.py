"""Cancel and retry for every run of a queryset, in batches of a transaction each. Called by `RunQuerySet`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from ..core.current import refuse_in_body
from ..core.options import checked_flag, checked_note
from ..models import RunQuerySet
from ..store import rivals, telling
from ..store import runs as store
from ..store.afterwards import after_commit
from . import named
from .controls import tell_of_cancel

_BATCH = 500


def bulk_cancel(
    queryset: RunQuerySet,
    reason: str = "",
    *,
    undo: bool = True,
    by: Any = None,
) -> dict[str, int]:
    """Cancel every run of a queryset; return counts of `cancelled`, `stopping`, `unchanged`.

    Those are stopping that a worker has, or that have something to undo.
    """
    refuse_in_body("cancel")
    checked_flag(undo, "undo")
    alias, note = named.alias(), checked_note("cancel", reason, by)
    #: What became of each; a child that is behind its parent in the queryset was cancelled with that.
    became: dict[UUID, str] = {}

    def act(ids: Sequence[UUID]) -> Counter[str]:
        runs = store.lock(alias, ids, why=not undo)
        ended, stopping = store.cancel(alias, runs, note, undo=undo)
        tell_of_cancel(alias, ended, stopping)
        became.update(dict.fromkeys((run.id for run in ended), "cancelled"))
        became.update(dict.fromkeys((run.id for run in stopping), "stopping"))
        return Counter(became.get(run.id, "unchanged") for run in runs)

    return _summed(queryset, act, Counter(cancelled=0, stopping=0, unchanged=0))


def bulk_retry(queryset: RunQuerySet, reason: str = "", *, by: Any = None) -> dict[str, int]:
    """Retry every failed or parked run of a queryset; return counts of `retried` and `unchanged`."""
    refuse_in_body("retry")
    alias, note = named.alias(), checked_note("retry", reason, by)

    def act(ids: Sequence[UUID]) -> Counter[str]:
        runs = store.lock(alias, ids, why=True)
        retried = len(store.retry(alias, runs, note))
        after_commit(alias, telling.tell, alias)
        return Counter(retried=retried, unchanged=len(runs) - retried)

    return _summed(queryset, act, Counter(retried=0, unchanged=0))


def _summed(
    queryset: RunQuerySet, act: Callable[[Sequence[UUID]], Counter[str]], counts: Counter[str]
) -> dict[str, int]:
    """Act on each batch in a transaction, repeated where it met a deadlock; return the sums of what was counted."""
    for ids in _batches(queryset):
        counts.update(rivals.repeated(named.alias(), partial(act, ids)))
    return dict(counts)


def _batches(queryset: RunQuerySet) -> Iterator[Sequence[UUID]]:
    """Yield the ids of the runs that the queryset has now, a few hundred at a time, in order.

    A queryset that names no database is not asked of one that a router has for reading: that may be behind, and does
    not see what this transaction has written. One that joins other tables may have a run many times.
    """
    if queryset._db is None:
        queryset = queryset.using(named.alias())
    ids = list(dict.fromkeys(queryset.order_by("id").values_list("id", flat=True)))
    for begin in range(0, len(ids), _BATCH):
        yield ids[begin : begin + _BATCH]
