"""What a delegated step asks of its attempts, on the connection of the calling thread. Part of `connection_store`."""

from __future__ import annotations

from uuid import UUID

from ..core.claimed import ClaimedRun
from ..core.delegated import Standing
from ..observe import announce, facts
from ..store import delegations


class StoredDelegations:
    """Goes by their rows."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def standing(self, run: ClaimedRun, token: UUID) -> Standing | None:  # noqa: ARG002
        """Return what its row says."""
        return delegations.standing(self._alias, token)

    def note_again(self, run: ClaimedRun, token: UUID) -> bool:  # noqa: ARG002
        """Note it in the row."""
        return delegations.note_again(self._alias, token)

    def spare(self, run: ClaimedRun, token: UUID) -> bool:  # noqa: ARG002
        """Have it beat, in its row."""
        return delegations.beat(self._alias, token)

    def note_trouble(self, run: ClaimedRun, token: UUID, step: str, executor: str, error: Exception) -> None:
        """Note it in the row, and announce it."""
        announce(facts.NotDispatched(facts.RunRef.of(run), step, executor, error))
        delegations.note_trouble(self._alias, token, f"{type(error).__name__}: {error}")

    def give_up(self, run: ClaimedRun, token: UUID, reason: str, executor: str, task: str) -> bool:  # noqa: ARG002
        """Give it up by its row; its executor is told beside."""
        given_up = delegations.give_up(self._alias, token, reason)
        delegations.call_off(self._alias, [delegations.Off(executor, token, task)] if given_up else [])
        return given_up
