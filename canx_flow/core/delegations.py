"""Delegated steps: what their records say while an executor has them, and when an attempt counts as lost.

While an attempt is out, the record holds its token where the result will be; between two attempts it holds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ..retry import Retry
from ..states import DelegationState, Kind, RecordState
from . import codec, limits
from .changes import Record, Wait
from .current import derived_uuid
from .delegated import Standing
from .durations import seconds
from .executors import DispatchOptions
from .naming import outcome_of
from .options import checked_flag

#: Until a task has begun, where the step says nothing of it.
START_TIMEOUT = timedelta(minutes=5)
#: Seconds of silence after which a task that has begun counts as lost, where the step says nothing of it.
HEARTBEAT = 60.0
#: Seconds between two dispatches while what the executor speaks to is away.
_UNTIL_NEXT = 10.0
_ONCE = Retry(max_attempts=1)
_WAITS = (RecordState.OPEN, RecordState.DUE)


@dataclass(frozen=True, slots=True)
class DelegateOptions:
    """The options of a delegated step, checked; durations in seconds."""

    retry: Retry
    start_timeout: float
    timeout: float | None
    heartbeat: float
    at_most_once: bool
    kind: str = Kind.DELEGATE

    @classmethod
    def of(
        cls,
        policy: Retry,
        start_timeout: float | timedelta,
        timeout: float | timedelta | None,
        heartbeat: float | timedelta | None,
        retry: Retry | None,
        at_most_once: bool,
    ) -> DelegateOptions:
        """Check them: TypeError or ValueError, naming the option."""
        if retry is not None and not isinstance(retry, Retry):
            raise TypeError(f"retry must be a Retry, not {type(retry).__name__}")
        checked_flag(at_most_once, "at_most_once")
        return cls(
            retry or (_ONCE if at_most_once else policy),
            seconds(start_timeout, "start_timeout", positive=True),
            None if timeout is None else seconds(timeout, "timeout", positive=True),
            HEARTBEAT if heartbeat is None else seconds(heartbeat, "heartbeat", positive=True),
            at_most_once,
        )

    @property
    def of_dispatch(self) -> DispatchOptions:
        """What the executor is told of them."""
        return DispatchOptions(self.start_timeout, self.timeout, self.heartbeat)

    def lost(self, standing: Standing | None, now: datetime) -> str | None:
        """Return why an attempt is given up now; `None` if it is waited for."""
        if standing is None:
            return "nothing is known of it any more"
        if standing.state not in DelegationState.WANTED:
            return standing.reason or "it was given up"
        if standing.started_at is None:
            late = _past(standing.created_at, self.start_timeout, now)
            met = f"; its dispatch met: {standing.reason}" if standing.reason else ""
            return f"not started within {self.start_timeout:g} s{met}" if late else None
        if self.timeout is not None and _past(standing.started_at, self.timeout, now):
            return f"not done within {self.timeout:g} s on {standing.worker}"
        if _past(standing.beat_at or standing.started_at, self.heartbeat, now):
            return f"{standing.worker} has not been heard of for {self.heartbeat:g} s"
        return None

    def is_in_doubt(self, standing: Standing, now: datetime) -> bool:
        """Return whether nobody was there to look in time: then the database may have been away for beats, too."""
        if standing.state != DelegationState.STARTED or standing.beat_at is None:
            return False
        return _past(standing.beat_at, 1.5 * self.heartbeat, now)

    def next_look(self, standing: Standing, now: datetime) -> datetime:
        """Return when to look again at an attempt that is waited for."""
        if standing.started_at is None:
            return standing.created_at + timedelta(seconds=self.start_timeout)
        silent = (standing.beat_at or standing.started_at) + timedelta(seconds=self.heartbeat)
        if self.timeout is not None:
            silent = min(silent, standing.started_at + timedelta(seconds=self.timeout))
        return max(silent, now)

    def first_look(self, now: datetime) -> datetime:
        """Return when to look at an attempt for the first time: early enough to dispatch it once more."""
        return now + timedelta(seconds=self.start_timeout / 2)

    def next_dispatch(self, now: datetime) -> datetime:
        """Return when to dispatch one that could not be dispatched now."""
        return now + timedelta(seconds=min(_UNTIL_NEXT, self.start_timeout / 2))


def _past(moment: datetime, allowed: float, now: datetime) -> bool:
    return now >= moment + timedelta(seconds=allowed)


# -- records ---------------------------------------------------------------------------------------


def new_token(run_id: UUID, generation: int, key: str, attempt: int, epoch: int) -> UUID:
    """Return the token of an attempt: no other attempt has it, nor one of a round before a `retry` of the run."""
    return derived_uuid(run_id, generation, f"{key}:{attempt}:{epoch}")


def token_of(record: Record | None) -> UUID | None:
    """Return the token of the attempt that is out; `None` if none is."""
    if record is None or record.kind != Kind.DELEGATE or record.state not in _WAITS or record.result is None:
        return None
    token: UUID = codec.loads(record.result)
    return token


def tokens_of(record: Record) -> tuple[UUID, ...]:
    """Return it in a tuple, an empty one if none is."""
    token = token_of(record)
    return () if token is None else (token,)


def written(token: UUID) -> str:
    """Return a token as a record holds it."""
    return codec.dumps(token, "the token of a delegated step")


def wait(step: str, token: UUID, due_at: datetime | None = None, about: str | None = None) -> Wait:
    """Return the wait of a step for the outcome of an attempt.

    `due_at`: when it is looked at, if nothing has come. `about`: the executor and the task, as people read them.
    """
    return Wait(step, Kind.DELEGATE, due_at, outcome_of(token), about)


def wait_of(record: Record) -> Wait:
    """Return the wait of a record that is open, whatever it waits for."""
    if record.kind in (Kind.STEP, Kind.UNDO):
        return limits.wait_of(record)
    if record.kind != Kind.DELEGATE:
        return Wait(record.name, record.kind)
    token = token_of(record)
    return Wait(record.name, Kind.RETRY) if token is None else wait(record.name, token)
