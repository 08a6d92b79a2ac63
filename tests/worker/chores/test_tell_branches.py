"""Telling branches of runs under way that their waits have ended."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, transaction

from canx_flow.core.changes import Wait
from canx_flow.core.journal import Journal
from canx_flow.models import Event
from canx_flow.replay.beside import Beside
from canx_flow.states import Kind
from canx_flow.store import wait_ends
from canx_flow.worker.chores.tell_branches import TellBranches

pytestmark = pytest.mark.django_db


class Signal:
    """Of a branch that waits for others: notes that it is to look."""

    is_set = False

    def set(self) -> None:
        self.is_set = True

    async def wait(self) -> None:
        """Is not waited for here."""


def _waiting() -> tuple[UUID, Signal, Beside]:
    """A run with a branch that waits for news beside others."""
    signal, beside = Signal(), Beside(Journal(), 1)
    beside.signals.append(signal)
    beside.blocked["s"] = (Wait("s", Kind.WAIT, event="news"), None)  # type: ignore[assignment]
    return uuid4(), signal, beside


def test_a_look_in_which_the_database_has_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to be told is not forgotten with the turn."""
    run_id, signal, beside = _waiting()
    Event.objects.create(run_id=run_id, name="news")
    chore = TellBranches("default", {run_id: beside})
    chore.expect()

    def fail(*_: Any) -> Any:
        raise OperationalError("database is locked")

    with monkeypatch.context() as broken, transaction.atomic():
        broken.setattr(wait_ends, "ended", fail)
        with pytest.raises(OperationalError):
            chore.run_once(0.0)
    assert not signal.is_set
    chore.run_once(0.0)
    assert signal.is_set


def test_what_is_stored_during_a_look_is_looked_for_in_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The committer's thread stores a child's end once the database has answered, and the next turn tells of it."""
    run_id, signal, beside = _waiting()
    chore = TellBranches("default", {run_id: beside})
    chore.expect()
    look = wait_ends.ended

    def store_afterwards(*arguments: Any) -> Any:
        answer = look(*arguments)
        Event.objects.create(run_id=run_id, name="news")
        assert chore.expect_own()
        return answer

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(wait_ends, "ended", store_afterwards)
        chore.run_once(0.0)
    assert not signal.is_set
    chore.run_once(0.0)
    assert signal.is_set
