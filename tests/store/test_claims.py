"""What a worker claims, in which order, whatever is ready beside it."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from django.db import connections

from canx_flow.core.identity import uuid7
from canx_flow.models import WorkflowRun
from canx_flow.store import claims, leases
from tests.store.locking import locked_runs

KNOWN = [("mine", ""), ("mine", "2")]
#: More than any look of a claim finds.
MANY = 700


def _ready(runs: int = 1, **values: Any) -> list[UUID]:
    """So many ready runs of a workflow that the worker knows, oldest first."""
    made = [WorkflowRun(**{"id": uuid7(), "workflow": "mine", **values}) for _ in range(runs)]
    return [run.id for run in WorkflowRun.objects.bulk_create(made, 500)]


def _claim(owner: UUID, most: int, queues: Sequence[str] = (), known: Any = KNOWN) -> list[UUID]:
    return [run.id for run in claims.claim(connections["default"], owner, most, known, queues)]


@pytest.fixture
def owner(db: None) -> UUID:
    """A live worker."""
    return leases.register(host="here", pid=1).id


@pytest.mark.parametrize("queues", [(), ("a",), ("a", "b"), ("b", "empty", "a", "c", "a")])
def test_the_larger_priority_is_first_then_the_older_over_all_queues(owner: UUID, queues: Sequence[str]) -> None:
    """A worker's queues are as one: they have no order among themselves."""
    chance = random.Random(7)
    made = [
        WorkflowRun(
            id=uuid7(), workflow=chance.choice(["mine", "mine", "other"]), version=chance.choice(["", "2"]),
            queue=chance.choice("abcd"), priority=chance.choice([-1, 0, 0, 5]),
        )
        for _ in range(60)
    ]  # fmt: skip
    WorkflowRun.objects.bulk_create(chance.sample(made, 60))
    wanted = [run for run in made if run.workflow == "mine" and (not queues or run.queue in queues)]
    wanted.sort(key=lambda run: (-run.priority, run.id))
    claimed = [run_id for most in (1, 5, 100, 100) for run_id in _claim(owner, most, queues)]
    assert claimed == [run.id for run in wanted]


@pytest.mark.parametrize("queues", [(), ("a", "b")])
def test_what_a_worker_knows_is_found_behind_any_number_that_it_does_not(owner: UUID, queues: Sequence[str]) -> None:
    """In the same order: what stands among the others, of the same priority as they, and below."""
    among = _ready(MANY, queue="a", workflow="other")[MANY // 2 :][:1]
    WorkflowRun.objects.filter(id__in=among).update(workflow="mine")
    below = _ready(2, queue="a", priority=-1)
    behind = _ready(3, queue="b")
    first = _ready(1, queue="b", priority=1)
    elsewhere = [] if queues else _ready(1, queue="c", version="2", priority=-2)
    _ready(1, queue="d", version="3")
    assert _claim(owner, 100, queues) == [*first, *among, *behind, *below, *elsewhere]
    assert _claim(owner, 100, queues) == []


def test_a_worker_may_know_any_number_of_workflows(owner: UUID) -> None:
    """More than SQLite has parts of a statement for."""
    known = [(f"mine{number}", "") for number in range(700)]
    _ready(MANY, workflow="other")
    wanted = _ready(2, workflow="mine3") + _ready(1, workflow="mine699")
    assert _claim(owner, 3, (), known) == wanted


def test_a_stopping_run_needs_nobody_who_knows_it(owner: UUID) -> None:
    """Only its end is to come; also behind any number that the worker does not know, and once, if it knows it."""
    wanted = _ready(1, workflow="other", state="stopping", recoveries=5)
    _ready(MANY, workflow="other")
    wanted += _ready(1, workflow="other", state="stopping") + _ready(1, state="stopping", priority=-1)
    assert _claim(owner, 10) == wanted


def test_a_worker_that_is_dead_claims_nothing(owner: UUID) -> None:
    """Neither at once nor behind the runs of others."""
    _ready(MANY, workflow="other")
    _ready(2)
    leases.declare_dead(owner)
    assert _claim(owner, 10) == []


@pytest.mark.django_db(transaction=True)
def test_runs_that_a_transaction_has_locked_hold_up_no_other(tier: str) -> None:
    """However many they are."""
    if not connections["default"].features.has_select_for_update_skip_locked:
        pytest.skip(f"{tier} skips no locks")
    owner = leases.register(host="here", pid=1).id
    locked, free = _ready(MANY), _ready(3)
    with locked_runs(locked):
        assert _claim(owner, 10) == free


@pytest.mark.django_db(transaction=True)
def test_no_run_is_claimed_by_two_workers(tier: str) -> None:
    """Workers that claim at the same moment, of the same queues."""
    made = {run_id for queue in "ab" for run_id in _ready(60, queue=queue)}
    owners = [leases.register(host="here", pid=number).id for number in range(3)]
    claimed: list[UUID] = []

    def take(owner: UUID) -> None:
        try:
            while some := _claim(owner, 7, ("a", "b")):
                claimed.extend(some)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=take, args=(owner,)) for owner in owners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted({*claimed})
    left = _claim(owners[0], 200)
    assert {*claimed, *left} == made


def test_however_many_runs_are_wanted_few_statements_are_prepared(owner: UUID, tier: str) -> None:
    """A session keeps each of them, with its plan."""
    if tier != "postgresql":
        pytest.skip("it prepares nothing")
    _ready(MANY, workflow="other")
    _ready(600)
    for most in range(1, 33):
        assert len(_claim(owner, most)) == most
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%looked AS%'")
        assert cursor.fetchone()[0] <= 3
