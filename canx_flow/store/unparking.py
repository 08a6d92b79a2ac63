"""Unparking: a worker lets those parked runs go on that its code fits.

Called by a worker's chores and by the inline driver. A run that is unparked keeps its reason until it is suspended, so
that one which is parked again for the same reason is not told of again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
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
_CODES = 50  # codes stepped over in one turn, known to the worker or not
_PAGE = 2_000  # parked runs read by one statement; after as many, in one turn, it is the next one's turn
_LOADED = 100  # misfits whose arguments are loaded in one turn
_MOST_REMEMBERED = 100_000
_FIRST = UUID(int=0)


class _Taken(NamedTuple):
    """What of a page was unparked, how many misfits were loaded, and whether some are left for the next turn."""

    unparked: int
    loaded: int
    is_cut: bool


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
        #: Whether it is between two rounds, and has unparked nothing in the last one.
        self.found_nothing = False
        self._unparked = 0
        self._unfit: set[UUID] = set()

    def all(self) -> int:
        """Take the first round at once; return how many runs became ready."""
        unparked = 0
        while self.is_first:
            unparked += self.some(_BATCH)
        return unparked

    def some(self, room: int) -> int:
        """Take the next runs, and unpark at most so many misfits of them; return how many runs became ready."""
        self.found_nothing = False
        read = loaded = 0
        for _ in range(_CODES):
            page = self._page()
            if page:
                taken = self._take(page, room, _LOADED - loaded)
                self._unparked += taken.unparked
                if taken.unparked or taken.is_cut or (read := read + len(page)) >= _PAGE:
                    return taken.unparked
                loaded += taken.loaded  # A few runs that stay parked keep no others waiting.
            if self._is_over():
                break
        return 0

    def _is_over(self) -> bool:
        """Go on to the next code; return whether there is none: the round is over."""
        self._code, self._after = next_code(self._parked(), self._code), _FIRST
        if self._code is not None:
            return False
        self.is_first = False
        self.found_nothing, self._unparked = not self._unparked, 0
        return True

    def _parked(self) -> RunQuerySet:
        return WorkflowRun.objects.using(self._alias).filter(state=PARKED)

    def _page(self) -> Sequence[tuple[UUID, str]]:
        """Return the next runs, and how their reasons begin; nothing of a code that is not known."""
        if self._code not in self._known:
            return ()
        workflow, version = self._code
        runs = self._parked().filter(workflow=workflow, version=version, id__gt=self._after).order_by("id")
        return list(runs.values_list("id", Left("reason", 40))[:_PAGE])

    def _take(self, page: Sequence[tuple[UUID, str]], room: int, loads: int) -> _Taken:
        """Unpark runs of this page, of whose misfits so many may be loaded."""
        unseen = [run_id for run_id, reason in page if reason.startswith(MISFIT) and run_id not in self._unfit]
        going = [run_id for run_id, reason in page if self._goes_on(reason)]
        fitting = self._fitting(unseen[:loads])
        # The next turn begins with the first of those that are left, in the database's order: MariaDB's is its own.
        left = {*unseen[loads:], *going[_BATCH:], *fitting[room:]}
        done = next((place for place, (run_id, _reason) in enumerate(page) if run_id in left), len(page))
        self._after = page[done - 1][0] if done else self._after
        unparked = self._unpark([*going[:_BATCH], *fitting[:room]])
        return _Taken(unparked, min(len(unseen), loads), bool(left))

    def _goes_on(self, reason: str) -> bool:
        return reason.startswith(UNKNOWN) or (self.is_first and not reason.startswith((TOO_MANY, MISFIT)))

    def _fitting(self, misfits: Sequence[UUID]) -> list[UUID]:
        """Return which of these fit this code, in their order; remember the others."""
        runs = self._parked().filter(id__in=misfits).only("id", "workflow", "version", "arguments") if misfits else ()
        fits = {run.id for run in runs if _fits(run)}
        fitting = [run_id for run_id in misfits if run_id in fits]
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
            decided = set(self._parked().filter(id__in=ids).exclude(ending="").values_list("id", flat=True))
            take(self._alias, arrows.UNPARK, [run_id for run_id in ids if run_id not in decided])
            take(self._alias, arrows.UNPARK_UNDO, list(decided))
        return len(ids)


def _fits(run: WorkflowRun) -> bool:
    workflow = registry.get(run.workflow, run.version)
    try:
        positional, keywords = codec.loads(run.arguments)
    except NotDecodable:
        return False
    return workflow is not None and not workflow.misfit(positional, keywords)
