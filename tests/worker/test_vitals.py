"""The threads that a worker cannot live without: dead ones are started anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from canx_flow.core.changes import Change
from canx_flow.store import leases
from canx_flow.worker.committer import Committer
from canx_flow.worker.heartbeat import Heartbeat
from canx_flow.worker.vitals import Vitals
from canx_flow.worker.wakeup import Listener

from ..waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # What a thread dies of is what is tried here.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


class _Body:
    def __init__(self) -> None:
        owner = leases.register(host="here", pid=1).id
        self.committer = Committer("default", owner)
        self.heartbeat = Heartbeat(owner)
        self.listener = Listener("vitals", alias="default")
        self.vitals = Vitals(self.committer, self.heartbeat, self.listener)


@pytest.fixture
def body() -> Iterator[_Body]:
    """A worker's vital threads, which live."""
    body = _Body()
    body.committer.start()
    body.heartbeat.start()
    wait_until(body.vitals.connected)
    yield body
    body.committer.stop()
    body.heartbeat.stop()
    body.listener.close()


def _dies_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    real = getattr(owner, name)

    def dying(*arguments: Any, **keywords: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        raise SystemExit

    monkeypatch.setattr(owner, name, dying)


def _is_dead(thread: Any) -> bool:
    return not thread._thread.is_alive()


def test_all_is_well_mostly(body: _Body) -> None:
    """Nothing is started that lives, and what was stopped stays so."""
    assert body.vitals.revive() == ""
    assert not body.vitals._deaths
    body.heartbeat.stop()
    body.committer.stop()
    assert body.vitals.revive() == ""
    assert not body.vitals._deaths


def test_a_dead_heart_is_started_anew(body: _Body, monkeypatch: pytest.MonkeyPatch) -> None:
    """And renews the lease again."""
    _dies_once(monkeypatch, leases, "beat")
    wait_until(lambda: _is_dead(body.heartbeat))
    before = body.heartbeat.lease.last_beat
    assert body.vitals.revive() == ""
    assert wait_until(lambda: body.heartbeat.lease.last_beat > before)


def test_a_dead_committer_is_started_anew(body: _Body, monkeypatch: pytest.MonkeyPatch) -> None:
    """And answers what was handed in meanwhile."""
    _dies_once(monkeypatch, body.committer._gathering, "release")
    told: list[bool] = []
    body.committer.store(Change(leases.register(host="here", pid=2).id, 1)).then(lambda o: told.append(o.stored))
    wait_until(lambda: _is_dead(body.committer))
    assert body.vitals.revive() == ""
    assert wait_until(lambda: told) == [False]


def test_what_dies_again_and_again_is_told(body: _Body, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason that stays may go with the process: the loop ends the worker by this name."""
    for _ in range(4):
        assert body.vitals.revive() == ""
        _dies_once(monkeypatch, leases, "beat")
        body.heartbeat._hurry.set()
        wait_until(lambda: _is_dead(body.heartbeat))
    assert body.vitals.revive() == "heartbeat"
