"""What a workflow function holds: `Context` in a `def`, `AsyncContext` in an `async def`.

Both check where they are called from, find the key, and let their driver perform the operation.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random as _random
from collections.abc import Callable, Coroutine, MutableMapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from threading import get_ident
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload
from uuid import UUID

from ..core import current
from ..core.callables import is_generator
from ..core.durations import aware
from ..core.options import checked_attributes, checked_progress
from ..exceptions import WrongContext
from ..retry import Retry
from ..states import Kind, RecordState
from . import operations
from .operations import MISSING, Operation, StepOptions

if TYPE_CHECKING:
    from .activation import Activation
    from .async_driver import AsyncDriver
    from .drivers import SyncDriver
    from .journal import Branch

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_OPTIONS = ("retry", "timeout", "atomic", "at_most_once")
_OVER = (RecordState.COMPLETED, RecordState.FAILED)


class ReplayLog(logging.LoggerAdapter[logging.Logger]):
    """`ctx.log`: silent during replay, so that a line is logged once per run, not once per activation."""

    def __init__(self, context: BaseContext) -> None:
        super().__init__(logging.getLogger(f"canx_flow.workflow.{context.workflow}"), {})
        self._context = context

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return not self._context.is_replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        context = self._context
        kwargs["extra"] = {"run_id": str(context.run_id), "workflow": context.workflow, **(kwargs.get("extra") or {})}
        return msg, kwargs


class BaseContext:
    """What both contexts offer without waiting. One context belongs to one branch and one thread or task."""

    def __init__(self, activation: Activation, branch: Branch) -> None:
        self._activation = activation
        self._branch = branch
        self._no_options = StepOptions(activation.policy)
        self._log: ReplayLog | None = None

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        return self._activation.run.id

    @property
    def workflow(self) -> str:
        """The name of the run's workflow."""
        return self._activation.run.workflow

    @property
    def is_replaying(self) -> bool:
        """Whether the next operation is expected to be on record already."""
        return self._branch.replaying

    @property
    def log(self) -> ReplayLog:
        """A logger, `canx_flow.workflow.<name>`, silent during replay; its lines carry `run_id` and `workflow`."""
        if self._log is None:
            self._log = ReplayLog(self)
        return self._log

    @property
    def random(self) -> _random.Random:
        """A `random.Random` that gives the same numbers on every replay."""
        self._enter()
        return self._branch.random(self._activation.run.id, self._activation.run.generation)

    def now(self) -> datetime:
        """The time, aware, the same on every replay; recorded with the next record."""
        return operations.now(self._enter(), self._branch)

    def uuid(self, name: str) -> UUID:
        """A UUID derived from the run, its generation and this name; it costs no record."""
        run = self._enter().run
        return current.derived_uuid(run.id, run.generation, self._branch.key(name))

    def set_attributes(self, /, **values: Any) -> None:
        """Publish small JSON values on the run: in `status()`, in queries, in the admin. Written with the next commit.

        They join those set before; a name set again is replaced. NotSerializable for anything but JSON's own types,
        and for more than 30 levels; PayloadTooLarge over MAX_PAYLOAD_BYTES.
        """
        # A copy: what the body does to a list afterwards is published when it is set again.
        self._enter().set_attributes(json.loads(checked_attributes(values)))

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell people how far the run is. Not checkpointed; written with a commit, at most once a second.

        TypeError or ValueError unless `done` and `total` are finite numbers and `message` is a str.
        """
        self._enter().set_progress(checked_progress(done, total, message))

    def _enter(self) -> Activation:
        """Refuse a call from a wrong place; what every context call begins with."""
        raise NotImplementedError

    def _refuse(self, where: str) -> None:
        raise WrongContext(
            f"the context of run {self._activation.run.id} was used {where}. A context belongs to the body of its "
            f"workflow, in the thread or task that runs it."
        )

    def _sleep(self, activation: Activation, name: str, due_at: datetime) -> Operation:
        return operations.sleep(activation, self._branch, self._branch.key(name), due_at)

    def _wait_for(self, name: str, event: str, key: str | None, timeout: Any, default: Any) -> Operation:
        activation = self._enter()
        event, key = operations.event_name(event, key)
        step = self._branch.key(name)
        return operations.wait_for(activation, self._branch, step, event, key, timeout, default)

    def _options(self, function: Any, retry: Any, timeout: Any, atomic: bool, at_most_once: bool) -> StepOptions:
        usual = retry is None and timeout is None and atomic is False and at_most_once is False
        if usual and type(function) is FunctionType and not is_generator(function):
            return self._no_options
        return StepOptions.of(self._activation, function, retry, timeout, atomic, at_most_once)


class Context(BaseContext):
    """What a `def` workflow is given as its first argument."""

    def __init__(self, activation: Activation, branch: Branch, driver: SyncDriver) -> None:
        super().__init__(activation, branch)
        self._driver = driver
        self._thread = get_ident()

    @overload
    def step(
        self, name: str, fn: Callable[[*Ts], Coroutine[Any, Any, T]], /, *args: *Ts, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
    ) -> T: ...  # fmt: skip
    @overload
    def step(
        self, name: str, fn: Callable[[*Ts], T], /, *args: *Ts, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
    ) -> T: ...  # fmt: skip
    def step(  # type: ignore[misc]  # mypy does not see that *args: Any accepts what *Ts does
        self, name: str, fn: Callable[..., Any], /, *args: Any, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False, **unknown: Any,
    ) -> Any:  # fmt: skip
        """Call `fn(*args)`, store what it returns, return that; on replay return what is stored without a call.

        `name`: up to 255 characters without `/ # [ ]`; used again it is `name#2`, `name#3`. `fn`: plain or async; for
        keywords use a lambda or `functools.partial`. `retry`: the policy, else the workflow's, else the settings'.
        `timeout`: seconds or timedelta per attempt, `None` for none. `atomic`: plain `fn`'s writes to the run's
        database and its result commit together. `at_most_once`: `fn` is not called again after a crash.

        StepFailed after the last attempt, StepInterrupted after a crash under `at_most_once`; TypeError or ValueError
        for a bad name or option. A result that cannot be stored is a StepFailed at once.
        """
        if unknown:
            _refuse_keywords(name, fn, unknown)
        activation = self._enter()
        key = self._branch.key(name)
        record = activation.find(self._branch, key, Kind.STEP)
        if record is not None and record.state in _OVER:
            return operations.replayed(activation, record)
        options = self._options(fn, retry, timeout, atomic, at_most_once)
        return self._driver.perform(operations.step(activation, key, record, fn, args, options))

    def sleep(self, name: str, duration: float | timedelta) -> None:
        """Sleep durably for a timedelta, or seconds. Nothing is held meanwhile: no thread, connection or slot.

        ValueError if it is negative or ends after the year 9998.
        """
        self._driver.perform(self._sleep(self._enter(), name, operations.after(duration)))

    def sleep_until(self, name: str, moment: datetime) -> None:
        """Sleep durably until an aware datetime; a past one does not suspend. ValueError for a naive one."""
        due_at = aware(moment, "moment")
        self._driver.perform(self._sleep(self._enter(), name, due_at))

    def wait_for(
        self, name: str, event: str, *, key: str | None = None, timeout: float | timedelta | None = None,
        default: Any = MISSING,
    ) -> Any:  # fmt: skip
        """Suspend until the event arrives; return its payload, which may have been sent before.

        `key`: read broadcasts with exactly this key only; `None`: those without one. Events sent to this run are read
        whatever the key. `timeout`: timedelta or seconds, `None` for ever, 0 only looks; when it has passed, `default`
        is returned if one was given, else WaitTimeout raised. The outcome is recorded and replays the same.
        """
        return self._driver.perform(self._wait_for(name, event, key, timeout, default))

    def _enter(self) -> Activation:
        activation = self._activation
        if current.step.get() is not None:
            self._refuse("inside a step function")
        if get_ident() != self._thread:
            self._refuse("in another thread")
        if current.body.get() is not activation.run.id:
            self._refuse("after its activation had ended")
        if activation.leaving is not None:
            raise activation.leaving
        self._driver.refuse_transaction()
        return activation


class AsyncContext(BaseContext):
    """What an `async def` workflow is given as its first argument: step, sleep, sleep_until, wait_for are awaited."""

    def __init__(self, activation: Activation, branch: Branch, driver: AsyncDriver) -> None:
        super().__init__(activation, branch)
        self._driver = driver
        self._task = driver.task = asyncio.current_task()

    @overload
    def step(
        self, name: str, fn: Callable[[*Ts], Coroutine[Any, Any, T]], /, *args: *Ts, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
    ) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def step(
        self, name: str, fn: Callable[[*Ts], T], /, *args: *Ts, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
    ) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    def step(  # type: ignore[misc]  # as above
        self, name: str, fn: Callable[..., Any], /, *args: Any, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False, **unknown: Any,
    ) -> Coroutine[Any, Any, Any]:  # fmt: skip
        """As `Context.step`; `fn` may be plain (it runs in a thread) or async (it runs in the worker's loop)."""
        if unknown:
            _refuse_keywords(name, fn, unknown)
        activation = self._enter()
        key = self._branch.key(name)
        record = activation.find(self._branch, key, Kind.STEP)
        if record is not None and record.state in _OVER:
            return self._driver.call("step", name, operations.recorded(activation, record))
        options = self._options(fn, retry, timeout, atomic, at_most_once)
        return self._driver.call("step", name, operations.step(activation, key, record, fn, args, options))

    def sleep(self, name: str, duration: float | timedelta) -> Coroutine[Any, Any, None]:
        """As `Context.sleep`."""
        return self._driver.call("sleep", name, self._sleep(self._enter(), name, operations.after(duration)))

    def sleep_until(self, name: str, moment: datetime) -> Coroutine[Any, Any, None]:
        """As `Context.sleep_until`."""
        due_at = aware(moment, "moment")
        return self._driver.call("sleep_until", name, self._sleep(self._enter(), name, due_at))

    def wait_for(
        self, name: str, event: str, *, key: str | None = None, timeout: float | timedelta | None = None,
        default: Any = MISSING,
    ) -> Coroutine[Any, Any, Any]:  # fmt: skip
        """As `Context.wait_for`."""
        return self._driver.call("wait_for", name, self._wait_for(name, event, key, timeout, default))

    def _enter(self) -> Activation:
        activation = self._activation
        if activation.leaving is not None:
            raise activation.leaving
        if current.step.get() is not None:
            self._refuse("inside a step function")
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is not self._task:
            self._refuse("in another thread or task")
        if self._driver.over:
            self._refuse("after its activation had ended")
        return activation


def _refuse_keywords(name: str, fn: Any, unknown: dict[str, Any]) -> None:
    """Keywords of `step` are the step's own options, never the function's, as with `asyncio.call_soon`."""
    called = getattr(fn, "__name__", "function")
    given = ", ".join(f"{keyword}=…" for keyword in unknown)
    nearest = get_close_matches(next(iter(unknown)), _OPTIONS, 1)
    raise TypeError(
        f"step {name!r} has no option {next(iter(unknown))!r}: keywords are the step's own ({', '.join(_OPTIONS)}). "
        + (f"Did you mean {nearest[0]!r}? " if nearest else "")
        + f"For a keyword of the function use functools.partial: ctx.step({name!r}, partial({called}, {given}))."
    )
