"""What may be asked of any run from outside: `Workflow`, the admin, the commands and the tests all call this.

Everything happens in the caller's transaction on the run's database; workers are told after its commit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections, transaction

from .. import conf, signals
from ..core import clock, codec, naming, registry
from ..core.current import Content, refuse_in_body
from ..core.current import step as current_step
from ..core.definition import Definition
from ..core.durations import aware, later, seconds
from ..core.identity import subject_reference
from ..core.options import StartOptions, checked_attributes, checked_flag, checked_note, checked_priority
from ..exceptions import AlreadyStarted, InvalidState, RunCancelled, RunFailed, RunNotFound
from ..insight.status import status_of
from ..models import RunQuerySet, WorkflowRun
from ..states import CANCELLED, COMPLETED, ENDED, FAILED, PAUSED, STOPPING
from ..status import RunStatus
from ..store import events, rivals, starts, telling
from ..store import runs as store
from ..store.afterwards import after_commit
from .results import poller

_BATCH = 500
_START_BATCH, _START_BYTES = 2000, 8_000_000  # runs, and bytes of their arguments, in one statement


# -- start -----------------------------------------------------------------------------------------


def start(workflow: Definition, arguments: tuple[Any, ...], keywords: dict[str, Any], options: StartOptions) -> UUID:
    """Start a run; see `Workflow.start` and `Workflow.using`."""
    refuse_in_body("start")
    _refuse_misfit(workflow, arguments, keywords)
    alias = _alias()
    run, run_at = _new_run(workflow, arguments, keywords, options)
    given = options.key if options.key is None else naming.checked(options.key, "key")
    there = _insert(alias, run, run_at, given, lambda: _start_content(run, run.arguments, options.queue))
    if there is not None:
        # A key of the step's own is taken by an earlier attempt of the same step: no conflict.
        if options.on_conflict == "reject" and given is not None:
            raise AlreadyStarted(*there)
        return there[0]
    after_commit(alias, telling.tell, alias, "work" if run_at is None else "timer")
    return run.id


def start_many(workflow: Definition, arguments: Iterable[tuple[Any, ...]]) -> list[UUID]:
    """Start one run per tuple of arguments; see `Workflow.start_many`."""
    refuse_in_body("start_many")
    if not isinstance(arguments, Iterable):
        raise TypeError(f"start_many takes an iterable of tuples of arguments, not {type(arguments).__name__}")
    alias = _alias()
    step = current_step.get()
    ids: list[UUID] = []
    pattern, _ = _new_run(workflow, (), {}, StartOptions())
    with ExitStack() as calls, transaction.atomic(using=alias):
        for batch in _argument_texts(workflow, arguments):
            if step is not None:
                contents = [_start_content(pattern, text) for text in batch]
                keys = calls.enter_context(step.identified(contents))
                ids += starts.insert_many_keyed(alias, pattern, batch, keys)
            else:
                ids += starts.insert_many(alias, pattern, batch)
        after_commit(alias, telling.tell, alias)
    return ids


def rerun(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> UUID:
    """Start a run anew, of its own version; its new id."""
    refuse_in_body("rerun")
    note = checked_note("rerun", reason, by)
    alias = _alias()
    old = _get(run_id, workflow)
    first = json.loads(old.first_attributes) if old.first_attributes else {}
    new = WorkflowRun(
        workflow=old.workflow, version=old.version, queue=old.queue, priority=old.priority, arguments=old.arguments,
        attributes=first, first_attributes=old.first_attributes, subject_type=old.subject_type,
        subject_id=old.subject_id, timeout=old.timeout, **note,
    )  # fmt: skip
    there = _insert(alias, new, None, None, lambda: ("rerun", str(old.id)))
    if there is not None:
        return there[0]
    after_commit(alias, telling.tell, alias)
    return new.id


def _argument_texts(workflow: Definition, arguments: Iterable[tuple[Any, ...]]) -> Iterator[list[str]]:
    """What is stored of each tuple, in batches for one statement each."""
    what, batch, size = _input(workflow), list[str](), 0
    for given in arguments:
        if not isinstance(given, tuple):
            raise TypeError(f"start_many takes tuples of arguments, not {type(given).__name__}")
        _refuse_misfit(workflow, given, {})
        batch.append(codec.dumps([list(given), {}], what))
        size += len(batch[-1])
        if len(batch) >= _START_BATCH or size >= _START_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _refuse_misfit(workflow: Definition, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """A call that the function cannot take would be a run that cannot begin."""
    if misfit := workflow.misfit(arguments, keywords):
        raise TypeError(misfit)


def _new_run(
    workflow: Definition, arguments: tuple[Any, ...], keywords: dict[str, Any], options: StartOptions
) -> tuple[WorkflowRun, datetime | None]:
    if options.on_conflict not in ("existing", "reject"):
        raise ValueError(f"on_conflict must be 'existing' or 'reject', not {naming.shown(options.on_conflict)}")
    run = WorkflowRun(
        workflow=workflow.name, version=workflow.version, created_at=clock.now(),
        queue=workflow.queue if options.queue is None else naming.checked(options.queue, "queue", 100),
        priority=workflow.priority if options.priority is None else checked_priority(options.priority),
        arguments=codec.dumps([list(arguments), keywords], _input(workflow)),
        timeout=_timeout(workflow, options),
    )  # fmt: skip
    if options.subject is not None:
        run.subject_type, run.subject_id = subject_reference(options.subject)
    if options.attributes is not None:
        text = checked_attributes(options.attributes)
        if options.attributes:
            run.first_attributes, run.attributes = text, dict(options.attributes)
    return run, _run_at(options)


def _timeout(workflow: Definition, options: StartOptions) -> float | None:
    timeout = workflow.timeout if options.timeout is None else seconds(options.timeout, "timeout", positive=True)
    if timeout is not None:
        later(clock.now(), timeout, "a timeout")  # Refused here, not in the first activation, where it is stored.
    return timeout


def _run_at(options: StartOptions) -> datetime | None:
    if options.delay is not None and options.run_at is not None:
        raise ValueError("delay and run_at exclude each other")
    now = clock.now()
    if options.run_at is not None:
        moment = aware(options.run_at, "run_at")
    elif options.delay is not None:
        moment = later(now, seconds(options.delay, "delay"))
    else:
        return None
    return moment if moment > now else None


def _input(workflow: Definition) -> str:
    return f"the arguments of workflow {workflow.label!r}"


def _insert(
    alias: str, run: WorkflowRun, run_at: datetime | None, key: str | None, content: Callable[[], Content]
) -> tuple[UUID, str] | None:
    """Store a new run; the id and state of the one that has its key already. In a step it has one without being given.

    `content`: of the call, for that key.
    """
    step = current_step.get()
    if key is None and step is None:
        starts.insert(alias, run, run_at)
        return None
    with _identified(key, content) as run.key:
        return starts.insert_keyed(alias, run, run_at)


@contextmanager
def _identified(given: str | None, content: Callable[[], Content]) -> Iterator[str | None]:
    """The key or dedup id given; inside a step one of its own, so that a repeated step does nothing twice."""
    step = current_step.get()
    if given is not None or step is None:
        yield given
        return
    with step.identified([content()]) as [own]:
        yield own


def _start_content(run: WorkflowRun, arguments: str, queue: str | None = None) -> Content:
    """What tells one start from another: what it is about and where it runs.

    Not when it runs and how urgently, which a repeated step may well reckon anew from the time it is; nor what a
    deployment between two attempts may change, the version and the workflow's own queue.
    """
    # Plain JSON: nothing in it is a tag, whatever a name begins with.
    attributes = run.first_attributes and json.dumps(json.loads(run.first_attributes), sort_keys=True)
    about = (run.subject_type, run.subject_id, attributes)
    return ("start", run.workflow, codec.canonical(arguments), queue, *about)


# -- ask -------------------------------------------------------------------------------------------


def get_run(run_id: UUID | str, *, workflow: str | None = None) -> RunStatus:
    """Where a run stands now."""
    refuse_in_body("status")
    return status_of(_get(run_id, workflow))


def runs(workflow: str | None = None) -> RunQuerySet:
    """All runs, or one workflow's, as a queryset on the right database."""
    refuse_in_body("runs")
    every = WorkflowRun.objects.using(_alias())
    return every if workflow is None else every.filter(workflow=naming.checked(workflow, "workflow name", 200))


def result(run_id: UUID | str, timeout: float | timedelta | None = None, *, workflow: str | None = None) -> Any:
    """Wait for the end of a run; its result, or RunFailed, RunCancelled, TimeoutError after `timeout` seconds."""
    limit = None if timeout is None else seconds(timeout, "timeout")
    # Again, if somebody has retried it since it was seen to have ended.
    while (run := _ended(run_id, workflow)) is None:
        if not poller.wait(_alias(), _uuid(run_id), limit):
            raise TimeoutError(f"run {run_id} had not ended after {limit:g} seconds")
    return _result(run)


async def aresult(
    run_id: UUID | str,
    timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the twin's own argument
    *,
    workflow: str | None = None,
) -> Any:
    """`result` from async code; holds no thread while it waits."""
    limit = None if timeout is None else seconds(timeout, "timeout")
    while (run := await sync_to_async(_ended)(run_id, workflow)) is None:
        if not await poller.wait_async(_alias(), _uuid(run_id), limit):
            raise TimeoutError(f"run {run_id} had not ended after {limit:g} seconds")
    return _result(run)


def _ended(run_id: UUID | str, workflow: str | None) -> WorkflowRun | None:
    refuse_in_body("result")
    if current_step.get() is not None:
        raise InvalidState(
            "result() inside a step would hold the step until another run ends: wait in the body instead"
        )
    run = _get(run_id, workflow)
    if run.state in ENDED:
        return run
    if connections[_alias()].in_atomic_block:
        raise InvalidState(
            f"run {run.id} has not ended, and inside a transaction its end can never be seen: call result() outside; "
            "in a TestCase, after canx_flow.testing.run_until_idle() or advance()"
        )
    return None


def _result(run: WorkflowRun) -> Any:
    if run.state == FAILED:
        raise RunFailed(run.id, codec.loads_plain(run.error) if run.error else None)
    if run.state == CANCELLED:
        raise RunCancelled(run.id, run.reason)
    return codec.loads(run.result or "null")


# -- act -------------------------------------------------------------------------------------------


def cancel(
    run_id: UUID | str,
    reason: str = "",
    *,
    undo: bool = True,  # it decides once steps can register an undo
    by: Any = None,
    workflow: str | None = None,
) -> bool:
    """End a run: `True` if it is or will be cancelled, `False` if it ends or has ended otherwise."""
    refuse_in_body("cancel")
    checked_flag(undo, "undo")
    alias, note = _alias(), checked_note("cancel", reason, by)

    def attempt() -> bool:
        run = _locked(run_id, workflow)
        ended, stopping = store.cancel(alias, [run], note)
        _after_cancel(alias, ended, stopping)
        return bool(ended or stopping) or run.state == CANCELLED or (run.state == STOPPING and run.ending == CANCELLED)

    return rivals.repeated(alias, attempt)


def pause(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> bool:
    """Start no further step of this run; `False` if it is stopping or has ended."""
    refuse_in_body("pause")
    alias, note = _alias(), checked_note("pause", reason, by)

    def attempt() -> bool:
        run = _locked(run_id, workflow)
        return bool(store.pause(alias, [run], note)) or run.state == PAUSED

    return rivals.repeated(alias, attempt)


def resume(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> bool:
    """Let a paused run go on; `False` if it is stopping or has ended."""
    refuse_in_body("resume")
    alias, note = _alias(), checked_note("resume", reason, by)

    def attempt() -> bool:
        run = _locked(run_id, workflow)
        if store.resume(alias, [run], note):
            after_commit(alias, telling.tell, alias)
        return run.state not in (STOPPING, *ENDED)

    return rivals.repeated(alias, attempt)


def wake(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> bool:
    """The run's nearest timer counts as due; `False` if none is open."""
    refuse_in_body("wake")
    alias, note = _alias(), checked_note("wake", reason, by)

    def attempt() -> bool:
        woken = store.wake(alias, _locked(run_id, workflow), note)
        if woken:
            after_commit(alias, telling.tell, alias, "timer")
        return woken

    return rivals.repeated(alias, attempt)


def retry(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> bool:
    """Let a failed (or parked) run go on; InvalidState in any other state."""
    refuse_in_body("retry")
    alias, note = _alias(), checked_note("retry", reason, by)

    def attempt() -> bool:
        run = _locked(run_id, workflow, why=True)
        if not store.retry(alias, [run], note):
            raise InvalidState(f"run {run.id} is {run.state}: only a failed or parked run is retried")
        after_commit(alias, telling.tell, alias)
        return True

    return rivals.repeated(alias, attempt)


def bulk_cancel(
    queryset: RunQuerySet,
    reason: str = "",
    *,
    undo: bool = True,  # it decides once steps can register an undo
    by: Any = None,
) -> dict[str, int]:
    """Cancel every run of a queryset, in batches of their own transactions; counts per outcome.

    `cancelled`, `stopping` (their owners end them), `unchanged`.
    """
    refuse_in_body("cancel")
    checked_flag(undo, "undo")
    alias, note = queryset.db, checked_note("cancel", reason, by)
    counts = Counter(cancelled=0, stopping=0, unchanged=0)

    def attempt(ids: Sequence[UUID]) -> Counter[str]:
        runs = store.lock(alias, ids)
        ended, stopping = store.cancel(alias, runs, note)
        _after_cancel(alias, ended, stopping)
        unchanged = len(runs) - len(ended) - len(stopping)
        return Counter(cancelled=len(ended), stopping=len(stopping), unchanged=unchanged)

    for ids in _batches(queryset):
        counts.update(rivals.repeated(alias, partial(attempt, ids)))
    return dict(counts)


def bulk_retry(queryset: RunQuerySet, reason: str = "", *, by: Any = None) -> dict[str, int]:
    """Retry every failed or parked run of a queryset, in batches; counts `retried` and `unchanged`."""
    refuse_in_body("retry")
    alias, note = queryset.db, checked_note("retry", reason, by)
    counts = Counter(retried=0, unchanged=0)

    def attempt(ids: Sequence[UUID]) -> Counter[str]:
        runs = store.lock(alias, ids, why=True)
        retried = len(store.retry(alias, runs, note))
        after_commit(alias, telling.tell, alias)
        return Counter(retried=retried, unchanged=len(runs) - retried)

    for ids in _batches(queryset):
        counts.update(rivals.repeated(alias, partial(attempt, ids)))
    return dict(counts)


# -- send ------------------------------------------------------------------------------------------


def send(
    run_id: UUID | str, event: str, payload: Any = None, *, dedup_id: str | None = None, workflow: str | None = None
) -> bool:
    """Send an event to one run: `True` if stored, `False` if this run has seen that `dedup_id`."""
    refuse_in_body("send")
    event, dedup_id = naming.checked(event, "event name"), _dedup(dedup_id)
    text = codec.dumps(payload, f"the payload of event {event!r}")
    chosen = _one(run_id, workflow)
    state = chosen.values_list("state", flat=True).first()
    if state is None:
        raise _not_found(run_id, workflow)
    key = _uuid(run_id)
    with _identified(dedup_id, lambda: ("send", str(key), event, codec.canonical(text))) as dedup_id:
        if state not in (COMPLETED, CANCELLED):
            stored = events.send(chosen.db, event, text, run_id=key, dedup_id=dedup_id)
        # It may have read this very message before it ended: a repeated step gets the answer that it had.
        elif dedup_id is not None and events.was_sent(chosen.db, dedup_id, run_id=key):
            stored = False
        else:
            raise InvalidState(f"run {run_id} is {state}: it reads no more events")
    if stored:
        after_commit(chosen.db, _wake_receiver, chosen.db, key)
    return stored


def send_event(event: str, payload: Any = None, *, key: str | None = None, dedup_id: str | None = None) -> bool:
    """Broadcast an event: `True` if stored, `False` if this (event, key) has seen that `dedup_id`."""
    refuse_in_body("send_event")
    event, dedup_id = naming.checked(event, "event name"), _dedup(dedup_id)
    if key is not None:
        key = naming.checked(key, "event key")
    alias = _alias()
    text = codec.dumps(payload, f"the payload of event {event!r}")
    with _identified(dedup_id, lambda: ("send_event", event, key, codec.canonical(text))) as dedup_id:
        stored = events.send(alias, event, text, key=key, dedup_id=dedup_id)
    if stored:
        after_commit(alias, telling.tell, alias, "event")
    return stored


def _dedup(dedup_id: str | None) -> str | None:
    return None if dedup_id is None else naming.checked(dedup_id, "dedup_id")


def _wake_receiver(alias: str, run_id: UUID) -> None:
    """Wake the run if that can be done at once; else the workers do, who are told that there is an event."""
    woken = None
    try:
        woken = events.wake_at_once(alias, run_id)
    finally:
        if woken is not False:
            telling.tell(alias, "work" if woken else "event")


# -- between ---------------------------------------------------------------------------------------


def _alias() -> str:
    return conf.get().database


def _uuid(run_id: UUID | str) -> UUID:
    if isinstance(run_id, UUID):
        return run_id
    try:
        return UUID(run_id)
    except (ValueError, AttributeError, TypeError):
        raise RunNotFound(f"{naming.shown(run_id)} is no run id: those are UUIDs") from None


def _one(run_id: UUID | str, workflow: str | None) -> RunQuerySet:
    chosen = WorkflowRun.objects.using(_alias()).filter(id=_uuid(run_id))
    return chosen if workflow is None else chosen.filter(workflow=workflow)


def _get(run_id: UUID | str, workflow: str | None) -> WorkflowRun:
    run = _one(run_id, workflow).select_related("owner").first()
    if run is None:
        raise _not_found(run_id, workflow)
    return run


def _locked(run_id: UUID | str, workflow: str | None, *, why: bool = False) -> WorkflowRun:
    """The run as it is now, which stays so until the transaction ends."""
    found = store.lock(_alias(), [_uuid(run_id)], workflow, why=why)
    if not found:
        raise _not_found(run_id, workflow)
    return found[0]


def _not_found(run_id: UUID | str, workflow: str | None) -> RunNotFound:
    return RunNotFound(f"there is no run {run_id}" + (f" of workflow {workflow!r}" if workflow else ""))


def _after_cancel(alias: str, ended: Sequence[WorkflowRun], stopping: Sequence[WorkflowRun]) -> None:
    if signals.run_cancelled.receivers:
        for run in ended:
            after_commit(alias, _announce_cancelled, run)
    if stopping:
        after_commit(alias, telling.tell, alias)


def _announce_cancelled(run: WorkflowRun) -> None:
    sender = registry.get(run.workflow, run.version)
    signals.announce(signals.run_cancelled, sender, run_id=run.id, workflow=run.workflow)


def _batches(queryset: RunQuerySet) -> Iterator[Sequence[UUID]]:
    """The ids of the runs of a queryset as they are now, a few hundred at a time, in order."""
    ids = list(queryset.order_by("id").values_list("id", flat=True))
    for begin in range(0, len(ids), _BATCH):
        yield ids[begin : begin + _BATCH]


def _twin(function: Callable[..., Any]) -> Callable[..., Any]:
    async def twin(*args: Any, **kwargs: Any) -> Any:
        return await sync_to_async(function)(*args, **kwargs)

    twin.__name__ = f"a{function.__name__}"
    twin.__doc__ = f"`{function.__name__}` from async code."
    return twin


aget_run, acancel, aretry, arerun = _twin(get_run), _twin(cancel), _twin(retry), _twin(rerun)
apause, aresume, awake, asend, asend_event = _twin(pause), _twin(resume), _twin(wake), _twin(send), _twin(send_event)
