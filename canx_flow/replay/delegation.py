"""What `ctx.delegate` does: written once, for every driver. Called as `operations` are.

The record says which attempt is out, and is committed before its message is sent; the run is suspended on the event of
that attempt, and on a timer by which it looks where the attempt stands. The row of an attempt ends once: by what the
task has come to, or given up here. So each attempt has one outcome, however often its message was delivered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from uuid import UUID

from ..core import clock, codec, delegations
from ..core.changes import Record, Wait, Waits
from ..core.current import CurrentStep
from ..core.delegated import Delegated, Standing, TaskFailed
from ..core.delegations import DelegateOptions
from ..core.executors import Executor
from ..core.naming import MAX_KEY, outcome_of
from ..exceptions import StepInterrupted, TaskLost
from ..states import COMPLETED, DelegationState, Kind, RecordState
from . import children, operations
from .call import Call, Ended, Raised
from .children import Driver


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be called elsewhere, by which executor, and with what. `name`: the executor's, for people."""

    executor: Executor
    task: Any
    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What the timer says of it."""
        return f"{self.executor.name} {self.name}"[:MAX_KEY]


async def delegate(driver: Driver, key: str, record: Record | None, task: Task, options: DelegateOptions) -> Any:
    """Have a task called elsewhere, block until it has ended there, return its result; by the policy, again."""
    token = delegations.token_of(record)
    if record is None or token is None:
        if record is not None and record.state == RecordState.OPEN:
            driver.branch.block(Wait(key, Kind.RETRY))
        await _hand_out(driver, key, record, task, options)
    return await _Attempt(driver, key, record, task, options, token).follow()


async def _hand_out(driver: Driver, key: str, record: Record | None, task: Task, options: DelegateOptions) -> NoReturn:
    """Begin an attempt: commit that it is out, then send its message, and block."""
    branch = driver.branch
    await driver.barrier()
    failed, now = (0 if record is None else record.attempts), clock.now()
    token = delegations.new_token(branch.run.id, branch.run.generation, key, failed + 1, branch.run.epoch)
    record = branch.write(record, key, Kind.DELEGATE, RecordState.OPEN, result=delegations.written(token))
    branch.open(delegations.wait(key, token, options.first_look(now), task.label))
    begun = Delegated(token, key, failed + 1, task.executor.name, task.name[:255], options.heartbeat)
    branch.collected().waits += Waits(delegates=(begun,))
    await driver.flush()
    attempt = _Attempt(driver, key, record, task, options, token)
    if not driver.may_start():  # Told so by this very commit.
        branch.block(delegations.wait(key, token, options.next_dispatch(now)))
    await attempt.dispatch()


class _Attempt:
    """An attempt that is out."""

    def __init__(
        self, driver: Driver, key: str, record: Record, task: Task, options: DelegateOptions, token: UUID
    ) -> None:
        self._driver = driver
        self._key = key
        self._record = record
        self._task = task
        self._options = options
        self._token = token
        self._number = record.attempts + 1

    async def follow(self) -> Any:
        """Read its outcome, or go by where it stands if there is doubt; else block."""
        ended = await self._find()
        if ended is not None:
            return await self._read(ended)
        is_due, branch = self._record.state == RecordState.DUE, self._driver.branch
        # A worker has died with the run: perhaps between the commit and the dispatch.
        if not is_due and not branch.run.standing.recoveries:
            branch.block(delegations.wait(self._key, self._token))
        standing: Standing | None = await self._ask("standing")
        now = clock.now()
        if standing is not None and self._options.is_in_doubt(standing, now) and await self._ask("spare"):
            standing = replace(standing, beat_at=now)
        reason = self._options.lost(standing, now)
        if standing is None or reason is not None:
            return await self._give_up(standing, reason or "")
        if is_due:
            branch.update(self._record, RecordState.OPEN)
            due_at = self._options.next_look(standing, now)
            branch.open(delegations.wait(self._key, self._token, due_at, self._task.label))
        if standing.state == DelegationState.OUT and (standing.again == 0 or bool(standing.reason)):
            await self._dispatch_again()
        return branch.block(delegations.wait(self._key, self._token))

    async def _dispatch_again(self) -> None:
        await self._driver.flush()
        if self._driver.may_start() and await self._ask("note_again"):
            await self.dispatch()

    async def dispatch(self) -> NoReturn:
        """Send its message, and block. What the executor speaks to may be away: then it is sent again soon."""
        branch, executor, now = self._driver.branch, self._task.executor, clock.now()
        this = CurrentStep(branch.run.id, self._key, self._number, branch.run.generation)
        task = self._task
        call = branch.call = Call(
            executor.dispatch, (self._token, task.task, task.args, task.kwargs, self._options.of_dispatch), this
        )
        try:
            answer = await self._driver.call(call)
        finally:
            branch.call = None
        if type(answer) is not Raised:
            branch.block(delegations.wait(self._key, self._token))
        if isinstance(answer.error, executor.outages):
            await self._ask("note_trouble", self._key, executor.name, answer.error)
            branch.block(delegations.wait(self._key, self._token, self._options.next_dispatch(now)))
        if not await self._give("it could not be dispatched"):
            branch.block(delegations.wait(self._key, self._token))
        await self._fail(answer.error)

    async def _find(self) -> Ended | None:
        event = outcome_of(self._token)
        found = await children.find(self._driver, event)
        if self._driver.branch.leaving is not None:  # While it looked, others have decided: it reads nothing.
            raise self._driver.branch.leaving
        return found

    async def _ask(self, question: str, *arguments: Any) -> Any:
        return await self._driver.look(getattr(self._driver.port.store.delegations, question), self._token, *arguments)

    async def _give_up(self, standing: Standing | None, reason: str) -> Any:
        """Fail the attempt, unless its outcome has come meanwhile."""
        if not await self._give(reason):
            self._driver.branch.journal.child_ends.pop(outcome_of(self._token), None)
            ended = await self._find()
            if ended is not None:
                return await self._read(ended)
        begun = standing is not None and standing.started_at is not None
        lost: Exception = TaskLost(reason)
        if begun and self._options.at_most_once:
            lost = StepInterrupted(self._key, self._number)
        return await self._fail(lost)

    async def _give(self, reason: str) -> bool:
        given_up: bool = await self._ask("give_up", reason, self._task.executor.name, self._task.name)
        return given_up

    async def _read(self, ended: Ended) -> Any:
        """Record what it has come to."""
        branch, now = self._driver.branch, clock.now()
        branch.consume(ended.event_id, self._key)
        if ended.state != COMPLETED:
            await self._fail(TaskFailed(codec.loads_plain(ended.text)))
        self._close()
        record = branch.update(
            self._record, RecordState.COMPLETED,
            result=ended.text, event_id=ended.event_id, attempts=self._number, finished_at=now,
        )  # fmt: skip
        self._driver.submit()
        return branch.decode(record)

    def _close(self) -> None:
        if self._record.state == RecordState.OPEN:
            self._driver.branch.close(delegations.wait(self._key, self._token))

    async def _fail(self, error: BaseException) -> NoReturn:
        self._close()
        await operations.attempt_failed(
            self._driver, self._key, self._record, error, self._options, self._number, self._record.started_at
        )
