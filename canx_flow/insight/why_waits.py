"""Why a run waits: the reason of one open wait, by its kind. Called by `why`."""

from __future__ import annotations

from typing import Any

from ..core import policies
from ..models import WorkflowRun
from ..states import Kind
from . import reading, reasons
from .evidence import Evidence
from .reading import OpenWait
from .reasons import Reason


def of_wait(run: WorkflowRun, wait: OpenWait, found: Evidence) -> Reason:
    """Return why this wait has not ended, and what ends it."""
    record = found.records.get(run.id)
    since = None if record is None else reading.age(record.started_at, found.now)
    about: dict[str, Any] = {"step": wait.step, "until": wait.due_at, "held": wait.held}
    match wait.kind:
        case Kind.START:
            return _of_start(run, wait, about)
        case Kind.CANCEL:
            return reasons.Ending(**about)
        case Kind.RETRY:
            failing = None if record is None else reading.failing_record(record)
            if failing is None:
                return reasons.Retrying(**about, attempt=1)
            return reasons.Retrying(**about, attempt=failing.attempt, most=failing.most, error=failing.error)
        case Kind.LIMIT:
            return _of_limit(wait, about, found)
        case Kind.OUTAGE:
            return reasons.Outage(**about, reason=run.reason)
        case Kind.DELEGATE:
            return _of_delegated(run, about, found)
        case Kind.WAIT:
            return reasons.Waiting(**about, event=wait.event or "", key=wait.key, since=since)
    if wait.child is not None:
        return reasons.Calling(**about, child=wait.child, since=since)
    return reasons.Sleeping(**about)


def _of_limit(wait: OpenWait, about: dict[str, Any], found: Evidence) -> Reason:
    """Return which limit a step waits for: one that is full, or a moment that is reserved for it."""
    if wait.due_at is not None:
        return reasons.LimitRate(**about, limit=wait.event or "", key=wait.key)
    holders, number = found.holders.get((wait.event or "", wait.key or ""), (None, 0))
    others = max(number - 1, 0)
    return reasons.LimitFull(**about, limit=wait.event or "", key=wait.key, holder=holders, others=others)


def _of_delegated(run: WorkflowRun, about: dict[str, Any], found: Evidence) -> Reason:
    """Return where the attempt stands that is out: with its executor, or on a worker of that."""
    out = found.out.get(run.id)
    if out is None:
        return reasons.Delegated(**about)
    since = reading.age(out.started_at or out.created_at, found.now)
    beat = None if out.beat_at is None else reading.age(out.beat_at, found.now)
    return reasons.Delegated(
        **about,
        executor=out.executor,
        task=out.task,
        attempt=out.attempt,
        worker=out.worker,
        since=since,
        beat=beat,
        trouble=out.reason,
    )


def _of_start(run: WorkflowRun, wait: OpenWait, about: dict[str, Any]) -> Reason:
    """Return why a run has not started: it is delayed, debounced, or its singleton was another's that has not ended."""
    given = policies.read(run.policies)
    if wait.child is not None:
        return reasons.Held(**about, key=given.singleton or "", holder=wait.child)
    if given.debounced:
        return reasons.Debounced(**about, key=given.singleton or "")
    return reasons.Starting(**about)
