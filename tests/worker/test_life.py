"""What a worker's life survives, and what ends it."""

from __future__ import annotations

import pytest
from django.db import NotSupportedError, OperationalError, ProgrammingError

from canx_flow import conf
from canx_flow.observe import facts
from canx_flow.worker.exitcodes import CLEAN
from canx_flow.worker.life import Life
from tests.worker.lives import StandingClock

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    "error",
    [ProgrammingError("permission denied"), NotSupportedError("cached plan"), TypeError("a wrapped driver")],
    ids=["privilege", "schema", "defect"],
)
def test_a_turn_that_fails_ends_no_worker(
    life: Life, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Whatever it is: it is told once a minute, by name, and the worker goes on when it has passed."""
    turns: list[int] = []

    def take(_told: object) -> float | None:
        turns.append(1)
        if len(turns) <= 3:
            raise error
        return None

    monkeypatch.setattr(life.parts.turn, "take", take)
    monkeypatch.setattr(life._listener, "wait", lambda _pause: set())
    assert life._work() == CLEAN
    lines = [record.getMessage() for record in caplog.records if "turn of this worker" in record.getMessage()]
    assert len(lines) == 1
    assert type(error).__name__ in lines[0]


def test_a_serialization_failure_is_repeated_and_not_told_as_an_outage(
    life: Life, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is frightened by what the next turn mends."""
    turns: list[int] = []

    class _SerializationError(Exception):
        sqlstate = "40001"

    def take(_told: object) -> float | None:
        turns.append(1)
        if len(turns) <= 3:
            raise OperationalError("could not serialize access") from _SerializationError()
        return None

    monkeypatch.setattr(life.parts.turn, "take", take)
    monkeypatch.setattr(life._listener, "wait", lambda _pause: set())
    assert life._work() == CLEAN
    assert not caplog.records


def test_turns_that_fail_for_a_lease_though_the_database_answers_end_the_worker(
    life: Life, clock: StandingClock
) -> None:
    """As where something has wrapped the driver: another process may do better, and the runs are handed back."""
    life._survive(TypeError("this cursor takes no such argument"))
    assert life._reason_to_end() is None
    clock.now += conf.get().lease_seconds + 1
    assert life._reason_to_end() == facts.TurnsKeepFailing()
    life._survive(OperationalError("away"))
    assert life._reason_to_end() is None


def test_what_fails_now_and_then_for_the_same_reason_is_told(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    """The turns between pass without the chore that fails. Once is not told: a new session may be all that it takes."""
    for _ in range(2):
        assert not caplog.records
        life._survive(ProgrammingError("permission denied"))
        life._setbacks.passed()
    assert ["permission denied" in record.getMessage() for record in caplog.records] == [True]
