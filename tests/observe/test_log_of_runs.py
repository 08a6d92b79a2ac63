"""The lines on `canx_flow.run`: one for each failed attempt, and errors that carry their exception."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from canx_flow import AsyncContext, Context, GiveUp, Retry, StepFailed, get_run, workflow
from canx_flow.exceptions import NotSerializable
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.states import RecordState
from canx_flow.testing import advance, run_until_idle

from ..processes import Workers
from ..workflows import failing, failing_async
from .keeping import kept_lines

pytestmark = pytest.mark.django_db

SECRET = "card 4242"
HOUR = timedelta(hours=1)


class AwayError(Exception):
    """What the steps here fail with."""


def away(message: str = "no answer") -> None:
    """Fails."""
    raise AwayError(message)


async def away_async() -> None:
    """Fails in the event loop."""
    raise AwayError("no answer")


def _give_up() -> None:
    raise GiveUp("no money")


_ONE = Retry(max_attempts=1)
_STEPS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "away": (away, (), {}),
    "for ever": (away, (), {"retry": Retry(max_attempts=None, initial=10, jitter=0)}),
    "lines": (away, ("one\ntwo \x1b[31m" + "x" * 5000,), {}),
    "give up": (_give_up, (), {}),
    "not stored": (object, (), {}),
    "once": (away, (), {"at_most_once": True}),
    "caught": (away, (), {"retry": _ONE}),
    "later": (away, (), {"retry": _ONE}),
}


@workflow("lines.plain", retry=Retry(max_attempts=3, initial=10, jitter=0))
def plain(ctx: Context, what: str, _paid_with: str = SECRET) -> None:
    """A step that works, and then what is asked for."""
    ctx.step("works", str, 7)
    if what == "body":
        raise AwayError("100% %s")
    if what == "deadline":
        ctx.sleep("nap", 10 * HOUR)
    function, arguments, options = _STEPS[what]
    try:
        ctx.step("charge", function, *arguments, **options)
    except StepFailed:
        if what == "caught":
            return
        if what == "later":
            ctx.sleep("nap", HOUR)
        raise


@workflow("lines.async", retry=Retry(max_attempts=2, initial=10, jitter=0))
async def asynchronous(ctx: AsyncContext) -> None:
    """A step that fails in the event loop."""
    await ctx.step("charge", away_async)


@pytest.fixture
def lines() -> Iterator[list[logging.LogRecord]]:
    """What is logged on `canx_flow.run`."""
    with kept_lines("canx_flow.run", logging.INFO) as kept:
        yield kept


def said(lines: list[logging.LogRecord], level: int) -> list[str]:
    """The messages of this level."""
    return [line.getMessage() for line in lines if line.levelno == level and line.name == "canx_flow.run"]


def error_of(lines: list[logging.LogRecord]) -> logging.LogRecord:
    """The one error."""
    (line,) = [line for line in lines if line.levelno == logging.ERROR]
    return line


def failed(what: str) -> UUID:
    """A run that has failed."""
    run_id = plain.start(what)
    run_until_idle()
    advance(HOUR)
    assert get_run(run_id).state == "failed"
    return run_id


# -- attempts ------------------------------------------------------------------------------------------------


def test_each_failed_attempt_is_one_warning(lines: list[logging.LogRecord]) -> None:
    """Which run, step and attempt of how many it was, why it failed, and when it is tried again; no payloads."""
    run_id = plain.start("away")
    run_until_idle()
    (first,) = said(lines, logging.WARNING)
    begin = f"Run {run_id} of lines.plain: step 'charge' failed, attempt"
    error = "tests.observe.test_log_of_runs.AwayError: no answer"
    assert first.startswith(f"{begin} 1 of 3: {error}; next try in ")
    seconds = float(first.partition("next try in ")[2].partition(" s, at ")[0])
    assert 8 < seconds <= 10
    run_until_idle()
    assert len(said(lines, logging.WARNING)) == 1, "it is told once"
    advance(HOUR)
    told = said(lines, logging.WARNING)
    assert len(told) == 3
    assert told[1].startswith(f"{begin} 2 of 3: {error}; next try in ")
    assert told[2] == f"{begin} 3 of 3: {error}; gives up"
    assert not any(SECRET in line.getMessage() for line in lines)
    (line, *_) = lines
    found = {name: line.__dict__[name] for name in ("run_id", "workflow", "queue", "step", "attempt")}
    assert found == {
        "run_id": str(run_id), "workflow": "lines.plain", "queue": "default", "step": "charge", "attempt": 1,
    }  # fmt: skip


def test_sixteen_attempts_are_sixteen_lines(lines: list[logging.LogRecord]) -> None:
    """And no replay of the run adds one."""
    run_id = plain.start("for ever")
    run_until_idle()
    for _ in range(15):
        advance(timedelta(seconds=300))
    told = said(lines, logging.WARNING)
    assert StepRecord.objects.get(run_id=run_id, name="charge").attempts == len(told) >= 16
    assert f"attempt {len(told)} of ∞: " in told[-1]


def test_a_long_error_is_one_short_line(lines: list[logging.LogRecord]) -> None:
    """Line breaks and what a terminal obeys are gone."""
    plain.start("lines")
    run_until_idle()
    (told,) = said(lines, logging.WARNING)
    assert "one two \\x1b[31mxxx" in told
    assert "\n" not in told
    assert len(told) < 600


@pytest.mark.parametrize(
    ("what", "number"), [("give up", "1 of 3"), ("not stored", "1 of 3"), ("once", "1 of 1"), ("caught", "1 of 1")]
)
def test_the_last_attempt_gives_up(lines: list[logging.LogRecord], what: str, number: str) -> None:
    """Whatever made it the last, and whether or not the run fails with it."""
    plain.start(what)
    run_until_idle()
    (told,) = said(lines, logging.WARNING)
    assert f"attempt {number}: " in told
    assert told.endswith("; gives up")


def test_an_interrupted_step_is_told(lines: list[logging.LogRecord]) -> None:
    """An `at_most_once` step that a crash has cut off has failed."""
    run_id = plain.start("once")
    WorkflowRun.objects.update(epoch=1)
    StepRecord.objects.create(run_id=run_id, seq=1, name="works", kind="step", state="completed", attempts=1,
        result='"7"', started_at=WorkflowRun.objects.get().created_at)  # fmt: skip
    StepRecord.objects.create(run_id=run_id, seq=2, name="charge", kind="step", state=RecordState.STARTED, attempts=1,
        started_at=WorkflowRun.objects.get().created_at)  # fmt: skip
    run_until_idle()
    (told,) = said(lines, logging.WARNING)
    assert "StepInterrupted: step 'charge' was interrupted in attempt 1: its effect is not known; gives up" in told


def test_an_async_step_is_told_as_well(lines: list[logging.LogRecord]) -> None:
    """Each attempt, and the run's end."""
    asynchronous.start()
    run_until_idle()
    advance(HOUR)
    assert [told.rpartition("; ")[2][:8] for told in said(lines, logging.WARNING)] == ["next try", "gives up"]
    assert error_of(lines).__dict__["step"] == "charge"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("known", [failing, failing_async], ids=["plain", "async"])
def test_the_workers_terminal_tells_of_it(workers: Workers, known: Any) -> None:
    """A real worker, too, whose slots do not wait for the end of a run that nothing is to be told of."""
    worker = workers.start()
    run_id = known.start()
    assert known.result(run_id, timeout=20) == "went on"
    said = f"Run {run_id} of {known.name}: step 'fail' failed, attempt "
    worker.wait_log(f"{said}2 of 2: ValueError: as it must; gives up")
    assert (worker.log().count(said), worker.log().count(f"{said}1 of 2: ")) == (2, 1)


# -- errors ----------------------------------------------------------------------------------------------------


def test_a_failed_run_carries_its_steps_own_exception(lines: list[logging.LogRecord]) -> None:
    """With the traceback into the step's function, not that of the StepFailed around it."""
    run_id = failed("away")
    line = error_of(lines)
    assert line.exc_info is not None
    kind, error, traceback = line.exc_info
    assert (kind, str(error)) == (AwayError, "no answer")
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code is away.__code__
    extra = {name: line.__dict__[name] for name in ("run_id", "workflow", "step", "queue")}
    assert extra == {"run_id": str(run_id), "workflow": "lines.plain", "step": "charge", "queue": "default"}


def test_lines_of_one_fault_have_one_text(lines: list[logging.LogRecord]) -> None:
    """The workflow and the error's type are in the text, the run and what it said are arguments."""
    failed("away"), failed("away")
    first, second = (line for line in lines if line.levelno == logging.ERROR)
    assert first.msg == second.msg
    assert first.args != second.args
    assert "lines.plain" in first.msg
    assert "AwayError" in first.msg
    failed("give up")
    assert lines[-1].msg != first.msg


def test_a_body_that_raises_is_told_with_its_own_exception(lines: list[logging.LogRecord]) -> None:
    """What it says may look like a format."""
    run_id = failed("body")
    line = error_of(lines)
    assert line.exc_info is not None
    assert line.exc_info[0] is AwayError
    assert line.exc_info[2] is not None
    assert line.getMessage() == f"Run {run_id} of lines.plain failed: tests.observe.test_log_of_runs.AwayError: 100% %s"
    assert line.__dict__["step"] is None


def test_of_a_step_that_failed_before_the_stored_traceback_is_told(lines: list[logging.LogRecord]) -> None:
    """The exception itself is long gone, and none is invented for it."""
    failed("later")
    line = error_of(lines)
    assert line.exc_info is not None
    assert line.exc_info[0] is StepFailed
    assert "raise AwayError(message)" in line.__dict__["traceback"]


def test_a_parked_run_says_where_its_code_stood(lines: list[logging.LogRecord]) -> None:
    """Parked again for the same reason, it is no error."""
    run_id = plain.start("deadline")
    run_until_idle()
    StepRecord.objects.filter(name="works").update(kind="sleep")
    plain.wake(run_id)
    run_until_idle()
    line = error_of(lines)
    assert line.exc_info is not None
    kind, _error, traceback = line.exc_info
    names = []
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert kind.__name__ == "HistoryMismatch"  # type: ignore[union-attr]
    assert "plain" in names
    run_until_idle()
    run_until_idle()
    assert [line.levelno for line in lines] == [logging.ERROR, logging.INFO, logging.INFO]


def test_a_deadline_is_told_as_an_exception(lines: list[logging.LogRecord]) -> None:
    """By whom the run was had, or by nobody: there is no traceback to be shown."""
    run_id = plain.using(timeout=60).start("deadline")
    run_until_idle()
    advance(HOUR)
    line = error_of(lines)
    assert line.exc_info is not None
    assert (line.exc_info[0].__name__, line.exc_info[2]) == ("RunTimedOut", None)  # type: ignore[union-attr]
    assert line.__dict__["run_id"] == str(run_id)


def test_an_unknown_workflow_is_one_error_however_many_workers_start(lines: list[logging.LogRecord]) -> None:
    """They find it parked, and leave it so."""
    run_id = plain.start("away")
    WorkflowRun.objects.filter(id=run_id).update(workflow="gone")
    for _ in range(3):
        run_until_idle()
    line = error_of(lines)
    assert line.exc_info is not None
    assert line.exc_info[0].__name__ == "UnknownWorkflow"  # type: ignore[union-attr]
    assert len(lines) == 1


def test_what_cannot_be_stored_is_told(lines: list[logging.LogRecord]) -> None:
    """The exception is the one that says where in the value it is."""
    failed("not stored")
    line = error_of(lines)
    assert line.exc_info is not None
    assert line.exc_info[0] is NotSerializable
