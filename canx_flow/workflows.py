"""A workflow: a function that can be started, read, cancelled and retried by name. Made by `declaring`.

Needs neither models nor settings: `client`, which does, is imported by the first call of a verb.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar
from uuid import UUID

from django.utils.functional import SimpleLazyObject

from .core.definition import Definition, Planned
from .core.options import StartOptions
from .core.twins import twin
from .status import RunStatus

if TYPE_CHECKING:
    from django.db.models import Model

    from . import client
    from .models import RunQuerySet
else:
    client = SimpleLazyObject(lambda: import_module("canx_flow.client"))

P = ParamSpec("P")
#: What the function returns; of an `async def`, what is awaited.
R_co = TypeVar("R_co", covariant=True)


class Starter(Generic[P, R_co]):
    """A workflow with options for its next starts: what `Workflow.using` returns. It may be kept and used again."""

    def __init__(self, workflow: Workflow[P, R_co], options: StartOptions) -> None:
        self.workflow = workflow
        self.options = options

    def using(self, **options: Any) -> Starter[P, R_co]:
        """Return the same with further options; those given here replace earlier ones."""
        return Starter(self.workflow, replace(self.options, **options))

    def start(self, /, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Start a run with these options, as `Workflow.start`; its id."""
        return client.start(self.workflow, args, kwargs, self.options)

    def start_many(self, arguments: Iterable[tuple[Any, ...]]) -> list[UUID]:
        """Start one run per tuple of arguments with these options, as `Workflow.start_many`; `key` is none of them.

        All of one `singleton`: each meets the one before, as if they were started one after the other.
        """
        return client.start_many(self.workflow, arguments, self.options)

    def _planned(self) -> Planned[R_co]:
        return Planned(self.workflow, self.options)

    astart = twin(start)
    astart_many = twin(start_many)


class Workflow(Definition, Generic[P, R_co]):
    """A durable function under a stored name; made by `workflow`. `name`, `version`, `queue`, `priority`,
    `retry_policy`, `timeout` (seconds) and `is_async` are as declared.

    Its verbs, but `start`, `rerun` and `fork`, span all versions of the name. They take a run's id as UUID or text, and
    a `reason` and `by` (a user, or any text), which are stored with the run. Everything happens in the caller's
    transaction. Every verb raises RunNotFound for a run that does not exist or is another workflow's, and OutsideStep
    in the body of a workflow outside a step. Each has an async twin with an `a` before its name: `astart`, `astatus`, …
    """

    def using(
        self,
        *,
        key: str | None = None,
        on_conflict: Literal["existing", "reject", "cancel_other"] = "existing",
        queue: str | None = None,
        priority: int | None = None,
        delay: float | timedelta | None = None,
        run_at: datetime | None = None,
        timeout: float | timedelta | None = None,
        subject: Model | None = None,
        attributes: dict[str, Any] | None = None,
        on_parent_cancel: Literal["cancel", "abandon"] | None = None,
        singleton: str | None = None,
        debounce: float | timedelta | None = None,
        debounce_max: float | timedelta | None = None,
        expires: float | timedelta | None = None,
        cancel_on: str | tuple[str, str | None] | None = None,
        partition: str | None = None,
    ) -> Starter[P, R_co]:
        """Set options for a start: `workflow.using(key="order-7").start(7)`. Others are as the workflow declares.

        `key`: idempotency key, 1 to 255 characters, unique per workflow while the run is kept. `on_conflict`: return
        the run that has the key (`"existing"`), or raise AlreadyStarted (`"reject"`). `queue` and `priority` (-100 to
        100, larger first) instead of the workflow's. `delay` (timedelta or seconds) or `run_at` (aware datetime): not
        claimed before. `timeout` (timedelta or seconds): the run's deadline, counted from its first activation.
        `subject`: a saved model instance that the run is about. `attributes`: plain JSON, published on the run.
        `on_parent_cancel`: of a child, for `ctx.call` and `ctx.spawn`, which take all of these but `key`: where its
        parent is cancelled or runs into its deadline, it is cancelled, too (`"cancel"`), or goes on (`"abandon"`).
        `partition`: 1 to 255 characters, such as a tenant's id: with other runs of its queue that have the same one it
        shares the limits for each partition.

        `singleton`: a name, 1 to 255 characters, that one run of this workflow at a time holds, until it has ended.
        `on_conflict` is about that, too; `"cancel_other"` cancels the run that holds it, and the new one starts once
        that has ended. `debounce` (timedelta or seconds; with `singleton`): the run starts after so long a time without
        another such start; each of them replaces its arguments until it has started. `debounce_max`: but no later than
        this after the first call. `expires` (timedelta or seconds): cancelled, reason `Expired`, if it has not started
        by then. `cancel_on`: the name of a broadcast event, or a tuple of that and its key, that cancels the run at any
        moment up to its end. A child takes `expires` and `cancel_on` of these.

        They are checked at the start: ValueError or TypeError naming the option, NotSerializable for attributes that
        are not plain JSON; no row is left.
        """
        return Starter(
            self,
            StartOptions(
                key,
                on_conflict,
                queue,
                priority,
                delay,
                run_at,
                timeout,
                subject,
                attributes,
                on_parent_cancel,
                singleton,
                debounce,
                debounce_max,
                expires,
                cancel_on,
                partition,
            ),
        )

    def _planned(self) -> Planned[R_co]:
        return Planned(self, StartOptions())

    def start(self, /, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Start a run: one INSERT in the caller's transaction; its id (UUID version 7).

        TypeError for arguments that do not fit the function's signature. They are stored: NotSerializable or
        PayloadTooLarge if they cannot be. No row is left then. A step that is repeated starts no second run.
        """
        return Starter(self, StartOptions()).start(*args, **kwargs)

    def start_many(self, arguments: Iterable[tuple[Any, ...]]) -> list[UUID]:
        """Start one run per tuple of arguments, in bulk and in one transaction: all or none; their ids in order.

        TypeError for an item that is no tuple; TypeError, NotSerializable or PayloadTooLarge as `start`.
        """
        return client.start_many(self, arguments)

    def status(self, run_id: UUID | str) -> RunStatus:
        """Return where the run stands now; the value does not change by itself."""
        return client.get_run(run_id, workflow=self.name)

    def result(self, run_id: UUID | str, timeout: float | timedelta | None = None) -> R_co:
        """Wait for the run's end; what the workflow returned, or RunFailed, RunCancelled.

        `timeout`: timedelta or seconds, `None` for ever; TimeoutError when it has passed; 0 does not wait. InvalidState
        inside a step, and in a transaction while the run has not ended: the caller would never see it end there.
        """
        returned: R_co = client.result(run_id, timeout, workflow=self.name)
        return returned

    def cancel(self, run_id: UUID | str, reason: str = "", *, undo: bool = True, by: Any = None) -> bool:
        """End the run: `True` if it is or will be cancelled, `False` if it ends or has ended otherwise.

        A step in flight may finish, and its result is stored; nothing starts after it but what its steps have
        registered with `compensate`. `undo=False` leaves that out, also for a run that is undone already, or cannot be.
        Children are cancelled with it, and theirs, but for those that were started with `on_parent_cancel="abandon"`.
        """
        return client.cancel(run_id, reason, undo=undo, by=by, workflow=self.name)

    def retry(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        """Let a failed or parked run go on, finished steps kept; `True`. InvalidState in every other state.

        The step whose StepFailed ended the run, be it in a group or as the cause of another exception, gets a fresh
        attempt count; the child whose RunFailed did is retried itself; failures that the workflow caught stay. A run
        that its deadline ended gets a new deadline.
        """
        return client.retry(run_id, reason, by=by, workflow=self.name)

    def rerun(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> UUID:
        """Start a new run of the old one's version, with its input, queue, partition, priority, subject, first
        attributes and timeout, but not its key; the new id. The old run stays as it is."""
        return client.rerun(run_id, reason, by=by, workflow=self.name)

    def fork(
        self,
        run_id: UUID | str,
        from_step: str,
        reason: str = "",
        *,
        arguments: tuple[Any, ...] | None = None,
        version: str | None = None,
        queue: str | None = None,
        by: Any = None,
    ) -> UUID:
        """Start a new run that is given the records which this one stored earlier than `from_step`'s, and runs the
        rest; the new id. It may be forked in any state, and stays as it is.

        `from_step`: the whole key, as in `charge#2`; ValueError for one without a record, which names those there are.
        `arguments`: a tuple, or a tuple and a dict, in place of the run's own; TypeError if the workflow does not take
        them. `version` and `queue`: where the fork runs, else as the run. Priority, subject, first attributes and
        timeout are the run's, too; key, deadline and unread events are not. A record that was not over is not copied:
        such a sleep, wait or step begins anew. `WorkflowRun.forked_from` and `.forks` lead from one to the other.
        """
        return client.fork(
            run_id, from_step, reason, arguments=arguments, version=version, queue=queue, by=by, workflow=self.name
        )

    def pause(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        """Start no further step: `True` if the run is paused now, `False` if it is stopping or has ended.

        The step in flight is stored; timers keep their deadlines, and act when the run goes on.
        """
        return client.pause(run_id, reason, by=by, workflow=self.name)

    def resume(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        """Let a paused run go on: `True` if it is not paused now, `False` if it is stopping or has ended."""
        return client.resume(run_id, reason, by=by, workflow=self.name)

    def wake(self, run_id: UUID | str, reason: str = "", *, by: Any = None) -> bool:
        """Make the run's nearest timer due; `False` if none is open. The deadline is never touched."""
        return client.wake(run_id, reason, by=by, workflow=self.name)

    def send(self, run_id: UUID | str, event: str, payload: Any = None, *, dedup_id: str | None = None) -> bool:
        """Send an event to one run: `True` if stored, `False` if this run has seen that `dedup_id`.

        It is kept until the run reads it, and matches a wait for `event` whatever that wait's key. InvalidState if the
        run is completed or cancelled; ValueError or TypeError for an ill-formed event or dedup_id; NotSerializable or
        PayloadTooLarge for the payload.
        """
        return client.send(run_id, event, payload, dedup_id=dedup_id, workflow=self.name)

    @property
    def runs(self) -> RunQuerySet:
        """This workflow's runs, of every version, as a queryset of `WorkflowRun`."""
        return client.runs(self.name)

    async def aresult(self, run_id: UUID | str, timeout: float | timedelta | None = None) -> R_co:  # noqa: ASYNC109
        """Wait as `result` does, from async code and without a thread."""
        returned: R_co = await client.aresult(run_id, timeout, workflow=self.name)
        return returned

    astart = twin(start)
    astart_many = twin(start_many)
    astatus = twin(status)
    acancel = twin(cancel)
    aretry = twin(retry)
    arerun = twin(rerun)
    afork = twin(fork)
    apause = twin(pause)
    aresume = twin(resume)
    awake = twin(wake)
    asend = twin(send)
