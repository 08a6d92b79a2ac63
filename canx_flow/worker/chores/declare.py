"""Write what this worker declares into the rows of schedules, as far as it is the youngest that does.

Done when the worker begins, when another one has come or gone, and every ten minutes: then also schedules that no live
worker declares are noted, and deleted after a week. No worker has to be told of a deployment.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from ...core import schedules as declarations
from ...store import schedules
from ..agenda import Every

_SECONDS = 600.0


class Declare:
    """Knows for which live workers it has last written what this one declares."""

    def __init__(self, owner: UUID, alias: str) -> None:
        self._owner = owner
        self._alias = alias
        self._every = Every(_SECONDS)
        self._live: frozenset[UUID] = frozenset()

    def run_once(self, now: float, live: Collection[UUID]) -> bool:
        """Do it if it is due; return whether a schedule may be due earlier than it was."""
        live = frozenset(live)
        if live == self._live and not self._every.is_due(now):
            return False
        changed = schedules.sync(self._alias, self._owner, declarations.declared())
        self._live = live
        self._every.done(now)
        return changed
