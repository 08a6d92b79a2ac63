"""What `ctx.step`, `ctx.sleep`, `ctx.wait_for` … do: written once, for every driver.

Each operation is a coroutine. It reads and extends its branch, and awaits its driver for what it cannot do itself: to
have something stored, to call a function, to look for an event.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any, NoReturn, Protocol

from ..core import clock, codec
from ..core.changes import Change, FailedAttempt, Record, Wait
from ..core.current import CurrentStep
from ..core.delegated import TaskFailed, is_a
from ..core.durations import later
from ..core.failures import describe
from ..core.limits import Admission, Request, wait_of
from ..exceptions import (
    GiveUp,
    InsideTransaction,
    NotSerializable,
    PayloadTooLarge,
    StepFailed,
    StepInterrupted,
    StoredError,
    WrongContext,
)
from ..retry import LONGEST_DELAY, Retry
from ..states import Kind, RecordState
from .branch import Branch
from .call import Call, Found, Raised
from .limiting import admitted
from .step_options import StepOptions

#: Never retried: faults of the code, which another attempt would only repeat, and `GiveUp`, by which a step says so.
_FINAL = (GiveUp, NotSerializable, PayloadTooLarge, WrongContext, InsideTransaction)
_ERRORS_KEPT = 50  # failed attempts of one step; a step that is retried for ever must not grow for ever


class Options(Protocol):
    """What the failure of an attempt goes by."""

    @property
    def retry(self) -> Retry: ...
    @property
    def kind(self) -> str: ...


class Driver(Protocol):
    """What an operation awaits. Its waits suspend in an event loop, and block in the thread of a `def` workflow."""

    branch: Branch

    def submit(self) -> None:
        """Have what was collected stored; wait for nothing."""

    async def flush(self) -> None:
        """Have what was collected stored, and wait for it."""

    async def barrier(self) -> None:
        """Wait until everything is stored; leave if the worker may not start a step of this run now."""

    def may_start(self) -> bool:
        """Return whether a step may be started, as far as the last commit has told."""

    async def admit(self, request: Request) -> Admission:
        """Ask the bucket of a step's limit."""

    async def stay(self, seconds: float) -> None:
        """Wait for so long, with the step's place in hand; leave if no step of this run may be started any more."""

    async def find_event(self, event: str, key: str | None) -> Found | None:
        """Return the oldest unread event that ends a wait for this name and key."""

    async def one_by_one(self, look: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Do this while no other branch does the like: in the order in which they come to it."""

    async def call(self, call: Call) -> Any:
        """Call a step's function; return what it returns, or `Raised`."""

    async def learn_atomic(self, answer: Any) -> Any:
        """Go on with what became of an atomic step; return what it returns, or `Raised`."""


def replayed(branch: Branch, record: Record) -> Any:
    """Return or raise what a step that is over did, without a call."""
    if record.state == RecordState.COMPLETED:
        return branch.decode(record)
    raise failure(record)


async def recorded(driver: Driver, record: Record) -> Any:
    """Do what `replayed` does, as a coroutine: for calls that are performed only when they are awaited."""
    return replayed(driver.branch, record)


async def step(
    driver: Driver,
    key: str,
    record: Record | None,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: StepOptions,
) -> Any:
    """Call a function once, store what it returns, return that. `record`: what is known of earlier attempts."""
    branch = driver.branch
    if record is not None and record.state == RecordState.OPEN:
        branch.block(wait_of(record))
    if record is not None and record.state == RecordState.STARTED:
        interrupted = StepInterrupted(key, record.attempts, [])
        await attempt_failed(driver, key, record, interrupted, options, record.attempts)
    attempt = 1 + (record.attempts if record is not None else 0)
    await driver.barrier()
    place = None if options.limit is None else await admitted(driver, key, record, options.limit)
    started_at = clock.now()
    try:
        if options.at_most_once:
            record = await _begin_once(driver, key, record, attempt, started_at)
        commit = partial(_draft, branch, key, record, attempt, started_at) if options.atomic else None
        this = CurrentStep(branch.run.id, key, attempt, branch.run.generation)
        call = branch.call = Call(function, arguments, this, options.timeout, commit)
        answer = await driver.call(call)
    except BaseException:
        if place is not None:
            place.give_back_now(driver)
        raise
    finally:
        branch.call = None
    if place is not None:
        place.give_back(branch)
    if commit is not None:
        answer = await driver.learn_atomic(answer)
    elif type(answer) is not Raised:
        answer = _keep(branch, key, record, attempt, started_at, answer)
    if type(answer) is Raised:
        await attempt_failed(driver, key, record, answer.error, options, attempt, started_at)
    driver.submit()
    return answer


async def undoable(
    driver: Driver,
    key: str,
    record: Record | None,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: StepOptions,
) -> Any:
    """Call a step whose result can be undone. That there may be something to undo is stored before the first such call:
    a cancel that does not find it ends the run at once.
    """
    standing = driver.branch.run.standing
    if not standing.has_undo:
        driver.branch.note_undo()
        await driver.flush()
        standing.has_undo = True
    return await step(driver, key, record, function, arguments, options)


def _keep(branch: Branch, key: str, record: Record | None, attempt: int, started_at: datetime, value: Any) -> Any:
    """Record what the step has returned; return it decoded, as a replay will, or `Raised` if it cannot be stored."""
    text: str | None
    try:
        text, decoded = codec.round_trip(value, f"the result of step {key!r}")
    except Exception as error:  # noqa: BLE001 - encoding calls the project's code, and what that raises is the step's
        if record is None or record.kind != Kind.UNDO:
            return Raised(error)
        text = decoded = None  # Nobody reads what an undo returns, and undone it is.
    if record is None:
        branch.record(
            key, Kind.STEP, RecordState.COMPLETED, started_at, attempts=attempt, finished_at=clock.now(), result=text
        )
    else:
        branch.update(
            record, RecordState.COMPLETED,
            attempts=attempt, started_at=started_at, finished_at=clock.now(), result=text,
        )  # fmt: skip
    return decoded


def _draft(
    branch: Branch, key: str, record: Record | None, attempt: int, started_at: datetime, value: Any
) -> tuple[Change, Any]:
    """Return the change that an atomic step is to write last, and what it returns; its transaction may roll back."""
    text, decoded = codec.round_trip(value, f"the result of step {key!r}")
    change = branch.draft(
        record, key, Kind.STEP, RecordState.COMPLETED,
        attempts=attempt, started_at=started_at, finished_at=clock.now(), result=text,
    )  # fmt: skip
    return change, decoded


async def _begin_once(driver: Driver, key: str, record: Record | None, attempt: int, started_at: datetime) -> Record:
    """Record that an at-most-once call begins: a replay that finds this record knows that the call was interrupted."""
    branch = driver.branch
    while True:
        record = branch.write(
            record, key, Kind.STEP, RecordState.STARTED, attempts=attempt, started_at=started_at, result=None
        )
        stored = called = False
        try:
            await driver.flush()
            stored, called = True, driver.may_start()
        finally:
            if not called and (stored or branch.activation.leaving is None):
                # Told to stop, by this very commit or by a branch that has left, or cut off, or decided without: it was
                # not called, so nothing was interrupted.
                branch.update(record, RecordState.CLOSED if branch.lost else RecordState.DUE, attempts=attempt - 1)
        if called:
            return record
        await driver.barrier()


async def attempt_failed(
    driver: Driver,
    key: str,
    record: Record | None,
    error: BaseException,
    options: Options,
    attempts: int,
    started_at: datetime | None = None,
) -> NoReturn:
    """Record a failed attempt; block until the next one is due, or raise StepFailed if there is none."""
    branch, policy = driver.branch, options.retry
    now = clock.now()
    described = StoredError(**error.error) if isinstance(error, TaskFailed) else describe(error, now)
    described["max_attempts"], described["attempt"] = policy.max_attempts, attempts
    if started_at is not None:
        described["began"] = started_at.isoformat()
    errors = [*_errors(record), described][-_ERRORS_KEPT:]
    values: dict[str, Any] = {"attempts": attempts, "errors": codec.dumps_plain(errors), "result": None}
    if record is None:
        values["started_at"] = started_at
    if policy.wants(error, attempts) and not any(is_a(error, cls) for cls in _FINAL):
        if branch.lost:  # Nobody waits for its next attempt.
            branch.write(record, key, options.kind, RecordState.CLOSED, **values)
            raise branch.leaving or AssertionError
        due_at = later(now, min(policy.delay(error, attempts), LONGEST_DELAY))
        branch.write(record, key, options.kind, RecordState.OPEN, **values)
        wait = Wait(key, Kind.RETRY, due_at)
        branch.open(wait)
        branch.note_failed(FailedAttempt(key, attempts, policy.max_attempts, described, due_at))
        branch.block(wait)
    record = branch.write(record, key, options.kind, RecordState.FAILED, finished_at=now, **values)
    branch.note_failed(FailedAttempt(key, attempts, policy.max_attempts, described, None))
    driver.submit()
    raise failure(record) from (error if isinstance(error, Exception) else None)


def _errors(record: Record | None) -> list[StoredError]:
    errors: list[StoredError] = codec.loads_plain(record.errors) if record is not None and record.errors else []
    return errors


def failure(record: Record) -> StepFailed:
    """Return the error that a failed record stands for. Errors of rounds before a `retry` are not part of it."""
    errors = _errors(record)[-record.attempts :]
    interrupted = bool(errors) and errors[-1]["type"] == f"{StepInterrupted.__module__}.{StepInterrupted.__qualname__}"
    return (StepInterrupted if interrupted else StepFailed)(record.name, record.attempts, errors)
