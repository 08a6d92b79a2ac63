"""What follows a commit, in a test whose transaction never commits: it is done by the next turn, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.dispatch import Signal
from django.test import TestCase, TransactionTestCase

from canx_flow import Context, signals, workflow
from canx_flow.store import telling
from canx_flow.testing import advance, run_until_idle


@workflow("following.waiting")
def waiting(ctx: Context) -> Any:
    """Waits until it is cancelled or sent an answer."""
    return ctx.wait_for("answer", "answered")


@workflow("following.cancelling")
def cancelling(ctx: Context, other: UUID) -> None:
    """Cancels another run in a step."""
    ctx.step("cancel", waiting.cancel, other)


class Heard:
    """A receiver that notes which runs it was told of."""

    def __init__(self) -> None:
        self.runs: list[UUID] = []

    def __call__(self, run_id: UUID, **_kwargs: Any) -> None:
        self.runs.append(run_id)


class Listening:
    """Gives a test `heard`, a receiver of run_cancelled."""

    def setUp(self) -> None:
        """Connect it for the length of the test."""
        self.heard = Heard()
        signals.run_cancelled.connect(self.heard)
        self.addCleanup(signals.run_cancelled.disconnect, self.heard)  # type: ignore[attr-defined]


class InTestCase(Listening, TestCase):
    """In the transaction of a TestCase."""

    def test_a_receiver_is_told_of_a_cancel_in_the_next_turn(self) -> None:
        """`run_until_idle` does what waits for the commit, though no run is due, and only once."""
        run_id = waiting.start()
        run_until_idle()
        waiting.cancel(run_id)
        assert self.heard.runs == []
        run_until_idle()
        assert self.heard.runs == [run_id]
        run_until_idle()
        assert self.heard.runs == [run_id]

    def test_advance_does_the_same(self) -> None:
        """Whatever lets the runs go on does it first."""
        run_id = waiting.start()
        waiting.cancel(run_id)
        advance(1)
        assert self.heard.runs == [run_id]

    def test_what_a_step_cancels_is_told_in_the_same_turn(self) -> None:
        """As in a worker, where the step's own statement commits."""
        run_id = waiting.start()
        cancelling.start(run_id)
        run_until_idle()
        assert self.heard.runs == [run_id]

    def test_what_a_receiver_does_is_followed_too(self) -> None:
        """A receiver that cancels another run: that is told in the same turn."""
        first, second = waiting.start(), waiting.start()

        def cancel_second(run_id: UUID, **_kwargs: Any) -> None:
            if run_id == first:
                waiting.cancel(second)

        signals.run_cancelled.connect(cancel_second)
        self.addCleanup(signals.run_cancelled.disconnect, cancel_second)
        waiting.cancel(first)
        run_until_idle()
        assert self.heard.runs == [first, second]

    def test_the_projects_own_hooks_wait_on(self) -> None:
        """They belong to `captureOnCommitCallbacks`, which finds them; ours are not done again by it."""
        own: list[str] = []
        run_id = waiting.start()
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: own.append("before"))
            waiting.cancel(run_id)
            transaction.on_commit(lambda: own.append("after"))
            run_until_idle()
            assert (own, self.heard.runs) == ([], [run_id])
        assert len(callbacks) == 3
        assert (own, self.heard.runs) == (["before", "after"], [run_id])

    def test_what_was_captured_is_not_done_again(self) -> None:
        """The other way round: what `captureOnCommitCallbacks` did, the turn does not."""
        run_id = waiting.start()
        with self.captureOnCommitCallbacks(execute=True):
            waiting.cancel(run_id)
        assert self.heard.runs == [run_id]
        run_until_idle()
        assert self.heard.runs == [run_id]

    def test_what_was_rolled_back_is_told_to_no_receiver(self) -> None:
        """A cancel in an `atomic()` that was rolled back did not happen."""
        run_id = waiting.start()
        with transaction.atomic():
            waiting.cancel(run_id)
            transaction.set_rollback(True)
        run_until_idle()
        assert self.heard.runs == []
        assert waiting.status(run_id).state == "waiting"

    def test_a_receiver_that_fails_fails_nothing(self) -> None:
        """Its exception is logged; the next receiver, and the turn, go on."""
        fail = _failing(signals.run_cancelled)
        self.addCleanup(signals.run_cancelled.disconnect, fail)
        run_id, other = waiting.start(), waiting.start()
        waiting.cancel(run_id)
        with self.assertLogs("django.dispatch"):
            run_until_idle()
        assert waiting.status(other).state == "waiting"


def _failing(signal: Signal) -> Callable[..., None]:
    def fail(**_kwargs: Any) -> None:
        raise ValueError("no")

    signal.connect(fail)
    return fail


class InTransactionTestCase(Listening, TransactionTestCase):
    """Where the caller's transaction does commit."""

    def test_the_commit_does_it_and_the_turn_does_not_again(self) -> None:
        """Told once, at the commit."""
        run_id = waiting.start()
        with transaction.atomic():
            waiting.cancel(run_id)
            assert self.heard.runs == []
        assert self.heard.runs == [run_id]
        run_until_idle()
        assert self.heard.runs == [run_id]

    def test_a_turn_inside_the_transaction_is_the_first_to_do_it(self) -> None:
        """Then the commit has nothing left to do."""
        run_id = waiting.start()
        with transaction.atomic():
            waiting.cancel(run_id)
            run_until_idle()
            assert self.heard.runs == [run_id]
        assert self.heard.runs == [run_id]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The reasons for which workers were told; telling itself goes on."""
    reasons: list[str] = []
    tell = telling.tell

    def note(alias: str, reason: str = "work", needs: Any = None) -> None:
        reasons.append(reason)
        tell(alias, reason, needs)

    monkeypatch.setattr(telling, "tell", note)
    return reasons


@pytest.mark.django_db
def test_wake_ups_and_telling_are_done_too(told: list[str]) -> None:
    """`start` and `send` in the test's transaction: what follows them happens in the turn."""
    run_id = waiting.start()
    run_until_idle()
    assert told == ["work"]
    waiting.send(run_id, "answered", 7)
    assert told == ["work"]
    run_until_idle()
    assert told == ["work", "work"]
    assert waiting.status(run_id).result == 7
