"""What follows the caller's commit fails for nobody: not for the caller, nor for the caller's own hooks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from canx_flow import Context, send_event, signals, workflow
from canx_flow.models import Event
from canx_flow.replay.activation import Leave
from canx_flow.store import telling
from canx_flow.store.db.engine import reset
from canx_flow.testing import run_until_idle

from .elsewhere import elsewhere
from .processes import WorkerProcess
from .store.locking import locked_runs
from .waiting import wait_until
from .workflows import waits

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@workflow("afterwards.any")
def anything(ctx: Context, what: str = "") -> Any:
    """Ends at once, or gets stuck where `what` says."""
    match what:
        case "wait":
            return ctx.wait_for("answer", "answered")
        case "sleep":
            ctx.sleep("nap", HOUR)
        case "fail":
            raise ValueError("no")
    return what


def stuck(what: str) -> UUID:
    """A run that has got stuck, or has failed."""
    run_id = anything.start(what)
    run_until_idle()
    return run_id


def paused() -> UUID:
    """A paused run."""
    run_id = stuck("sleep")
    anything.pause(run_id)
    return run_id


#: Each verb that is followed by something, on a run that it finds in the right state.
VERBS: dict[str, Callable[[], Callable[[], object]]] = {
    "start": lambda: anything.start,
    "start with a key": lambda: anything.using(key="order-7").start,
    "start with a delay": lambda: anything.using(delay=HOUR).start,
    "start_many": lambda: lambda: anything.start_many([(), ()]),
    "rerun": lambda: bind(anything.rerun, stuck("sleep")),
    "cancel": lambda: bind(anything.cancel, stuck("sleep")),
    "resume": lambda: bind(anything.resume, paused()),
    "wake": lambda: bind(anything.wake, stuck("sleep")),
    "retry": lambda: bind(anything.retry, stuck("fail")),
    "send": lambda: bind(anything.send, stuck("wait"), "answered"),
    "send_event": lambda: lambda: send_event("answered"),
    "bulk cancel": lambda: anything.runs.filter(id=stuck("sleep")).cancel,
    "bulk retry": lambda: anything.runs.filter(id=stuck("fail")).retry,
}


def bind(verb: Callable[..., object], *arguments: object) -> Callable[[], object]:
    """A call that is not made yet."""
    return lambda: verb(*arguments)


class _Broken(logging.Handler):
    """A handler of a project that raises, instead of telling what it met as `logging` asks."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError(f"no place left for {record.name}")


@pytest.fixture
def broken_logging() -> Iterator[None]:
    """Whatever is logged, the project's handler raises."""
    root, handler, level = logging.getLogger(), _Broken(), logging.getLogger("canx_flow").level
    root.addHandler(handler)
    logging.getLogger("canx_flow").setLevel(logging.DEBUG)
    yield
    root.removeHandler(handler)
    logging.getLogger("canx_flow").setLevel(level)


def lose_connection() -> None:
    """The connection is lost right after the commit, and nothing new is known of the workers."""
    telling.forget()
    connection.connection.close()


def followed(verb: Callable[[], object], before: Callable[[], object], *, close: bool = True) -> list[str]:
    """Call `verb` in a transaction, after whose commit `before` comes first; which of the caller's hooks ran."""
    ran = []
    with transaction.atomic():
        transaction.on_commit(before)
        verb()
        transaction.on_commit(lambda: ran.append("the caller's"))
    if close:
        reset(connection)
    return ran


@pytest.mark.parametrize("verb", VERBS)
def test_a_connection_lost_after_the_commit_is_nothing_to_the_caller(
    verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every verb is done, the caller's later hooks run, and nobody is frightened: no line above DEBUG, no traceback."""
    call = VERBS[verb]()
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    assert followed(call, lose_connection) == ["the caller's"]
    told = [record for record in caplog.records if record.name.startswith(("canx_flow", "django.db.backends.base"))]
    assert [(record.levelname, record.exc_info) for record in told] in ([], [("DEBUG", None)], [("DEBUG", None)] * 2)


@pytest.mark.once
@pytest.mark.parametrize("verb", VERBS)
def test_logging_that_breaks_after_the_commit_is_nothing_to_the_caller(verb: str, broken_logging: None) -> None:
    """The connection is lost, and the line about it cannot be written: the caller's later hooks run."""
    logging.disable()
    call = VERBS[verb]()
    logging.disable(logging.NOTSET)
    assert followed(call, lose_connection) == ["the caller's"]


@pytest.mark.once
@pytest.mark.parametrize("error", [ValueError, Leave, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("logged", [True, False], ids=["logged", "logging breaks"])
def test_a_receiver_that_raises_after_the_commit_is_nothing_to_the_caller(
    error: type[BaseException], logged: bool, request: pytest.FixtureRequest
) -> None:
    """Whatever a receiver of `run_cancelled` raises, the run is cancelled and the caller's later hooks run."""
    if not logged:
        request.getfixturevalue("broken_logging")

    def receiver(**_: object) -> None:
        raise error()

    run_id = anything.start()
    signals.run_cancelled.connect(receiver)
    try:
        assert followed(bind(anything.cancel, run_id), lambda: None) == ["the caller's"]
        assert anything.cancel(anything.start()) is True  # Outside a transaction too.
    finally:
        signals.run_cancelled.disconnect(receiver)
    assert anything.status(run_id).state == "cancelled"


# -- a receiver's row that is locked ---------------------------------------------------------------


def test_a_send_waits_for_nobody_s_transaction(tier: str, worker: WorkerProcess) -> None:
    """While another transaction holds the run's row, `send` returns; the run goes on soon after that has ended."""
    if tier == "sqlite":
        pytest.skip("on SQLite a transaction keeps every other writer out, the sender's too")
    worker.start("--poll-interval", "60")
    run_id = waits.start("yes")
    wait_until(lambda: waits.status(run_id).state == "waiting")
    telling.forget()  # It is remembered for two seconds that no worker was there.
    with locked_runs([run_id]):
        sent = elsewhere(lambda: waits.send(run_id, "go", "yes"))
        assert sent.result(5) is True, "the sender waits for the lock"
        assert Event.objects.filter(run_id=run_id, delivered=False).exists()
    assert waits.result(run_id, timeout=10) == "yes"


@pytest.mark.once
def test_a_send_on_sqlite_hardly_waits_for_the_one_lock(tier: str) -> None:
    """Another writer takes SQLite's lock right after the commit: the sender leaves the rest to the workers at once,
    and its connection waits for locks as long as before."""
    run_id = stuck("wait")
    with ExitStack() as locks:
        hooks = bind(locks.enter_context, locked_runs([run_id]))
        with connection.cursor() as cursor:
            before = cursor.execute("PRAGMA busy_timeout").fetchone()
            started = time.monotonic()
            assert followed(bind(anything.send, run_id, "answered", 1), hooks, close=False) == ["the caller's"]
            assert time.monotonic() - started < 5  # It would wait for twenty.
        with connection.cursor() as cursor:
            assert cursor.execute("PRAGMA busy_timeout").fetchone() == before
    run_until_idle()
    assert anything.status(run_id).result == 1
