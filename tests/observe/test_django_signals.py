"""Facts as signals: sent to every receiver, and harmless whatever a receiver does."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.dispatch import Signal

from canx_flow import signals
from canx_flow.core import registry
from canx_flow.exceptions import StoredError
from canx_flow.observe import announce, django_signals, facts, wants, wants_any
from canx_flow.signals import run_completed

from ..workflows import failing

pytestmark = pytest.mark.once

RUN = facts.RunRef(UUID(int=7), "nobody.knows", "", "default")
COMPLETED = facts.RunCompleted(RUN)


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    """What a receiver of every signal was told."""
    told: list[dict[str, Any]] = []

    def receive(**kwargs: Any) -> None:
        told.append(kwargs)

    for signal in signals.ALL:
        signal.connect(receive)
    yield told
    for signal in signals.ALL:
        signal.disconnect(receive)


def test_a_receiver_is_told(heard: list[dict[str, Any]]) -> None:
    """The sender is the workflow."""
    run = facts.RunRef(RUN.id, failing.name, "", "default")
    announce(facts.RunCompleted(run))
    assert heard == [{
        "signal": run_completed, "sender": registry.get(failing.name), "run_id": RUN.id, "workflow": failing.name,
    }]  # fmt: skip


_ERROR = StoredError(type="builtins.ValueError", message="no", traceback="", at="", mro=[])


@pytest.mark.parametrize(
    ("fact", "signal", "more"),
    [
        (facts.RunStarted(RUN), signals.run_started, {}),
        (facts.RunSuspended(RUN, "sleeping"), signals.run_suspended, {"state": "sleeping"}),
        (facts.RunResumed(RUN), signals.run_resumed, {}),
        (facts.RunCompleted(RUN), signals.run_completed, {}),
        (facts.RunFailed(RUN, _ERROR, None), signals.run_failed, {}),
        (facts.RunTimedOut(RUN), signals.run_failed, {}),
        (facts.RunCancelled(RUN), signals.run_cancelled, {}),
        (facts.RunParked(RUN, "Kind: why"), signals.run_parked, {"reason": "Kind: why"}),
        (facts.RunStillParked(RUN, "Kind: why"), signals.run_parked, {"reason": "Kind: why"}),
        (facts.StepCompleted(RUN, "charge", 2), signals.step_completed, {"step": "charge", "attempt": 2}),
        (
            facts.AttemptFailed(RUN, "charge", 2, 3, _ERROR, datetime(2026, 1, 1, tzinfo=UTC)),
            signals.step_failed,
            {"step": "charge", "attempt": 2, "error": _ERROR},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, facts.Fact) else "",
)
def test_each_fact_is_its_signal(
    heard: list[dict[str, Any]], fact: facts.Fact, signal: Signal, more: dict[str, Any]
) -> None:
    """With what the reference says it carries; the sender of a workflow that this process does not know is None."""
    announce(fact)
    assert heard == [{"signal": signal, "sender": None, "run_id": RUN.id, "workflow": "nobody.knows", **more}]


def test_every_signal_has_a_fact() -> None:
    """None of the nine is forgotten."""
    assert {signal for signal, _names in django_signals.SIGNALS.values()} == set(signals.ALL)


def test_nothing_is_wanted_when_nothing_listens(heard: list[dict[str, Any]]) -> None:
    """The fact of every run and step need not be made then."""
    hot = (facts.RunStarted, facts.RunResumed, facts.RunSuspended, facts.RunCompleted, facts.StepCompleted)
    assert all(map(wants, hot))
    kept = [signal.receivers for signal in signals.ALL]
    try:
        for signal in signals.ALL:
            signal.receivers = []
        assert not wants_any(hot)
        announce(COMPLETED)
    finally:
        for signal, receivers in zip(signals.ALL, kept, strict=True):
            signal.receivers = receivers
    assert heard == []


def test_a_receiver_of_another_sender_hears_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is sent."""

    def receive(**kwargs: Any) -> None:
        raise AssertionError("not reached")

    run_completed.connect(receive, sender=failing)
    monkeypatch.setattr(Signal, "send_robust", None)
    try:
        announce(COMPLETED)
    finally:
        run_completed.disconnect(receive, sender=failing)


def test_the_announcer_says_where_receivers_are_called(heard: list[dict[str, Any]]) -> None:
    """They are the project's code: a worker calls them in a thread apart."""
    tasks: list[Any] = []
    announce(COMPLETED, tasks.append)
    assert heard == []
    (task,) = tasks
    task()
    assert len(heard) == 1


def test_a_failing_receiver_is_logged_and_the_others_hear(
    heard: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """One receiver's exception neither reaches the engine nor the next receiver."""

    def fail(**kwargs: Any) -> None:
        raise ValueError("mine")

    run_completed.connect(fail)
    try:
        with caplog.at_level(logging.ERROR):
            announce(COMPLETED)
    finally:
        run_completed.disconnect(fail)
    assert len(heard) == 1
    assert "mine" in caplog.text


def test_a_failing_receiver_without_a_name_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A partial that raises is no worse than a function that does."""

    def fail(why: str, **kwargs: Any) -> None:
        raise ValueError(why)

    receiver = functools.partial(fail, "mine")
    run_completed.connect(receiver)
    try:
        with caplog.at_level(logging.ERROR):
            announce(COMPLETED)
    finally:
        run_completed.disconnect(receiver)
    assert "mine" in caplog.text


def test_an_async_receiver_where_a_loop_runs_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be called from here is logged, and nothing is raised."""

    async def receive(**kwargs: Any) -> None:
        raise AssertionError("not reached")

    async def main() -> None:
        announce(COMPLETED)

    run_completed.connect(receive)
    try:
        with caplog.at_level(logging.ERROR):
            asyncio.run(main())
    finally:
        run_completed.disconnect(receive)
    assert "could not be sent" in caplog.text
