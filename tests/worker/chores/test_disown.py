"""Runs that a worker owns without knowing of it are given back."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db import OperationalError, connections

from canx_flow import conf
from canx_flow.models import WorkflowRun
from canx_flow.states import RUNNING
from canx_flow.worker.life import Life
from canx_flow.worker.slots import Slots
from canx_flow.worker.turn import Turn
from tests.worker.lives import StandingClock, asleep
from tests.workflows import two_steps

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("committed", [True, False])
def test_a_claim_whose_commit_is_unclear_is_given_back(
    turn: Turn, slots: Slots, monkeypatch: pytest.MonkeyPatch, tier: str, committed: bool
) -> None:
    """The answer never came: the next turn looks what this worker owns and does not know, and claims it anew."""
    if tier == "postgresql":
        pytest.skip("a claim is one statement there, which commits itself: no COMMIT is sent")
    run_id = asleep(0, two_steps.name)
    turn._ask()
    connection = connections["default"]
    commit, commits = connection.commit, []

    def unclear() -> None:
        commits.append(1)
        if len(commits) < (1 if tier == "sqlite" else 2):  # MySQL fires in a transaction of its own before.
            commit()
            return
        monkeypatch.setattr(connection, "commit", commit)
        if committed:
            commit()
        raise OperationalError("the server has gone away")

    started: list[UUID] = []
    monkeypatch.setattr(slots, "start", lambda run: started.append(run.id))
    monkeypatch.setattr(connection, "commit", unclear)
    with pytest.raises(OperationalError):
        turn.take(())
    assert not started
    turn.ask_anew()
    turn.take(())
    turn.take(())
    assert started == [run_id]


def test_a_run_that_is_owned_and_not_known_is_given_back_within_a_lease(
    turn: Turn, slots: Slots, life: Life, clock: StandingClock
) -> None:
    """Whatever the way there; and one that is known is left alone, though it looks the same to the database."""
    known, unknown = (
        WorkflowRun.objects.create(
            workflow="nobody.knows", state=RUNNING, ready=False, owner_id=life.parts.owner, epoch=1
        )
        for _ in range(2)
    )
    slots._claimed.add((known.id, 1))
    turn._poll(clock.now)
    assert WorkflowRun.objects.filter(owner_id=life.parts.owner).count() == 2, "not at each poll"
    clock.now += conf.get().lease_seconds
    turn._poll(clock.now)
    assert list(WorkflowRun.objects.filter(owner_id=life.parts.owner)) == [known]
    unknown.refresh_from_db()
    assert (unknown.state, unknown.recoveries, unknown.epoch) == ("pending", 0, 2)
    slots._claimed.clear()
