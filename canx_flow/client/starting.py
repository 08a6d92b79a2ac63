"""Starting runs: the call is checked, encoded and inserted, plain or under a key, in the caller's transaction.

In a step, a start without a key has one of the step's own, so that a repeated step starts no second run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.db import transaction

from ..core import clock, codec, naming, policies, registry
from ..core.changes import Start
from ..core.current import Content, identified, refuse_in_body
from ..core.current import step as current_step
from ..core.definition import Definition
from ..core.durations import aware, later, seconds
from ..core.identity import subject_reference
from ..core.options import StartOptions, checked_attributes, checked_note, checked_partition, checked_priority
from ..core.twins import twin
from ..exceptions import AlreadyStarted
from ..models import WorkflowRun
from ..store import history, rivals, starts, telling
from ..store.afterwards import after_commit
from ..store.singletons import Claim
from . import named
from .controls import tell_of_cancel

_BATCH, _BATCH_BYTES = 2000, 8_000_000  # runs, and bytes of their arguments, in one statement


def start(
    workflow: Definition,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    options: StartOptions,
    reason: str = "",
    *,
    by: Any = None,
) -> UUID:
    """Start a run; see `Workflow.start` and `Workflow.using`. With `reason` or `by`, its history says who did it."""
    refuse_in_body("start")
    refuse_misfit(workflow, arguments, keywords)
    note = {} if by is None and reason == "" else checked_note("start", reason, by)
    alias = named.alias()
    if options.on_parent_cancel is not None:
        raise ValueError("on_parent_cancel is for children, which ctx.call and ctx.spawn start: this run has no parent")
    run, run_at = _new_run(workflow, arguments, keywords, options, note)
    given = options.key if options.key is None else naming.checked(options.key, "key")
    content = partial(_start_content, run, run.arguments, options.queue)
    if options.singleton is not None:
        return _start_singleton(alias, run, run_at, given, options, content, note)
    there = insert(alias, run, run_at, given, content)
    if there is not None:
        # A key of the step's own was taken by an earlier attempt of the same step: no conflict.
        if options.on_conflict == "reject" and given is not None:
            raise AlreadyStarted(*there)
        return there[0]
    if note:
        history.called(alias, [run.id], note)
    after_commit(alias, telling.tell, alias, "work" if run_at is None else "timer", telling.Needs.of(run))
    return run.id


def _start_singleton(
    alias: str,
    run: WorkflowRun,
    run_at: datetime | None,
    given: str | None,
    options: StartOptions,
    content: Callable[[], Content],
    note: dict[str, Any],
) -> UUID:
    """Start a run that holds a name until its end, or do with the run that holds it what `on_conflict` says."""
    cancels = checked_note("cancel", f"run {run.id} was started in its place", note.get("control_by") or None)
    claim = Claim(run, policies.read(run.policies), options.on_conflict, policies.quiet(options), cancels)
    with identified(given, content) as run.key:
        there, claim = starts.insert_singleton(alias, claim, run_at)
    if there is not None:
        # A step's own key was taken by an earlier attempt of the same step: no conflict.
        if options.on_conflict == "reject" and not claim.moved and not (claim.by_key and given is None):
            raise AlreadyStarted(*there) if claim.by_key else AlreadyStarted(*there, options.singleton)
        if claim.moved:
            after_commit(alias, telling.tell, alias, "timer")
        return there[0]
    if note:
        history.called(alias, [run.id], note)
    tell_of_cancel(alias, claim.ended, claim.stopping)
    after_commit(alias, telling.tell, alias, "work" if run.ready else "timer", telling.Needs.of(run))
    return run.id


def start_many(
    workflow: Definition, arguments: Iterable[tuple[Any, ...]], options: StartOptions | None = None
) -> list[UUID]:
    """Start one run per tuple of arguments; see `Workflow.start_many`. Those of one singleton are started in turn."""
    refuse_in_body("start_many")
    options = options or StartOptions()
    if options.key is not None:
        raise ValueError("start_many takes no key: one key has one run")
    if options.on_parent_cancel is not None:
        raise ValueError("on_parent_cancel is for children, which ctx.call and ctx.spawn start: these have no parent")
    if not isinstance(arguments, Iterable):
        raise TypeError(f"start_many takes an iterable of tuples of arguments, not {type(arguments).__name__}")
    alias = named.alias()
    step = current_step.get()
    ids: list[UUID] = []
    pattern, run_at = _new_run(workflow, (), {}, options)
    if options.singleton is not None:
        with transaction.atomic(using=alias):
            rivals.lock_first(alias)
            return [start(workflow, _tuple(given), {}, options) for given in arguments]
    with ExitStack() as calls, transaction.atomic(using=alias):
        rivals.lock_first(alias)  # What yields the arguments may read them in the database.
        for batch in _argument_texts(workflow, arguments):
            if step is not None:
                contents = [_start_content(pattern, text, options.queue) for text in batch]
                keys = calls.enter_context(step.identified(contents))
                ids += starts.insert_many_keyed(alias, pattern, batch, keys, run_at)
            else:
                ids += starts.insert_many(alias, pattern, batch, run_at)
        after_commit(alias, telling.tell, alias, "work" if run_at is None else "timer", telling.Needs.of(pattern))
    return ids


def child(
    parent: UUID, workflow: Definition, arguments: tuple[Any, ...], keywords: dict[str, Any], options: StartOptions
) -> Start:
    """Make a child of a run, checked as any start is; it is stored with its parent's record of it."""
    refuse_misfit(workflow, arguments, keywords)
    if options.key is not None:
        raise ValueError("a child takes no key: its call's name is its identity in its parent")
    if options.singleton is not None or options.debounce is not None:
        raise ValueError("a child takes no singleton and no debounce: its parent waits for this very run")
    if options.on_parent_cancel not in (None, "cancel", "abandon"):
        shown = naming.shown(options.on_parent_cancel)
        raise ValueError(f"on_parent_cancel must be 'cancel' or 'abandon', not {shown}")
    run, run_at = _new_run(workflow, arguments, keywords, options)
    run.parent_id, run.abandoned = parent, options.on_parent_cancel == "abandon"
    alike = (
        run.workflow, run.version, run.queue, run.priority, run.timeout, run.subject_type, run.subject_id,
        run.first_attributes, run.abandoned, run_at, run.policies, run.partition,
    )  # fmt: skip
    return Start(run, run_at, alike)


def rerun(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> UUID:
    """Start a new run with the input of this one, of its own version; return the new id."""
    refuse_in_body("rerun")
    note = checked_note("rerun", reason, by)
    alias = named.alias()
    old = named.get(run_id, workflow)
    return rivals.repeated(alias, lambda: _rerun(alias, old, note))


def _rerun(alias: str, old: WorkflowRun, note: dict[str, Any]) -> UUID:
    new = like(old, **note)
    there = insert(alias, new, None, None, lambda: ("rerun", str(old.id)))
    if there is not None:
        return there[0]
    history.copied(alias, old.id, new.id, note)
    after_commit(alias, telling.tell, alias, "work", telling.Needs.of(new))
    return new.id


arerun = twin(rerun)


def like(old: WorkflowRun, **note: Any) -> WorkflowRun:
    """Make the row of a run that begins as an old one has begun, with the note of whoever starts it."""
    first = json.loads(old.first_attributes) if old.first_attributes else {}
    known = registry.get(old.workflow, old.version)
    return WorkflowRun(
        workflow=old.workflow, version=old.version, queue=old.queue, partition=old.partition, priority=old.priority,
        arguments=old.arguments, attributes=first, first_attributes=old.first_attributes, subject_type=old.subject_type,
        subject_id=old.subject_id, timeout=old.timeout, scheduled_for=old.scheduled_for,
        fingerprint=known.fingerprint if known is not None else "",
        **note,
    )  # fmt: skip


# -- what is checked and encoded -------------------------------------------------------------------


def refuse_misfit(workflow: Definition, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """Raise TypeError for a call that the function cannot take: such a run could never begin."""
    if misfit := workflow.misfit(arguments, keywords):
        raise TypeError(misfit)


def _argument_texts(workflow: Definition, arguments: Iterable[tuple[Any, ...]]) -> Iterator[list[str]]:
    """Yield the stored text of each tuple, in batches for one statement each."""
    what, batch, size = _input(workflow), list[str](), 0
    for given in arguments:
        refuse_misfit(workflow, _tuple(given), {})
        batch.append(codec.dumps([list(given), {}], what))
        size += len(batch[-1])
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tuple(given: Any) -> tuple[Any, ...]:
    if not isinstance(given, tuple):
        raise TypeError(f"start_many takes tuples of arguments, not {type(given).__name__}")
    return given


def _input(workflow: Definition) -> str:
    return f"the arguments of workflow {workflow.label!r}"


def _new_run(
    workflow: Definition,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    options: StartOptions,
    note: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[WorkflowRun, datetime | None]:
    """Make the row of a new run, and the moment of a delayed start; with the note of whoever starts it."""
    now, run_at = clock.now(), _run_at(options)
    given = policies.checked(options, now, run_at)
    quiet = policies.quiet(options)
    if quiet is not None:
        run_at = policies.debounced_at(now, quiet, given.cap)
    run = WorkflowRun(
        workflow=workflow.name, version=workflow.version, fingerprint=workflow.fingerprint, created_at=now,
        policies=given.text,
        queue=workflow.queue if options.queue is None else naming.checked(options.queue, "queue", 100),
        priority=workflow.priority if options.priority is None else checked_priority(options.priority),
        arguments=codec.dumps([list(arguments), keywords], _input(workflow)),
        timeout=_timeout(workflow, options), partition=checked_partition(options.partition), **note,
    )  # fmt: skip
    if options.subject is not None:
        run.subject_type, run.subject_id = subject_reference(options.subject)
    if options.attributes is not None:
        text = checked_attributes(options.attributes)
        if options.attributes:
            run.first_attributes, run.attributes = text, dict(options.attributes)
    return run, run_at


def _timeout(workflow: Definition, options: StartOptions) -> float | None:
    timeout = workflow.timeout if options.timeout is None else seconds(options.timeout, "timeout", positive=True)
    if timeout is not None:
        later(clock.now(), timeout, "a timeout")  # Refused here, because the first activation stores the deadline.
    return timeout


def _run_at(options: StartOptions) -> datetime | None:
    """Return the moment before which the run is not claimed; `None` if it has passed or none was given."""
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


# -- what is inserted ------------------------------------------------------------------------------


def insert(
    alias: str, run: WorkflowRun, run_at: datetime | None, key: str | None, content: Callable[[], Content]
) -> tuple[UUID, str] | None:
    """Insert a new run; return the id and state of the run that has its key already.

    `content`: what the call asks for, of which a step makes its own key.
    """
    if key is None and current_step.get() is None:
        starts.insert(alias, run, run_at)
        return None
    with identified(key, content) as run.key:
        return starts.insert_keyed(alias, run, run_at)


def _start_content(run: WorkflowRun, arguments: str, queue: str | None = None) -> Content:
    """Return what tells one start from another: what it is about and where it runs.

    Not when it runs and how urgently, which a repeated step may compute anew from the time; nor what a deployment
    between two attempts may change: the version and the workflow's own queue.
    """
    # Attributes are plain JSON: no name in it is one of the codec's tags.
    attributes = run.first_attributes and json.dumps(json.loads(run.first_attributes), sort_keys=True)
    about = (run.subject_type, run.subject_id, attributes, *([] if run.partition is None else [run.partition]))
    return ("start", run.workflow, codec.canonical(arguments), queue, *about)
