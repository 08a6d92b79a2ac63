"""Runs that cannot go on with the code there is: parked, looked at again, and let go on by a worker whose code fits.

Called by a worker's chores and by the inline driver. A run that is looked at keeps its reason until it has gone on, so
that one which is parked again for the same is not told of again.
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
_PAGE = 2_000  # ids of misfits looked at in one turn, and of how many of those the arguments are loaded
_LOADED = 100
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


def look(alias: str, known: Identities, *, starting: bool) -> int:
    """Let parked runs go on that this worker knows: at its start all, later those parked as unknown.

    Those with too many recoveries wait for `retry`, and `Misfits` looks at those whose arguments did not fit.
    """
    if not known:
        return 0
    parked = _parked(alias, known)
    if starting:
        parked = parked.exclude(Q(reason__startswith=TOO_MANY) | Q(reason__startswith=MISFIT))
    else:
        parked = parked.filter(reason__startswith=UNKNOWN)
    looked_at = 0
    while True:
        ids = _let_go_on(alias, parked)
        looked_at += ids
        if ids < _BATCH:
            return looked_at


class Misfits:
    """Parked runs whose arguments did not fit the code of the worker that took them up: do they fit the code of this?

    While a deployment rolls they do so at the newer workers. The code of a process does not change, so each run is
    looked at once; a page of them at a time, for there may be many.
    """

    def __init__(self, alias: str, known: Identities) -> None:
        self._alias = alias
        self._known = known
        self._after = _FIRST
        self._hopeless: set[UUID] = set()

    def look_at_all(self) -> int:
        """Let all that fit go on; returns how many that was."""
        gone_on = self.look(_LOADED)
        while self._after != _FIRST:
            gone_on += self.look(_LOADED)
        return gone_on

    def look(self, most: int) -> int:
        """Let up to so many of the next page go on; returns how many that was."""
        if not self._known:
            return 0
        misfits = _parked(self._alias, self._known).filter(reason__startswith=MISFIT)
        page = list(misfits.filter(id__gt=self._after).order_by("id").values_list("id", flat=True)[:_PAGE])
        unseen = [run_id for run_id in page if run_id not in self._hopeless]
        some = unseen[:_LOADED]
        fitting = [run.id for run in misfits.filter(id__in=some).only(*_ASKED) if _fits(run)]
        self._remember(set(some).difference(fitting))
        if len(fitting) <= most:  # Else there are more on this page.
            at_its_end = len(some) == len(unseen)
            self._after = some[-1] if not at_its_end else page[-1] if len(page) == _PAGE else _FIRST
        return _let_go_on(self._alias, misfits.filter(id__in=fitting[:most])) if fitting else 0

    def _remember(self, hopeless: set[UUID]) -> None:
        if len(self._hopeless) > _MOST_REMEMBERED:
            self._hopeless.clear()
        self._hopeless |= hopeless


_ASKED = ("id", "workflow", "version", "arguments")


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


def _let_go_on(alias: str, parked: RunQuerySet) -> int:
    with transaction(connections[alias]):
        ids = _lock(parked, _BATCH)
        take(alias, arrows.UNPARK, ids)
    return len(ids)


def _lock(runs: RunQuerySet, limit: int) -> Sequence[UUID]:
    skip = connections[runs.db].features.has_select_for_update_skip_locked
    return list(runs.order_by("id").select_for_update(skip_locked=skip).values_list("id", flat=True)[:limit])
