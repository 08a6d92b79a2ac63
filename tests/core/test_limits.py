"""What the record of a step says that waits for its limit."""

from __future__ import annotations

import pytest

from canx_flow.core.changes import Record
from canx_flow.core.limits import Reservation, spend
from canx_flow.states import Kind, RecordState

pytestmark = pytest.mark.once


def _record(state: str, result: str | None) -> Record:
    return Record(1, "call", Kind.STEP, state, result=result)


def test_after_a_crash_a_moment_that_was_due_is_spent_and_the_turn_is_kept() -> None:
    """Such a step may have been called; one whose wait is open has not, and one without a reservation has none."""
    reserved = Reservation("stripe", "eu", 1_000_000, 2, full=False)
    due, waiting = _record(RecordState.DUE, reserved.text()), _record(RecordState.OPEN, reserved.text())
    again, over = _record(RecordState.DUE, None), _record(RecordState.COMPLETED, '"paid"')
    spend([due, waiting, again, over])
    assert Reservation.of(due) == Reservation("stripe", "eu", None, 2, full=False)
    assert Reservation.of(waiting) == reserved
    assert (again.result, over.result) == (None, '"paid"')
