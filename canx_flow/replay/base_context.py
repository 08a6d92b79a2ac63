"""What both contexts share: the calls that wait for nothing, and the verbs, each written once.

Each verb checks where it is called from, finds the key, and has its operation performed: at once, or once awaited.
"""

from __future__ import annotations

import json
import random as _random
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from difflib import get_close_matches
from types import FunctionType
from typing import Any, NoReturn, TypeVar, TypeVarTuple
from uuid import UUID

from ..core import current
from ..core.callables import is_generator
from ..core.changes import Record
from ..core.durations import SECONDS_OF_HUNDRED_YEARS, aware, is_usual
from ..core.naming import checked, step_name, undo_key
from ..core.options import checked_attributes, checked_progress
from ..exceptions import WrongContext
from ..retry import Retry
from ..states import Kind, RecordState
from . import answers, branches, endings, operations, waits
from .branch import Branch
from .items import map_items
from .map_options import Away, MapOptions
from .replay_log import ReplayLog
from .step_options import StepOptions

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Operation = Callable[..., Coroutine[Any, Any, Any]]
#: The name of a limit, or (name, key).
LimitOption = str | tuple[str, object] | None
_OPTIONS = ("retry", "timeout", "atomic", "at_most_once", "compensate", "limit", "cost")
_SLEEP = Kind.SLEEP
_OVER = (RecordState.COMPLETED, RecordState.FAILED)
_BRANCHED: dict[str, _Operation] = {Kind.GATHER: branches.gather, Kind.RACE: branches.race}


class BaseContext(ABC):
    """What both contexts offer without waiting, and the verbs that they share.

    One context belongs to one branch and one thread or task.
    """

    _driver: Any
    #: Whether sleeps and waits look for their records where they are called, not once they are awaited.
    _at_once = True

    def __init__(self, branch: Branch) -> None:
        self._branch = branch
        self._no_options = StepOptions(branch.activation.policy)
        self._log: ReplayLog | None = None
        #: The answers that `patched` has given, by change.
        self._patched: dict[str, bool] = {}

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        return self._branch.run.id

    @property
    def workflow(self) -> str:
        """The name of the run's workflow."""
        return self._branch.run.workflow

    @property
    def scheduled_for(self) -> datetime | None:
        """The nominal moment of the schedule's tick that has started the run, in UTC; `None` for any other run.

        A rerun or a fork has that of the run that it was made from.
        """
        return self._branch.run.standing.origin.scheduled_for

    @property
    def is_replaying(self) -> bool:
        """Whether the next operation is expected to be on record already."""
        return self._branch.scope.replaying

    @property
    def log(self) -> ReplayLog:
        """A logger, `canx_flow.workflow.<name>`, silent during replay; its lines carry `run_id` and `workflow`."""
        if self._log is None:
            self._log = ReplayLog(self._branch)
        return self._log

    @property
    def random(self) -> _random.Random:
        """A `random.Random` that gives the same numbers on every replay."""
        branch = self._enter()
        return branch.scope.random(branch.run.seed, branch.run.generation)

    def now(self) -> datetime:
        """Return the time, aware and the same on every replay; it is recorded with the next record."""
        return answers.now(self._enter())

    def uuid(self, name: str) -> UUID:
        """Return a UUID derived from the run, its generation and this name; it costs no record.

        In a fork it is the one of the run that was forked.
        """
        branch = self._enter()
        return current.derived_uuid(branch.run.seed, branch.run.generation, branch.scope.key(name))

    def patched(self, change_id: str) -> bool:
        """Tell whether this branch takes the changed code: True, unless it was past this point before the change.

        The first answer to a `change_id` holds for the whole branch, in loops and on every replay; a True is stored
        with the next record. Once no run that was told False is left, delete the call and the old code with it.
        `change_id`: as a step's name. ValueError or TypeError if it is ill-formed.
        """
        branch = self._enter()
        change_id = step_name(checked(change_id, "change_id"), "change_id")
        answer = self._patched.get(change_id)
        if answer is None:
            answer = self._patched[change_id] = answers.patched(branch, change_id)
        return answer

    def set_attributes(self, /, **values: Any) -> None:
        """Publish small JSON values on the run: in `status()`, in queries, in the admin. Written with the next commit.

        They join those set before; a name set again is replaced. NotSerializable for anything but JSON's own types,
        and for more than 30 levels; PayloadTooLarge over MAX_PAYLOAD_BYTES.
        """
        # A copy: what the body does to a list afterwards is published when it is set again.
        self._enter().activation.published.set_attributes(json.loads(checked_attributes(values)))

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell people how far the run is. Not checkpointed; written with a commit, at most once a second.

        TypeError or ValueError unless `done` and `total` are finite numbers and `message` is a str.
        """
        self._enter().activation.published.set_progress(checked_progress(done, total, message))

    def continue_as_new(self, /, *args: Any) -> NoReturn:
        """Begin this run anew under the same id: these arguments, an empty history, `generation` + 1. Never returns.

        Key, subject, parent, attributes, dedup ids and unread events stay; timers go, the deadline starts anew. What
        the run has read, broadcasts too, is not read again. TypeError for arguments that do not fit the workflow's
        signature, NotSerializable or PayloadTooLarge for such as cannot be stored, WrongContext inside a branch.
        """
        branch = self._enter_end()
        if branch.scope.prefix:
            self._refuse("to continue as new inside a branch, whose siblings would be lost")
        endings.continue_as_new(branch, args)

    # -- what differs -------------------------------------------------------------------------

    def _enter_end(self) -> Branch:
        """Refuse a call that ends the body, where it may not end."""
        return self._enter()

    @abstractmethod
    def _enter(self) -> Branch:
        """Refuse a call from a wrong place: what every context call begins with."""

    @abstractmethod
    def _end(self) -> None:
        """Refuse every further call: the branch has come to its end. Called by the engine."""

    @abstractmethod
    def _perform(self, verb: str, name: str, operation: _Operation, *arguments: Any) -> Any:
        """Do this operation, or return what does it once it is awaited."""

    @abstractmethod
    def _perform_beside(self, verb: str, name: str, operation: _Operation, *arguments: Any) -> Any:
        """Do the same with one during which this context is not to be used: branches run, which have their own."""

    @abstractmethod
    def _replay(self, verb: str, name: str, record: Record) -> Any:
        """Return what a call that is over returns, or what returns it once it is awaited."""

    # -- verbs, written once ------------------------------------------------------------------

    def _step(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], retry: Retry | None,
        timeout: float | timedelta | None, atomic: bool, at_most_once: bool, compensate: Callable[..., Any] | None,
        limit: LimitOption, cost: int, unknown: dict[str, Any],
    ) -> Any:  # fmt: skip
        if unknown:
            _refuse_keywords(name, fn, unknown)
        branch = self._enter()
        key = branch.scope.key(name)
        record = branch.find(key, Kind.STEP)
        if record is not None and record.state in _OVER:
            if compensate is not None:
                branch.note_undo(record, compensate, retry, timeout)
            return self._replay("step", name, record)
        if compensate is not None:
            undo_key(key)
            options = StepOptions.of(
                branch.activation.policy, fn, retry, timeout, atomic, at_most_once, compensate, limit, cost
            )
            return self._perform("step", name, operations.undoable, key, record, fn, args, options)
        usual = retry is None and timeout is None and atomic is False and at_most_once is False
        if usual and limit is None and cost == 1 and type(fn) is FunctionType and not is_generator(fn):
            options = self._no_options
        else:
            options = StepOptions.of(
                branch.activation.policy, fn, retry, timeout, atomic, at_most_once, None, limit, cost
            )
        return self._perform("step", name, operations.step, key, record, fn, args, options)

    def _sleep(self, name: str, duration: float | timedelta) -> Any:
        branch = self._enter()
        # Numbers are compared here: a long run that is woken comes to thousands of sleeps.
        numbered = (type(duration) is int or type(duration) is float) and 0 <= duration <= SECONDS_OF_HUNDRED_YEARS
        due_at = None if numbered or is_usual(duration) else waits.after(duration)
        if self._at_once and branch.scope.past(name, _SLEEP) is not None:
            return None  # As every sleep that need not be awaited.
        key = branch.scope.key(name)
        record = branch.find(key, Kind.SLEEP) if self._at_once else None
        if record is None or record.state != RecordState.COMPLETED:
            return self._perform("sleep", name, waits.sleep, key, record, due_at or waits.after(duration))
        branch.scope.passed(name, record)
        return self._replay("sleep", name, record)

    def _sleep_until(self, name: str, moment: datetime) -> Any:
        due_at = aware(moment, "moment")
        branch = self._enter()
        record = branch.scope.past(name, Kind.SLEEP) if self._at_once else None
        if record is None:
            key = branch.scope.key(name)
            record = branch.find(key, Kind.SLEEP) if self._at_once else None
            if record is None or record.state != RecordState.COMPLETED:
                return self._perform("sleep_until", name, waits.sleep, key, record, due_at)
            branch.scope.passed(name, record)
        return self._replay("sleep_until", name, record)

    def _wait_for(self, name: str, event: str, key: str | None, timeout: Any, default: Any) -> Any:
        branch = self._enter()
        event, key = waits.event_name(event, key)
        record = branch.scope.past(name, Kind.WAIT) if self._at_once else None
        if record is None:
            step = branch.scope.key(name)
            record = branch.find(step, Kind.WAIT) if self._at_once else None
            if record is None or record.state != RecordState.COMPLETED:
                return self._perform("wait_for", name, waits.wait_for, step, record, event, key, timeout, default)
            branch.scope.passed(name, record)
        return self._replay("wait_for", name, record)

    def _map(
        self, name: str, fn: Callable[..., Any], items: Iterable[Any], concurrency: int | None, tolerate: float,
        retry: Retry | None, timeout: float | timedelta | None, atomic: bool, at_most_once: bool,
        compensate: Callable[..., Any] | None, limit: LimitOption, cost: int, executor: str | None,
    ) -> Any:  # fmt: skip
        branch = self._enter()
        policy, away = branch.activation.policy, None
        if executor is not None:
            away = Away.of(
                policy, executor, fn, retry, timeout, at_most_once,
                {"atomic": atomic, "compensate": compensate, "limit": limit},
            )  # fmt: skip
        step = StepOptions.of(
            policy, fn if away is None else len, retry, timeout, atomic, at_most_once, compensate, limit, cost
        )
        options, given = MapOptions.of(fn, step, concurrency, tolerate, compensate, retry, away), list(items)
        key = branch.scope.key(name)
        record = branch.find(key, Kind.MAP)
        return self._perform_beside("map", name, map_items, key, record, given, options)

    def _branch_off(self, verb: str, functions: branches.Functions) -> Any:
        """Gather or race these: the verb is the kind of the record, too."""
        branch = self._enter()
        functions = branches.checked(functions, verb, awaits=self._driver.awaits)
        key = branch.scope.engine_key(verb)
        record = branch.find(key, verb)
        return self._perform_beside(verb, ", ".join(functions), _BRANCHED[verb], type(self), key, record, functions)

    def _refuse(self, where: str) -> None:
        raise WrongContext(
            f"the context of run {self._branch.run.id} was used {where}. A context belongs to the body of its "
            f"workflow, in the thread or task that runs it."
        )


def _refuse_keywords(name: str, fn: Any, unknown: dict[str, Any]) -> None:
    """Refuse keywords that are no options of `step`: never the function's, as with `asyncio.call_soon`."""
    called = getattr(fn, "__name__", "function")
    given = ", ".join(f"{keyword}=…" for keyword in unknown)
    nearest = get_close_matches(next(iter(unknown)), _OPTIONS, 1)
    raise TypeError(
        f"step {name!r} has no option {next(iter(unknown))!r}: keywords are the step's own ({', '.join(_OPTIONS)}). "
        + (f"Did you mean {nearest[0]!r}? " if nearest else "")
        + f"For a keyword of the function use functools.partial: ctx.step({name!r}, partial({called}, {given}))."
    )
