"""What `ctx.step`, `ctx.sleep`, `ctx.wait_for` … do: written once, without I/O, for every driver.

Each operation is a generator. It reads and extends the journal, and yields requests for what it cannot do
itself: store this, call that function, look for an event, block. A driver answers them, or raises.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from ..core import clock, codec
from ..core.callables import is_async, is_generator
from ..core.changes import Change, FailedAttempt, Record, Wait
from ..core.current import CurrentStep
from ..core.durations import later, seconds
from ..core.failures import describe
from ..core.naming import checked
from ..core.options import checked_flag
from ..exceptions import (
    GiveUp,
    InsideTransaction,
    NotSerializable,
    PayloadTooLarge,
    StepFailed,
    StepInterrupted,
    StoredError,
    WaitTimeout,
    WrongContext,
)
from ..retry import LONGEST_DELAY, Retry
from ..states import Kind, RecordState
from .activation import Activation
from .journal import Branch

MISSING: Any = object()


class Submit:
    """Have what was collected stored; go on meanwhile."""


class Synced:
    """Go on once everything collected is stored."""


class Barrier:
    """Go on once everything is stored, and only if this worker may still start a step of this run."""


class MayStart:
    """Whether a step may be started, as far as the last commit has told."""


@dataclass(slots=True)
class Call:
    """Call this function, as this step. The answer is what it returns, or `Raised`.

    What a driver raises here is no attempt's failure: the activation is left, or the call was cut off from outside.
    With `commit`, in one transaction with its record: `commit(value)` is the change to write last, and the answer
    is what that function returned beside it.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    step: CurrentStep
    timeout: float | None = None
    commit: Callable[[Any], tuple[Change, Any]] | None = None


@dataclass(slots=True)
class Raised:
    """What a step's function has raised, whatever it is, or its timeout for it."""

    error: BaseException


@dataclass(slots=True)
class Look:
    """Look for the oldest unread event that ends this wait."""

    event: str
    key: str | None


@dataclass(slots=True)
class Block:
    """This branch cannot go on before this wait has ended."""

    wait: Wait


@dataclass(slots=True)
class Found:
    """The event a look has found; `directed`: sent to this run alone."""

    id: int
    payload: str
    directed: bool


Request = type[Submit] | type[Synced] | type[Barrier] | type[MayStart] | Call | Look | Block
Operation = Generator[Request, Any, Any]

_ONCE = Retry(max_attempts=1)
#: What is wrong with the code: the next attempt would do the same, and have its effects again. Or the step says so.
_FINAL = (GiveUp, NotSerializable, PayloadTooLarge, WrongContext, InsideTransaction)
_ERRORS_KEPT = 50  # failed attempts of one step; a step that is retried for ever must not grow for ever


@dataclass(slots=True)
class StepOptions:
    """How a step is to be called: its own options, checked."""

    retry: Retry
    timeout: float | None = None
    atomic: bool = False
    at_most_once: bool = False

    @classmethod
    def of(
        cls,
        activation: Activation,
        function: Callable[..., Any],
        retry: Retry | None,
        timeout: float | timedelta | None,
        atomic: bool,
        at_most_once: bool,
    ) -> StepOptions:
        if not callable(function):
            raise TypeError(
                f"the step function must be callable, not {type(function).__name__}: pass it, do not call it"
            )
        if retry is not None and not isinstance(retry, Retry):
            raise TypeError(f"retry must be a Retry, not {type(retry).__name__}")
        checked_flag(atomic, "atomic")
        checked_flag(at_most_once, "at_most_once")
        if atomic and at_most_once:
            raise ValueError("at_most_once and atomic exclude each other: an atomic step is exactly-once already")
        if is_generator(function):
            raise TypeError(f"the step function {function!r} is a generator, and would not run: return a list instead")
        if atomic and is_async(function):
            raise TypeError("atomic=True needs a plain function: Django's transactions are synchronous")
        policy = retry or (_ONCE if at_most_once else activation.policy)
        return cls(
            policy, None if timeout is None else seconds(timeout, "timeout", positive=True), atomic, at_most_once
        )


def replayed(activation: Activation, record: Record) -> Any:
    """What a step that is over returns or raises, without a call."""
    if record.state == RecordState.COMPLETED:
        return activation.decode(record)
    raise _failure(record)


def recorded(activation: Activation, record: Record) -> Operation:
    """The same, for a call that is performed only when it is awaited."""
    return replayed(activation, record)
    yield  # What makes it a generator.


def step(
    activation: Activation,
    key: str,
    record: Record | None,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: StepOptions,
) -> Operation:
    """Call a function once, store what it returns, return that. `record`: what is known of earlier attempts."""
    if record is not None and record.state == RecordState.OPEN:
        yield Block(Wait(key, Kind.RETRY))
    if record is not None and record.state == RecordState.STARTED:
        interrupted = StepInterrupted(key, record.attempts, [])
        yield from _attempt_failed(activation, key, record, interrupted, options.retry, record.attempts)
    attempt = 1 + (record.attempts if record is not None else 0)
    yield Barrier
    started_at = clock.now()
    if options.at_most_once:
        record = yield from _begin_once(activation, key, record, attempt, started_at)

    commit = partial(_draft, activation, key, record, attempt, started_at) if options.atomic else None
    activation.step, activation.attempt, activation.timeout = key, attempt, options.timeout
    try:
        this = CurrentStep(activation.run.id, key, attempt, activation.run.generation)
        answer = yield Call(function, arguments, this, options.timeout, commit)
    finally:
        activation.step = None
    if commit is None and type(answer) is not Raised:
        answer = _keep(activation, key, record, attempt, started_at, answer)
    if type(answer) is Raised:
        yield from _attempt_failed(activation, key, record, answer.error, options.retry, attempt, started_at)
    yield Submit
    return answer


def _keep(
    activation: Activation, key: str, record: Record | None, attempt: int, started_at: datetime, value: Any
) -> Any:
    """Record what the step has returned; what every replay will return, or `Raised` if it cannot be stored."""
    try:
        text, decoded = codec.round_trip(value, f"the result of step {key!r}")
    except Exception as error:  # noqa: BLE001 - encoding calls the project's code, and what that raises is the step's
        return Raised(error)
    if record is None:
        activation.record(
            key, Kind.STEP, RecordState.COMPLETED, started_at, attempts=attempt, finished_at=clock.now(), result=text
        )
    else:
        activation.update(
            record, RecordState.COMPLETED,
            attempts=attempt, started_at=started_at, finished_at=clock.now(), result=text,
        )  # fmt: skip
    return decoded


def _draft(
    activation: Activation, key: str, record: Record | None, attempt: int, started_at: datetime, value: Any
) -> tuple[Change, Any]:
    """The same for an atomic step, whose transaction may still roll back: the change that is to be written last."""
    text, decoded = codec.round_trip(value, f"the result of step {key!r}")
    change = activation.draft(
        record, key, Kind.STEP, RecordState.COMPLETED,
        attempts=attempt, started_at=started_at, finished_at=clock.now(), result=text,
    )  # fmt: skip
    return change, decoded


def _begin_once(
    activation: Activation, key: str, record: Record | None, attempt: int, started_at: datetime
) -> Generator[Request, Any, Record]:
    """Record that an at-most-once call begins: found so on replay, it was interrupted."""
    while True:
        record = _write(activation, record, key, RecordState.STARTED, attempts=attempt, started_at=started_at)
        called = False
        try:
            yield Synced
            called = yield MayStart
        finally:
            if not called and activation.leaving is None:
                # Told to stop by this very commit, or cut off: it was not called, so nothing was interrupted.
                activation.update(record, RecordState.DUE, attempts=attempt - 1)
        if called:
            return record
        yield Barrier


def _attempt_failed(
    activation: Activation,
    key: str,
    record: Record | None,
    error: BaseException,
    policy: Retry,
    attempts: int,
    started_at: datetime | None = None,
) -> Operation:
    """Record a failed attempt; block until the next one is due, or raise StepFailed if there is none."""
    now = clock.now()
    described = describe(error, now)
    described["max_attempts"] = policy.max_attempts
    errors = [*_errors(record), described][-_ERRORS_KEPT:]
    values: dict[str, Any] = {"attempts": attempts, "errors": codec.dumps_plain(errors)}
    if record is None:
        values["started_at"] = started_at
    if policy.wants(error, attempts) and not isinstance(error, _FINAL):
        due_at = later(now, min(policy.delay(error, attempts), LONGEST_DELAY))
        _write(activation, record, key, RecordState.OPEN, **values)
        wait = Wait(key, Kind.RETRY, due_at)
        activation.open(wait)
        activation.has_failed(FailedAttempt(key, attempts, policy.max_attempts, described, due_at))
        yield Block(wait)
    record = _write(activation, record, key, RecordState.FAILED, finished_at=now, **values)
    activation.has_failed(FailedAttempt(key, attempts, policy.max_attempts, described, None))
    yield Submit
    raise _failure(record) from (error if isinstance(error, Exception) else None)


def after(duration: float | timedelta) -> datetime:
    """The moment `duration` from now."""
    return later(clock.now(), seconds(duration, "duration"), "a duration")


def sleep(activation: Activation, branch: Branch, key: str, due_at: datetime) -> Operation:
    """Block until a moment. One that has passed does not suspend, but is recorded all the same."""
    record = activation.find(branch, key, Kind.SLEEP)
    if record is not None and record.state != RecordState.OPEN:
        return
    wait = Wait(key, Kind.SLEEP, due_at)
    if record is None:
        now = clock.now()
        if due_at <= now:
            activation.record(key, Kind.SLEEP, RecordState.COMPLETED, started_at=now, finished_at=now)
            return
        activation.record(key, Kind.SLEEP, RecordState.OPEN, started_at=now)
        activation.open(wait)
    yield Block(wait)


def wait_for(
    activation: Activation,
    branch: Branch,
    key: str,
    event: str,
    event_key: str | None,
    timeout: float | timedelta | None,
    default: Any,
) -> Operation:
    """Block until an event arrives or the timeout passes; an unread event wins over a timeout not yet recorded."""
    record = activation.find(branch, key, Kind.WAIT)
    if record is not None and record.state == RecordState.COMPLETED:
        return activation.decode(record)
    if record is None or record.state != RecordState.FAILED:
        now = clock.now()
        due_at = None if timeout is None else later(now, seconds(timeout, "timeout"), "a timeout")
        wait = Wait(key, Kind.WAIT, due_at, event, event_key)
        # Stored first: an event that an earlier wait has read must be marked so before this one looks.
        yield Synced
        found: Found | None = yield Look(event, event_key)
        if found is not None:
            record = _read(activation, record, wait, found)
            yield Submit
            return activation.decode(record)
        # Its time was over, but today's code gives it none.
        unlimited = record is not None and record.state == RecordState.DUE and due_at is None
        if unlimited or (record is None and (due_at is None or due_at > now)):
            _write(activation, record, key, RecordState.OPEN, kind=Kind.WAIT, started_at=now)
            activation.open(wait)
            yield Block(wait)
        if record is not None and record.state == RecordState.OPEN:
            yield Block(wait)
        record = _write(activation, record, key, RecordState.FAILED, kind=Kind.WAIT, finished_at=now)
        yield Submit
    if default is not MISSING:
        return default
    raise WaitTimeout(f"no event {event!r} came for {key!r} of run {activation.run.id} in time")


def _read(activation: Activation, record: Record | None, wait: Wait, found: Found) -> Record:
    if found.directed:
        activation.consume(found.id, wait.step)
    if record is not None and record.state == RecordState.OPEN:
        activation.close(wait)
    return _write(
        activation, record, wait.step, RecordState.COMPLETED,
        kind=Kind.WAIT, result=found.payload, event_id=found.id, finished_at=clock.now(),
    )  # fmt: skip


def now(activation: Activation, branch: Branch) -> datetime:
    """The moment of the first time this was asked, recorded with the next record."""
    key = branch.engine_key("now")
    record = activation.find(branch, key, Kind.NOW)
    if record is not None:
        value: datetime = activation.decode(record)
        return value
    moment = clock.now()
    text, value = codec.round_trip(moment, "the time")
    activation.record(key, Kind.NOW, RecordState.COMPLETED, started_at=moment, finished_at=moment, result=text)
    return value


def event_name(event: str, key: str | None) -> tuple[str, str | None]:
    """Both checked: an event's name, and the key that narrows it."""
    return checked(event, "event name"), None if key is None else checked(key, "event key")


def _write(activation: Activation, record: Record | None, key: str, state: str, **values: Any) -> Record:
    kind = values.pop("kind", Kind.STEP)
    if record is None:
        return activation.record(key, kind, state, **values)
    return activation.update(record, state, **values)


def _errors(record: Record | None) -> list[StoredError]:
    errors: list[StoredError] = codec.loads_plain(record.errors) if record is not None and record.errors else []
    return errors


def _failure(record: Record) -> StepFailed:
    """The error that a failed record stands for. A retried run keeps older errors on record: not this one's."""
    errors = _errors(record)[-record.attempts :]
    interrupted = bool(errors) and errors[-1]["type"] == f"{StepInterrupted.__module__}.{StepInterrupted.__qualname__}"
    return (StepInterrupted if interrupted else StepFailed)(record.name, record.attempts, errors)
