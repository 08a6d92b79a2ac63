"""Telling branches of runs under way that their waits have ended."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

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


def test_a_look_in_which_the_database_has_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was to be told is not forgotten with the turn."""
    run_id, signal = uuid4(), Signal()
    beside = Beside(Journal(), 1)
    beside.signals.append(signal)
    beside.blocked["s"] = (Wait("s", Kind.WAIT, event="news"), None)  # type: ignore[assignment]
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
