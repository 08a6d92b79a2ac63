"""Runs that the engine cancels by itself: their parents were stopped, they have not started in time, an event came.

Called by `timers` and `broadcasts`, in a transaction that has the runs' rows locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connections

from ..core import arrows
from ..models import WorkflowRun
from . import children
from .transitions import take


class Row(NamedTuple):
    """A locked run, as far as its end goes by that."""

    id: UUID
    state: str
    has_undo: bool
    owner_id: UUID | None
    ending: str
    started_at: datetime | None

    @property
    def is_going(self) -> bool:
        """Whether its end is not decided."""
        return self.state in children.GOING and not self.ending


def lock(alias: str, run_ids: Sequence[UUID]) -> list[Row]:
    """Lock the rows of these runs, in the order of ids, but for those that another transaction has locked."""
    skip = connections[alias].features.has_select_for_update_skip_locked
    runs = WorkflowRun.objects.using(alias).filter(id__in=run_ids).order_by("id")
    return [Row(*row) for row in runs.select_for_update(skip_locked=skip).values_list(*Row._fields)]


def cancel(alias: str, going: Sequence[Row], now: datetime, reason: str) -> list[UUID]:
    """Cancel these runs, as `runs.cancel` does; return those that have ended.

    A worker that has one ends it; one that has something to undo is stopping.
    """
    take(alias, arrows.CANCEL_OWNED, [row.id for row in going if row.owner_id is not None], reason=reason)
    idle = [row for row in going if row.owner_id is None]
    take(alias, arrows.CANCEL_TO_UNDO, [row.id for row in idle if row.has_undo], reason=reason)
    ended = [row.id for row in idle if not row.has_undo]
    take(alias, arrows.CANCEL, ended, now=now, reason=reason)
    return ended
