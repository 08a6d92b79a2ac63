"""The signals: sent to whoever listens, and harmless whatever a receiver does."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.dispatch import Signal

from canx_flow import signals
from canx_flow.signals import announce, run_completed

pytestmark = pytest.mark.once


class Sender:
    """Stands for a workflow."""


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    """What a receiver of `run_completed` was told."""
    told: list[dict[str, Any]] = []

    def receive(**kwargs: Any) -> None:
        told.append(kwargs)

    run_completed.connect(receive)
    yield told
    run_completed.disconnect(receive)


def test_there_are_nine() -> None:
    """The signals are those of the contract."""
    names = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    runs = {"started", "suspended", "resumed", "completed", "failed", "cancelled", "parked"}
    assert names == {f"run_{name}" for name in runs} | {"step_completed", "step_failed"}


def test_a_receiver_is_told(heard: list[dict[str, Any]]) -> None:
    """Sender and details arrive as they were given."""
    announce(run_completed, Sender, run_id=7)
    assert heard == [{"signal": run_completed, "sender": Sender, "run_id": 7}]


def test_a_run_of_an_unknown_workflow_is_announced_too(heard: list[dict[str, Any]]) -> None:
    """Without a workflow the sender is None, and who listens to all hears it."""
    announce(run_completed, None, run_id=7)
    assert [told["sender"] for told in heard] == [None]


def test_nothing_is_sent_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener nothing happens at all."""
    monkeypatch.setattr(Signal, "send_robust", None)
    announce(run_completed, Sender, run_id=7)


def test_a_failing_receiver_is_logged_and_the_others_hear(
    heard: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """One receiver's exception neither reaches the engine nor the next receiver."""

    def fail(**kwargs: Any) -> None:
        raise ValueError("mine")

    run_completed.connect(fail)
    try:
        with caplog.at_level(logging.ERROR):
            announce(run_completed, Sender)
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
            announce(run_completed, Sender)
    finally:
        run_completed.disconnect(receiver)
    assert "mine" in caplog.text


def test_an_async_receiver_where_a_loop_runs_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be called from here is logged, and nothing is raised."""

    async def receive(**kwargs: Any) -> None:
        raise AssertionError("not reached")

    async def main() -> None:
        announce(run_completed, Sender)

    run_completed.connect(receive)
    try:
        with caplog.at_level(logging.ERROR):
            asyncio.run(main())
    finally:
        run_completed.disconnect(receive)
    assert "could not be sent" in caplog.text
