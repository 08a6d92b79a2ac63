"""What a workflow function holds: `Context` in a `def`, `AsyncContext` in an `async def`.

Both check where they are called from, find the key, and let their driver perform the operation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from threading import get_ident
from typing import Any, TypeVar, TypeVarTuple, overload

from ..core import current
from ..core.changes import Record
from ..retry import Retry
from ..states import RecordState
from . import operations
from .base_context import LimitOption
from .branch import Branch
from .calling import AsyncCallingContext, CallingContext
from .performing import AsyncDriver, SyncDriver
from .waits import MISSING

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Operation = Callable[..., Coroutine[Any, Any, Any]]


class Context(CallingContext):
    """What a `def` workflow is given as its first argument."""

    def __init__(self, branch: Branch, driver: SyncDriver) -> None:
        super().__init__(branch)
        self._driver = driver
        self._thread = get_ident()

    @overload
    def step(
        self, name: str, fn: Callable[[*Ts], Coroutine[Any, Any, T]], /, *args: *Ts, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
        compensate: Callable[[T], object] | None = None, limit: LimitOption = None, cost: int = 1,
    ) -> T: ...  # fmt: skip
    @overload
    def step(
        self, name: str, fn: Callable[[*Ts], T], /, *args: *Ts, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
        compensate: Callable[[T], object] | None = None, limit: LimitOption = None, cost: int = 1,
    ) -> T: ...  # fmt: skip
    def step(  # type: ignore[misc]  # mypy does not see that *args: Any accepts what *Ts does
        self, name: str, fn: Callable[..., Any], /, *args: Any, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
        compensate: Callable[..., object] | None = None, limit: LimitOption = None, cost: int = 1,
        **unknown: Any,
    ) -> Any:  # fmt: skip
        """Call `fn(*args)`, store what it returns, return that; on replay return what is stored without a call.

        `name`: up to 255 characters without `/ # [ ]`; used again it is `name#2`, `name#3`. `fn`: plain or async; for
        keywords use a lambda or `functools.partial`. `retry`: the policy, else the workflow's, else the settings'.
        `timeout`: seconds or timedelta per attempt, `None` for none. `atomic`: plain `fn`'s writes to the run's
        database and its result commit together. `at_most_once`: `fn` is not called again after a crash. `compensate`:
        a function of the stored result that undoes it, should the run fail or be cancelled. `limit`: the name of a
        limit of the settings, or (name, key), under which it is called; `cost`: for how many starts of its rate.

        StepFailed after the last attempt, StepInterrupted after a crash under `at_most_once`; TypeError or ValueError
        for a bad name or option. A result that cannot be stored is a StepFailed at once.
        """
        return self._step(name, fn, args, retry, timeout, atomic, at_most_once, compensate, limit, cost, unknown)

    def sleep(self, name: str, duration: float | timedelta) -> None:
        """Sleep durably for a timedelta, or seconds; nothing is held meanwhile. ValueError if negative, or too long."""
        self._sleep(name, duration)

    def sleep_until(self, name: str, moment: datetime) -> None:
        """Sleep durably until an aware datetime; a past one does not suspend. ValueError for a naive one."""
        self._sleep_until(name, moment)

    def wait_for(
        self, name: str, event: str, *, key: str | None = None, timeout: float | timedelta | None = None,
        default: Any = MISSING,
    ) -> Any:  # fmt: skip
        """Suspend until the event arrives; return its payload, which may have been sent before.

        `key`: read broadcasts with exactly this key only; `None`: those without one. Events sent to this run are read
        whatever the key. `timeout`: timedelta or seconds, `None` for ever, 0 only looks; when it has passed, `default`
        is returned if one was given, else WaitTimeout raised. The outcome is recorded and replays the same.
        """
        return self._wait_for(name, event, key, timeout, default)

    def gather(self, **branches: Callable[[Context], Any]) -> dict[str, Any]:
        """Run branches side by side, each a function of a context of its own; return what each returns, by name.

        What one branch waits for holds no other. When one fails, the others start nothing more, the steps in flight are
        stored, and then what it has raised is raised here. Keys of its steps begin with the branch's name, as in
        `left/reserve`. At most 8 branches are called at a time. TypeError for what is no plain function.
        """
        gathered: dict[str, Any] = self._branch_off("gather", branches)
        return gathered

    def map(
        self, name: str, fn: Callable[[Any], Any], items: Iterable[Any], *, concurrency: int | None = None,
        tolerate: float = 0, retry: Retry | None = None, timeout: float | timedelta | None = None,
        atomic: bool = False, at_most_once: bool = False, compensate: Callable[[Any], object] | None = None,
        limit: LimitOption = None, cost: int = 1, executor: str | None = None,
    ) -> list[Any]:  # fmt: skip
        """Call one step `fn(item)` for each item, side by side; return the results in the order of the items.

        Their keys are `name[0]`, `name[1]`, …; the other options are each step's own. `concurrency`: how many are
        called at a time, else 8 as of all branches of a run. `tolerate`: how many may fail, or which share below 1;
        their positions hold the StepFailed. MapFailed, with the results, once one more has failed. A replay has to
        come to as many items: have them returned by a step.

        `executor`: its name; `fn` is then a task that it accepts, each item is delegated as by `delegate`, and
        `concurrency` are out at a time, else all. Options are `retry`, `timeout` and `at_most_once`.
        """
        mapped: list[Any] = self._map(
            name,
            fn,
            items,
            concurrency,
            tolerate,
            retry,
            timeout,
            atomic,
            at_most_once,
            compensate,
            limit,
            cost,
            executor,
        )
        return mapped

    def race(self, **branches: Callable[[Context], Any]) -> tuple[str, Any]:
        """Run branches side by side; return the name of the first to end, and what it has returned, or raise its error.

        The same on every replay. The others start nothing more, and what they wait for is closed; their steps in flight
        are stored, before the run is suspended or ends. ValueError without a branch.
        """
        decided: tuple[str, Any] = self._branch_off("race", branches)
        return decided

    def _enter(self) -> Branch:
        branch = self._branch
        if current.step.get() is not None:
            self._refuse("inside a step function")
        if get_ident() != self._thread:
            self._refuse(
                "in another thread" if self._thread else "while its branches run, or after it had ended itself"
            )
        if current.body.get() is not branch.run.id:
            self._refuse("after its activation had ended")
        if (leaving := branch.activation.leaving or branch.left) is not None:
            raise leaving
        if self._driver.may_hold_transaction():
            self._driver.refuse_transaction()
        return branch

    def _end(self) -> None:
        self._thread = 0

    def _perform(self, verb: str, name: str, operation: _Operation, *arguments: Any) -> Any:
        del verb, name  # For a call that is awaited later, or never.
        return self._driver.finish(operation(self._driver, *arguments))

    def _perform_beside(self, verb: str, name: str, operation: _Operation, *arguments: Any) -> Any:
        del verb, name
        thread, self._thread = self._thread, 0  # Branches have their own context, and may not use this one meanwhile.
        try:
            return self._driver.finish(operation(self._driver, *arguments))
        finally:
            self._thread = thread

    def _replay(self, verb: str, name: str, record: Record) -> Any:
        del verb, name
        if record.result is None and record.state == RecordState.COMPLETED:
            return None
        return operations.replayed(self._branch, record)


class AsyncContext(AsyncCallingContext):
    """What an `async def` workflow is given as its first argument: step, sleep, sleep_until, wait_for, call, spawn are
    awaited."""

    _at_once = False

    def __init__(self, branch: Branch, driver: AsyncDriver) -> None:
        super().__init__(branch)
        self._driver = driver
        self._task = driver.calls.task = asyncio.current_task()

    @overload
    def step(
        self, name: str, fn: Callable[[*Ts], Coroutine[Any, Any, T]], /, *args: *Ts, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
        compensate: Callable[[T], object] | None = None, limit: LimitOption = None, cost: int = 1,
    ) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    @overload
    def step(
        self, name: str, fn: Callable[[*Ts], T], /, *args: *Ts, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
        compensate: Callable[[T], object] | None = None, limit: LimitOption = None, cost: int = 1,
    ) -> Coroutine[Any, Any, T]: ...  # fmt: skip
    def step(  # type: ignore[misc]  # as above
        self, name: str, fn: Callable[..., Any], /, *args: Any, retry: Retry | None = None,
        timeout: float | timedelta | None = None, atomic: bool = False, at_most_once: bool = False,
        compensate: Callable[..., object] | None = None, limit: LimitOption = None, cost: int = 1,
        **unknown: Any,
    ) -> Coroutine[Any, Any, Any]:  # fmt: skip
        """Call a step as `Context.step` does; `fn` may be plain (in a thread) or async (in the worker's loop)."""
        returned: Coroutine[Any, Any, Any] = self._step(
            name, fn, args, retry, timeout, atomic, at_most_once, compensate, limit, cost, unknown
        )
        return returned

    def sleep(self, name: str, duration: float | timedelta) -> Coroutine[Any, Any, None]:
        """Sleep as `Context.sleep` does."""
        slept: Coroutine[Any, Any, None] = self._sleep(name, duration)
        return slept

    def sleep_until(self, name: str, moment: datetime) -> Coroutine[Any, Any, None]:
        """Sleep as `Context.sleep_until` does."""
        slept: Coroutine[Any, Any, None] = self._sleep_until(name, moment)
        return slept

    def wait_for(
        self, name: str, event: str, *, key: str | None = None, timeout: float | timedelta | None = None,
        default: Any = MISSING,
    ) -> Coroutine[Any, Any, Any]:  # fmt: skip
        """Wait as `Context.wait_for` does."""
        payload: Coroutine[Any, Any, Any] = self._wait_for(name, event, key, timeout, default)
        return payload

    def gather(self, **branches: Callable[[AsyncContext], Any]) -> Coroutine[Any, Any, dict[str, Any]]:
        """Run branches as `Context.gather` does; they are async functions, each called in a task of its own."""
        gathered: Coroutine[Any, Any, dict[str, Any]] = self._branch_off("gather", branches)
        return gathered

    def map(
        self, name: str, fn: Callable[[Any], Any], items: Iterable[Any], *, concurrency: int | None = None,
        tolerate: float = 0, retry: Retry | None = None, timeout: float | timedelta | None = None,
        atomic: bool = False, at_most_once: bool = False, compensate: Callable[[Any], object] | None = None,
        limit: LimitOption = None, cost: int = 1, executor: str | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:  # fmt: skip
        """Call a step for each item as `Context.map` does; `fn` may be plain (in threads) or async."""
        mapped: Coroutine[Any, Any, list[Any]] = self._map(
            name,
            fn,
            items,
            concurrency,
            tolerate,
            retry,
            timeout,
            atomic,
            at_most_once,
            compensate,
            limit,
            cost,
            executor,
        )
        return mapped

    def race(self, **branches: Callable[[AsyncContext], Any]) -> Coroutine[Any, Any, tuple[str, Any]]:
        """Run branches as `Context.race` does; they are async functions, each called in a task of its own."""
        decided: Coroutine[Any, Any, tuple[str, Any]] = self._branch_off("race", branches)
        return decided

    def _enter(self) -> Branch:
        branch = self._branch
        if (leaving := branch.activation.leaving or branch.left) is not None:
            raise leaving
        if current.step.get() is not None:
            self._refuse("inside a step function")
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is not self._task:
            self._refuse("in another thread or task")
        if self._driver.calls.over:
            self._refuse("after its activation had ended")
        return branch

    def _enter_end(self) -> Branch:
        branch = self._enter()
        if (forgotten := self._driver.not_awaited("continued as new")) is not None:
            raise forgotten
        return branch

    def _end(self) -> None:
        self._driver.calls.over = True

    def _perform(self, verb: str, name: str, operation: _Operation, *arguments: Any) -> Any:
        return self._driver.make(verb, name, operation, *arguments)

    def _perform_beside(self, verb: str, name: str, operation: _Operation, *arguments: Any) -> Any:
        return self._driver.make(verb, name, operation, *arguments)

    def _replay(self, verb: str, name: str, record: Record) -> Any:
        return self._driver.make(verb, name, operations.recorded, record)
