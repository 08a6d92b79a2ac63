"""Runs that cannot go on with the code that the workers have: parked, and unparked by a worker whose code fits.

Called by a worker's chores and by the inline driver. A run that is unparked keeps its reason until it is
suspended, so that one which is parked again for the same reason is not told of again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from django.db import connections
from django.db.models import Q

from ..core import arrows, codec, registry
from ..exceptions import ArgumentsMismatch, NotDecodable
from ..models import RunQuerySet, Worker, WorkflowRun
from ..states import PARKED, STOPPING
from .db.engine import transaction
from .leases import TOO_MANY
from .transitions import take

UNKNOWN = "UnknownWorkflow"
MISFIT = ArgumentsMismatch.__name__

Identities = Sequence[tuple[str, str]]

_BATCH = 500
_PAGE = 2_000  # ids of misfits read in one turn
_LOADED = 100  # of those, the runs whose arguments are loaded
_MOST_REMEMBERED = 100_000
_FIRST = UUID(int=0)


class Parked(NamedTuple):
    """A run that was parked. `again`: for the reason that it was parked for before, and it has not gone on since."""

    id: UUID
    workflow: str
    version: str
    again: bool


def park_unknown(alias: str, live: Sequence[Worker], queues: Sequence[str] = (), limit: int = _BATCH) -> list[Parked]:
    """Park ready runs whose workflow no live worker knows."""
    known = {tuple(identity) for worker in live for identity in json.loads(worker.workflows)}
    ready = WorkflowRun.objects.using(alias).filter(ready=True)
    if queues:
        ready = ready.filter(queue__in=queues)
    labels = ready.order_by().values_list("workflow", "version").distinct()
    unknown = [label for label in labels if label not in known]
    parked: list[Parked] = []
    for workflow, version in unknown:
        label = f"{workflow}@{version}" if version else workflow
        reason = f"{UNKNOWN}: no worker knows {label!r}. It goes on when a worker starts that does."
        with transaction(connections[alias]):
            ids = _lock(ready.filter(workflow=workflow, version=version).exclude(state=STOPPING), limit)
            runs = WorkflowRun.objects.using(alias).filter(id__in=ids)
            again = set(runs.filter(reason=reason).values_list("id", flat=True))
            take(alias, arrows.PARK, ids, reason=reason, error=None)
        parked += [Parked(run_id, workflow, version, run_id in again) for run_id in ids]
    return parked


def unpark(alias: str, known: Identities, *, starting: bool) -> int:
    """Unpark runs that this worker knows: at its start all, later those parked as unknown; return how many.

    Those with too many recoveries wait for `retry`, and those whose arguments did not fit are left to `Misfits`.
    """
    if not known:
        return 0
    parked = _parked(alias, known)
    if starting:
        parked = parked.exclude(Q(reason__startswith=TOO_MANY) | Q(reason__startswith=MISFIT))
    else:
        parked = parked.filter(reason__startswith=UNKNOWN)
    unparked = 0
    while True:
        some = _unpark(alias, parked)
        unparked += some
        if some < _BATCH:
            return unparked


class Misfits:
    """Parked runs whose arguments did not fit the code of the worker that had claimed them, tried against this one's.

    While a deployment is rolled out, they fit the code of the newer workers. The code of a process does not change, so
    each run is tried once; a page of them at a time, for there may be many.
    """

    def __init__(self, alias: str, known: Identities) -> None:
        self._alias = alias
        self._known = known
        self._after = _FIRST
        self._unfit: set[UUID] = set()

    def unpark_all(self) -> int:
        """Unpark all that fit; return how many."""
        unparked = self.unpark(_LOADED)
        while self._after != _FIRST:
            unparked += self.unpark(_LOADED)
        return unparked

    def unpark(self, most: int) -> int:
        """Unpark those of the next page that fit, at most so many; return how many."""
        if not self._known:
            return 0
        misfits = _parked(self._alias, self._known).filter(reason__startswith=MISFIT)
        page = list(misfits.filter(id__gt=self._after).order_by("id").values_list("id", flat=True)[:_PAGE])
        unseen = [run_id for run_id in page if run_id not in self._unfit]
        some = unseen[:_LOADED]
        fitting = [run.id for run in misfits.filter(id__in=some).only(*_NEEDED) if _fits(run)]
        self._remember(set(some).difference(fitting))
        if len(fitting) <= most:  # Else there are more on this page.
            at_its_end = len(some) == len(unseen)
            self._after = some[-1] if not at_its_end else page[-1] if len(page) == _PAGE else _FIRST
        return _unpark(self._alias, misfits.filter(id__in=fitting[:most])) if fitting else 0

    def _remember(self, unfit: set[UUID]) -> None:
        if len(self._unfit) > _MOST_REMEMBERED:
            self._unfit.clear()
        self._unfit |= unfit


_NEEDED = ("id", "workflow", "version", "arguments")


def _fits(run: WorkflowRun) -> bool:
    workflow = registry.get(run.workflow, run.version)
    try:
        positional, keywords = codec.loads(run.arguments)
    except NotDecodable:
        return False
    return workflow is not None and not workflow.misfit(positional, keywords)


def _parked(alias: str, known: Identities) -> RunQuerySet:
    identities = Q()
    for name, version in known:
        identities |= Q(workflow=name, version=version)
    return WorkflowRun.objects.using(alias).filter(identities, state=PARKED)


def _unpark(alias: str, parked: RunQuerySet) -> int:
    with transaction(connections[alias]):
        ids = _lock(parked, _BATCH)
        take(alias, arrows.UNPARK, ids)
    return len(ids)


def _lock(runs: RunQuerySet, limit: int) -> Sequence[UUID]:
    skip = connections[runs.db].features.has_select_for_update_skip_locked
    return list(runs.order_by("id").select_for_update(skip_locked=skip).values_list("id", flat=True)[:limit])
