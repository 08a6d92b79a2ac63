"""Where the loop sleeps, and everybody who may wake it."""

from __future__ import annotations

import os
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections
from freezegun import freeze_time

from canx_flow.models import Worker
from canx_flow.store import telling
from canx_flow.store.telling import Message
from canx_flow.worker import wakeup
from canx_flow.worker.wakeup import Listener

from ..waiting import wait_until

LONG = 20.0


@pytest.fixture(autouse=True)
def _nobody_known() -> Iterator[None]:
    telling.forget()
    yield
    telling.forget()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A listener with a socket, on no database."""
    listener = Listener(uuid4().hex)
    yield listener
    listener.close()


@pytest.fixture
def deaf(transactional_db: None, tier: str) -> Iterator[Listener]:
    """A listener on PostgreSQL's channel whose socket nobody knows."""
    if tier != "postgresql":
        pytest.skip("only PostgreSQL notifies")
    listener = Listener(uuid4().hex, alias="default")
    assert listener.wait(LONG) == {"listening"}
    yield listener
    listener.close()


def _worker(listener: Listener | None = None, *, host: str, address: str = "") -> Worker:
    return Worker.objects.create(host=host, socket=address or (listener.address if listener else ""))


@pytest.mark.once
def test_it_sleeps_until_its_time_has_come(listener: Listener) -> None:
    """Nobody woke it: it wakes by itself, with no reason."""
    assert listener.wait(0.01) == set()


@pytest.mark.once
def test_its_time_comes_under_a_frozen_clock(listener: Listener) -> None:
    """freezegun stops the clock that others measure their waiting with."""
    with freeze_time("2026-11-23"):
        assert listener.wait(0.01) == set()


@pytest.mark.once
def test_a_thread_wakes_it(listener: Listener) -> None:
    """Waiting ends at once, with every reason given."""
    thread = threading.Thread(target=lambda: (listener.wake("settled"), listener.wake("settled")))
    thread.start()
    assert listener.wait(LONG) == {"settled"}
    thread.join()


@pytest.mark.once
def test_waking_before_the_wait_is_not_lost(listener: Listener) -> None:
    """Whoever wakes it a moment too early has woken it all the same."""
    listener.wake("stop")
    listener.wake("work")
    assert listener.wait(LONG) == {"stop", "work"}
    assert listener.wait(0.01) == set()


@pytest.mark.once
def test_a_signal_handler_wakes_it(listener: Listener) -> None:
    """A signal that arrives while it sleeps ends its sleep."""
    before = signal.signal(signal.SIGUSR1, lambda *_: listener.wake("signal"))
    thread = threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        thread.start()
        assert listener.wait(LONG) == {"signal"}
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.once
def test_waking_never_blocks(listener: Listener) -> None:
    """However often it is woken while it does something else, the next wait ends once and is then quiet."""
    for number in range(100_000):
        listener.wake(str(number % 10))
    assert len(listener.wait(LONG)) == 10
    assert listener.wait(0.01) == set()


@pytest.mark.once
def test_it_is_woken_once_for_many_reasons(listener: Listener) -> None:
    """Each time costs the thread that wakes it the GIL, and the committer may be that thread."""
    for reason in ("one", "two"):
        listener.wake(reason)
    assert len(listener._woken.recv(10)) == 1
    listener._is_woken = False
    listener.wake("three")
    assert listener.wait() == {"one", "two", "three"}
    listener.wake("four")
    assert listener.wait() == {"four"}


def test_its_socket_is_private(listener: Listener) -> None:
    """Only its own user may reach it; the path is short enough for every system."""
    folder = Path(listener.path).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(listener.path.encode()) < 100


@pytest.mark.once
def test_closing_removes_its_socket() -> None:
    """Nothing is left behind, and waking it afterwards hurts nobody."""
    listener = Listener(uuid4().hex)
    path = Path(listener.path)
    assert path.is_socket()
    listener.close()
    assert not path.exists()
    listener.wake("late")
    listener.close()
    assert listener.wait(LONG) == set()


@pytest.mark.once
def test_sockets_of_killed_workers_are_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that starts removes what a killed one left, and nothing of the living."""
    with tempfile.TemporaryDirectory() as base:
        monkeypatch.setattr(tempfile, "tempdir", base)
        living, left = Listener("living"), wakeup._open_socket("left")
        assert left is not None
        killed = Path(left.getsockname())
        left.close()
        for path in (killed, Path(living.path)):
            os.utime(path, (0, 0))
        another = Listener("another")
        assert not killed.exists()
        assert Path(living.path).exists()
        another.close()
        living.close()


@pytest.mark.once
def test_a_folder_of_somebody_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the usual folder is open to others, it takes one of its own."""
    with tempfile.TemporaryDirectory() as base:
        monkeypatch.setattr(tempfile, "tempdir", base)
        usual = Path(base) / f"canx_flow-{os.getuid()}"
        usual.mkdir(mode=0o777)
        usual.chmod(0o777)
        listener = Listener("w")
        assert Path(listener.path).parent != usual
        assert stat.S_IMODE(Path(listener.path).parent.stat().st_mode) == 0o700
        listener.close()


@pytest.mark.once
def test_a_long_temporary_folder_costs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A TMPDIR too long for a socket is passed over."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    listener = Listener(uuid4().hex)
    assert listener.path
    assert not listener.path.startswith(str(long))
    listener.close()


@pytest.mark.once
def test_without_a_socket_it_still_sleeps_and_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without such sockets nobody else can wake it; its own threads can."""
    monkeypatch.setattr(wakeup, "_open_socket", lambda _name: None)
    listener = Listener("w")
    assert (listener.path, listener.address) == ("", "w")
    listener.wake("work")
    assert listener.wait(LONG) == {"work"}
    listener.close()


def test_a_notification_wakes_it(deaf: Listener) -> None:
    """PostgreSQL tells workers of other hosts, when the caller has committed."""
    _worker(deaf, host="elsewhere")
    telling.tell("default", "start")
    assert deaf.wait(LONG) == {Message("start").text()}


def test_a_notification_to_others_wakes_it_not(deaf: Listener) -> None:
    """It does nothing and asks the database nothing: what comes next is all that it hears of."""
    _worker(host="elsewhere", address="somebody else")
    telling.tell("default", "start")
    telling.forget()
    _worker(deaf, host="elsewhere")
    telling.tell("default", "another")
    assert deaf.wait(LONG) == {Message("another").text()}


def test_it_listens_again_after_a_lost_connection(deaf: Listener) -> None:
    """C100: when the server is back it listens anew, and looks at once for what it did not hear."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert deaf.wait(LONG) == {"listening"}
    _worker(deaf, host="elsewhere")
    telling.tell("default", "start")
    assert deaf.wait(LONG) == {Message("start").text()}


@pytest.mark.django_db(transaction=True)
def test_closing_ends_its_listening(tier: str) -> None:
    """No thread and no session outlives it, on whichever database."""
    listener = Listener(uuid4().hex, alias="default")
    if tier == "postgresql":
        assert listener.wait(LONG) == {"listening"}
    listener.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "canx_flow listen"]


def test_where_nothing_can_be_listened_to_it_gives_up(transactional_db: None, tier: str, monkeypatch: Any) -> None:
    """A driver that cannot wait for notifications costs a debug line; polling goes on."""
    if tier != "postgresql":
        pytest.skip("only PostgreSQL notifies")
    monkeypatch.setattr(wakeup, "channel", lambda _: 'no" channel; at all')
    listener = Listener(uuid4().hex, alias="default")
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "canx_flow listen"])
    assert listener.wait(0.01) == set()
    listener.close()
