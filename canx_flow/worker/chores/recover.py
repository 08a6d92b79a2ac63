"""Make runs ready whose worker is dead, or is gone without handing them back.

Done when a poll finds such a run or a dead worker (which workers are dead, `declare_dead` decides), and by a worker
that leaves, for its own runs.
"""

from __future__ import annotations

import json
from uuid import UUID

from ...models import Worker
from ...observe import announce, facts
from ...store import leases

_NAMED = 5  # runs that are named


class Recover:
    """Recovers the runs of all owners that are not alive."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        #: Runs that may have been parked: the answer to the commit was lost.
        self._in_doubt: list[leases.Recoverable] = []

    def run_once(self, _now: float) -> int:
        """Recover them; return how many runs that was."""
        return sum(self._recover(owner) for owner in leases.owners_not_alive())

    def announce_parked(self) -> None:
        """Tell of runs that were parked by a recovery whose answer was lost, once that is known."""
        if self._in_doubt:
            self._in_doubt = leases.tell_of_parked(self._in_doubt)

    def _recover(self, owner: UUID) -> int:
        found: list[UUID] = []
        while recovered := leases.recover(owner, doubtful=self._in_doubt):
            found += recovered
        if found:
            self._announce(owner, found)
        return len(found)

    def _announce(self, owner: UUID, runs: list[UUID]) -> None:
        """Tell which runs were taken from it, and in which step each was by its last heartbeat."""
        worker = Worker.objects.using(self._alias).filter(id=owner).first()
        said = json.loads(worker.activity) if worker is not None else {}
        steps = {run: said.get(str(run), {}).get("step") for run in runs[:_NAMED]}
        name = str(worker or "without a row")
        announce(facts.RunsRecovered(name, owner, tuple(steps.items()), len(runs)))
