"""Start policies beside transactions that stay open: what those have locked, and what no worker waits for (P13)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from canx_flow import InvalidState
from canx_flow.models import Timer

from ..elsewhere import elsewhere
from ..processes import Workers
from ..waiting import wait_until
from .shared import gated

pytestmark = pytest.mark.django_db(transaction=True)

named = gated.using(singleton="a")


@pytest.fixture(autouse=True)
def _row_locks(tier: str) -> None:
    if tier == "sqlite":
        pytest.skip("an open write transaction stops all writers of a SQLite file")


def _in_flight(workers: Workers, effects: ModuleType, run_id: UUID, label: str) -> UUID:
    """The run, once a worker is in the middle of its first step."""
    workers.start()
    wait_until(lambda: effects.count(f"at {label}"), message="it was not started")
    return run_id


def _result(run_id: UUID) -> Any:
    """What a run returns that ends while this thread stays in its transaction."""
    return elsewhere(lambda: gated.result(run_id, timeout=3)).result(30)


@pytest.mark.parametrize("start", [named.using(debounce=0.1), named], ids=["debounced", "plain"])
def test_p13_a_debounced_start_that_comes_too_late_locks_nothing(
    workers: Workers, effects: ModuleType, start: Any
) -> None:
    """The run that has begun, whose id it is given, goes on to its end while the caller stays in its transaction."""
    first = _in_flight(workers, effects, start.start("first"), "first")
    with transaction.atomic():
        assert named.using(debounce=0.1).start("second") == first
        effects.release("first")
        assert _result(first) == "first"


def test_p13_a_debounced_start_that_meets_a_plain_run_leaves_it_to_be_claimed(
    workers: Workers, effects: ModuleType
) -> None:
    """Such a run is never moved, whether it has begun or not."""
    first = named.start("first")
    effects.release("first")
    with transaction.atomic():
        assert named.using(debounce=0.1).start("second") == first
        workers.start()
        assert _result(first) == "first"


def test_p13_a_retry_that_is_refused_locks_nothing_of_the_run_that_holds_the_name(
    workers: Workers, effects: ModuleType
) -> None:
    """That run ends while the caller, who was told of it, stays in its transaction."""
    failed = _in_flight(workers, effects, named.using(timeout=0.1).start("late"), "late")
    wait_until(lambda: gated.status(failed).state == "stopping", message="its deadline has not passed")
    effects.release("late")
    wait_until(lambda: gated.status(failed).state == "failed", message="it has not ended")
    holder = named.start("holder")
    wait_until(lambda: effects.count("at holder"), message="it was not started")
    with transaction.atomic():
        with pytest.raises(InvalidState, match=f"run {holder} holds its singleton"):
            gated.retry(failed)
        assert gated.runs.filter(id=failed).retry() == {"retried": 0, "unchanged": 1}
        effects.release("holder")
        assert _result(holder) == "holder"


# -- an end that others wait for -------------------------------------------------------------------

replacing = named.using(on_conflict="cancel_other")


def _undo(run_id: UUID) -> None:
    gated.cancel(run_id)
    transaction.set_rollback(True)


def _move(run_id: UUID) -> None:
    assert replacing.using(debounce=0.1).start("third") == run_id


VERBS: dict[str, Callable[[UUID], object]] = {
    "cancelled": gated.cancel, "paused": gated.pause, "moved": _move, "not cancelled after all": _undo,
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_p13_an_end_waits_for_nobody_who_has_locked_the_run_that_waits_for_it(
    workers: Workers, effects: ModuleType, verb: str
) -> None:
    """It is stored, and so is what ends beside it; once the transaction has ended, the run that waited goes on."""
    first = _in_flight(workers, effects, replacing.start("first"), "first")
    waiting = replacing.using(debounce=0.1).start("second")
    beside = gated.start("beside")
    wait_until(lambda: effects.count("at beside"), message="it was not started")
    assert (gated.status(first).state, gated.status(waiting).state) == ("stopping", "sleeping")
    for label in ("second", "third"):
        effects.release(label)
    with transaction.atomic():
        VERBS[verb](waiting)
        effects.release("first")
        elsewhere(lambda: wait_until(lambda: gated.status(first).state == "cancelled", 3)).result(30)
        effects.release("beside")
        assert _result(beside) == "beside"
    if verb == "paused":
        gated.resume(waiting)
    if verb == "cancelled":
        assert gated.status(waiting).state == "cancelled"
    else:
        assert _result(waiting) == ("third" if verb == "moved" else "second")
    wait_until(lambda: not Timer.objects.exists(), message="a timer was left behind")


def test_a_transaction_that_cancels_both_meets_no_end_that_waits_for_it(workers: Workers, effects: ModuleType) -> None:
    """The run that waits first, and then the one that it waits for, which ends in between: no deadlock."""
    first = _in_flight(workers, effects, replacing.start("first"), "first")
    waiting = replacing.start("second")
    with transaction.atomic():
        assert gated.cancel(waiting)
        effects.release("first")
        elsewhere(lambda: wait_until(lambda: gated.status(first).state == "cancelled", 3)).result(30)
        assert gated.cancel(first)
    assert gated.status(waiting).state == "cancelled"
