"""Unparking: a worker lets those parked runs go on that its code fits.

Called by a worker's chores and by the inline driver. A run that is unparked keeps its reason until it is suspended, so
that one which is parked again for the same reason is not told of again.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import connections
from django.db.models.functions import Left

from ..core import arrows, codec, registry
from ..exceptions import ArgumentsMismatch, NotDecodable
from ..models import RunQuerySet, WorkflowRun
from ..states import PARKED
from .codes import Code, lock, next_code
from .db.engine import transaction
from .leases import TOO_MANY
from .parking import UNKNOWN
from .transitions import take

MISFIT = ArgumentsMismatch.__name__

_BATCH = 500  # runs unparked in one transaction
_CODES = 50  # codes that the worker does not know, stepped over in one turn
_PAGE = 2_000  # parked runs read in one turn
_LOADED = 100  # of those, the misfits whose arguments are loaded
_MOST_REMEMBERED = 100_000
_FIRST = UUID(int=0)


class Unparking:
    """A worker's round through the parked runs of the workflows that it knows, a page at a time, again and again.

    In its first round it unparks whatever its code may fit, later those that were parked as unknown. Those with too
    many recoveries wait for `retry`. Misfits, whose arguments did not fit the code of the worker that had claimed them,
    are tried against this one's: while a deployment is rolled out, they fit the code of the newer workers. The code of
    a process does not change, so each is tried once.
    """

    def __init__(self, alias: str, known: Sequence[Code]) -> None:
        self._alias = alias
        self._known = frozenset(known)
        self._code: Code | None = None
        self._after = _FIRST
        #: Whether it is in its first round.
        self.is_first = True
        self._unfit: set[UUID] = set()

    def all(self) -> int:
        """Take the first round at once; return how many runs became ready."""
        unparked = 0
        while self.is_first:
            unparked += self.some(_BATCH)
        return unparked

    def some(self, room: int) -> int:
        """Take the next page, and unpark at most so many misfits of it; return how many runs became ready."""
        read = 0
        for _ in range(_CODES):
            if page := self._page():
                before, unparked = self._after, self._take(page, room)
                read += len(page)
                if unparked or read >= _PAGE or self._after == before:
                    return unparked
                continue  # A few runs that stay parked keep no others waiting.
            self._code, self._after = next_code(self._parked(), self._code), _FIRST
            if self._code is None:
                self.is_first = False
                break
        return 0

    def _parked(self) -> RunQuerySet:
        return WorkflowRun.objects.using(self._alias).filter(state=PARKED)

    def _page(self) -> Sequence[tuple[UUID, str]]:
        """Return the next runs, and how their reasons begin; nothing of a code that is not known."""
        if self._code not in self._known:
            return ()
        workflow, version = self._code
        runs = self._parked().filter(workflow=workflow, version=version, id__gt=self._after).order_by("id")
        return list(runs.values_list("id", Left("reason", 40))[:_PAGE])

    def _take(self, page: Sequence[tuple[UUID, str]], room: int) -> int:
        unseen = [run_id for run_id, reason in page if reason.startswith(MISFIT) and run_id not in self._unfit]
        going = [run_id for run_id, reason in page if self._goes_on(reason)]
        fitting = self._fitting(unseen[:_LOADED])
        # The next turn begins with the first of those that are left.
        left = min([*unseen[_LOADED:], *going[_BATCH:], *fitting[room:]], default=None)
        done = [run_id for run_id, _reason in page if left is None or run_id < left]
        self._after = done[-1] if done else self._after
        return self._unpark([*going[:_BATCH], *fitting[:room]])

    def _goes_on(self, reason: str) -> bool:
        return reason.startswith(UNKNOWN) or (self.is_first and not reason.startswith((TOO_MANY, MISFIT)))

    def _fitting(self, misfits: Sequence[UUID]) -> list[UUID]:
        """Return which of these fit this code, in their order; remember the others."""
        runs = self._parked().filter(id__in=misfits).only("id", "workflow", "version", "arguments") if misfits else ()
        fitting = sorted(run.id for run in runs if _fits(run))
        if len(self._unfit) > _MOST_REMEMBERED:
            self._unfit.clear()
        self._unfit |= set(misfits).difference(fitting)
        return fitting

    def _unpark(self, run_ids: Sequence[UUID]) -> int:
        if not run_ids:
            return 0
        with transaction(connections[self._alias]):
            parked = self._parked().filter(id__in=run_ids).exclude(reason__startswith=TOO_MANY)
            ids = lock(parked.order_by("id"), len(run_ids))
            take(self._alias, arrows.UNPARK, ids)
        return len(ids)


def _fits(run: WorkflowRun) -> bool:
    workflow = registry.get(run.workflow, run.version)
    try:
        positional, keywords = codec.loads(run.arguments)
    except NotDecodable:
        return False
    return workflow is not None and not workflow.misfit(positional, keywords)
