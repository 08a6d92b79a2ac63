"""What people may do to a run: cancel, pause, resume, wake, retry. Called by `client`, in a transaction.

Each verb is given runs that `lock` has locked: rows by primary key, in the order of ids, and nothing else before. The
rows' states decide, and what is written then is written by primary key alone, timers after runs: on MySQL, a
statement with conditions on other columns may lock rows in the order of their indexes, and deadlock with another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from django.db import connections

from ..core import arrows, clock, codec
from ..core.failures import decision, steps_of
from ..core.naming import map_of
from ..exceptions import RunTimedOut
from ..models import StepRecord, Timer, WorkflowRun
from ..models.conditions import of_runs
from ..states import CANCELLED, FAILED, NO_WAITS, PARKED, PAUSED, STOPPING, UNFINISHED, Kind, RecordState, bars_retry
from . import calls, children, history, names
from .calls import Call
from .children import batches
from .db.databases import session_for
from .transitions import take

#: Columns that the verbs need of a run; `retry` also needs to know why it ended.
_NEEDED = ("id", "workflow", "version", "queue", "state", "owner", "ending", "has_undo", "parent")
_WHY = ("reason", "error", "deadline_at", "policies")

#: Records that are changed by one statement, where there may be any number.
_AT_ONCE = 1000

Runs = Sequence[WorkflowRun]


def lock(
    alias: str, ids: Collection[UUID], workflow: str | None = None, *, why: bool = False, skips: bool = False
) -> Runs:
    """Lock the rows of these runs, of one workflow or of any, until the transaction ends; return them as they are.

    `skips`: but for those that other transactions have locked.
    """
    features = connections[alias].features
    runs = WorkflowRun.objects.using(alias).filter(id__in=ids)
    if workflow is not None:
        runs = runs.filter(workflow=workflow)
    if features.has_select_for_update:
        skips = skips and features.has_select_for_update_skip_locked
        runs = runs.select_for_update(skip_locked=skips, no_key=features.has_select_for_no_key_update)
    else:
        session_for(alias).lock_first()
    return list(runs.order_by("id").only(*_NEEDED, *(_WHY if why else ())))


def cancel(alias: str, runs: Runs, note: dict[str, Any], *, undo: bool, skips: bool = False) -> tuple[Runs, Runs]:
    """End these runs as cancelled, or have them stopped: by their owners, or once what they did is undone.

    So are their children, and the children of those. Returns those that have ended, and those that will. Of one that is
    stopping, or was parked so, the end is decided; without `undo` it comes at once. `skips`: children that other
    transactions have locked are not waited for, but stopped by timers once they are free.
    """
    idle, owned = _by_owner(_with_descendants(alias, runs, skips=skips))
    to_undo = [run for run in idle if undo and run.has_undo]
    ended = [run for run in idle if not (undo and run.has_undo)]
    reason, forgets = note["control_reason"], {} if undo else {"has_undo": False}
    # Of all of them the children are among them.
    for some in batches(_ids(owned)):
        take(alias, arrows.CANCEL_OWNED, some, beside=note | forgets, alone=True, reason=reason)
    for some in batches(_ids(to_undo)):
        take(alias, arrows.CANCEL_TO_UNDO, some, beside=note, alone=True, reason=reason)
    for some in batches(_ids(ended)):
        take(alias, arrows.CANCEL, some, beside=note, reason=reason)
    if not undo:
        ended += _without_undo(alias, [run for run in runs if run.state in UNFINISHED and run.ending], note)
    return ended, [*owned, *to_undo]


def _without_undo(alias: str, decided: Runs, note: dict[str, Any]) -> list[WorkflowRun]:
    """Leave out what these runs have left to undo; return those that have ended with that.

    One that is to fail goes on, unless it is parked: then it fails now, as was decided.
    """
    cancelled = [run for run in decided if run.ending == CANCELLED]
    owned = [run.id for run in cancelled if run.owner_id is not None]
    if WorkflowRun.objects.using(alias).filter(id__in=owned).update(**note, has_undo=False):
        history.called(alias, owned, note)
    ending = [run for run in decided if run.owner_id is None and (run in cancelled or run.state == PARKED)]
    for run in ending:
        arrow = arrows.STOP_WITHOUT_UNDO if run in cancelled else arrows.FAIL_WITHOUT_UNDO
        reason, run.error = decision(run.reason, run.error)
        take(alias, arrow, [run.id], beside=note, reason=reason, error=run.error)
    return ending


def _with_descendants(alias: str, runs: Runs, *, skips: bool) -> Runs:
    """Return the runs whose end is not decided, and all that would be cancelled with them, locked."""
    going = {run.id: run for run in runs if _is_going(run)}
    generation = list(going)
    while generation:
        born: list[WorkflowRun] = []
        for some in children.going_of(alias, generation):
            free = lock(alias, some, skips=skips)
            born += free
            children.stop(alias, list(set(some) - set(_ids(free))) if skips else ())
        generation = [run.id for run in born if run.id not in going and _is_going(run)]
        going |= {run.id: run for run in born if _is_going(run)}
    return list(going.values())


def _is_going(run: WorkflowRun) -> bool:
    return run.state in children.GOING and not run.ending


def pause(alias: str, runs: Runs, note: dict[str, Any]) -> Runs:
    """Start no further step. The owner stores what is in flight and lets go; timers keep their deadlines.

    A run whose end is decided starts none anyway.
    """
    going = [run for run in runs if run.state in arrows.PAUSE.to and not run.ending]
    take(alias, arrows.PAUSE, _ids(going), beside=note)
    return going


def resume(alias: str, runs: Runs, note: dict[str, Any]) -> Runs:
    """Let paused runs go on: one that still has an owner is running, a delayed start sleeps, any other is pending."""
    paused = [run for run in runs if run.state == PAUSED]
    free, owned = _by_owner(paused)
    waits = session_for(alias).waits_of([run.id for run in free])
    delayed = {wait.run_id for wait in waits if wait.kind == Kind.START}
    take(alias, arrows.RESUME_OWNED, _ids(owned), beside=note)
    take(alias, arrows.RESUME_DELAYED, [run.id for run in free if run.id in delayed], beside=note)
    # Of these some were parked before: the next claim shows whether they can go on.
    take(alias, arrows.RESUME, [run.id for run in free if run.id not in delayed], beside=note)
    return paused


def wake(alias: str, run: WorkflowRun, note: dict[str, Any]) -> bool:
    """Have the run's nearest timer, deadlines aside, count as due; `False` if none is open."""
    if run.state not in UNFINISHED:
        return False
    waits = session_for(alias).waits_of([run.id])
    timers = [wait for wait in waits if wait.due_at is not None and wait.kind not in NO_WAITS]
    if run.state == STOPPING:  # Those that are held will never act again.
        timers = [wait for wait in timers if not wait.held]
    if not timers:
        return False
    # Of a run that is not paused or parked, those that are held belong to code that is gone.
    nearest = min(timers, key=lambda wait: (wait.held, wait.due_at, wait.id))
    if not Timer.objects.using(alias).filter(id=nearest.id).update(due_at=clock.now()):
        return False
    WorkflowRun.objects.using(alias).filter(id=run.id).update(**note)
    history.called(alias, [run.id], note)
    return True


def retry(alias: str, runs: Runs, note: dict[str, Any]) -> Runs:
    """Let every failed or parked one of these runs go on, in a few statements for all of them.

    Not one of which something was undone: of that only the undo steps that have failed are tried again. Nor one whose
    singleton another run holds by now.
    """
    parked = [run for run in runs if run.state == PARKED]
    take(alias, arrows.RETRY_PARKED, [run.id for run in parked if not run.ending], beside=note)
    take(alias, arrows.RETRY_PARKED_UNDO, [run.id for run in parked if run.ending], beside=note)
    failed, again = _by_undo(alias, [run for run in runs if run.state == FAILED])
    held = names.take_again(alias, [run for run in (*failed, *again) if run.policies is not None])
    failed, again = ([run for run in some if run.id not in held] for some in (failed, again))
    _undo_again(alias, again, note)
    late = [run for run in failed if run.reason == RunTimedOut.__name__]
    others = [run for run in failed if run.reason != RunTimedOut.__name__]
    take(alias, arrows.RETRY_LATE, _ids(late), beside=note)
    take(alias, arrows.RETRY, _ids(others), beside=note)
    children.forget_ends(alias, failed)
    _try_again(alias, failed)
    # What was left to be undone when it was ended without is found anew, should it come to that again.
    may_have = [run.id for run in failed if run.has_undo]
    StepRecord.objects.using(alias).filter(of_runs(may_have), kind=Kind.UNDO).delete()
    _call_again(alias, failed, note)
    deadlines = [Timer(run_id=r.id, kind=Kind.DEADLINE, due_at=r.deadline_at) for r in others if r.deadline_at]
    Timer.objects.using(alias).bulk_create(deadlines)
    return [*parked, *failed, *again]


def _by_undo(alias: str, failed: Runs) -> tuple[Runs, Runs]:
    """Return those of these runs that may go on, for no undo of theirs has run, and those of which some have failed."""
    may_have = [run.id for run in failed if run.has_undo]
    records = StepRecord.objects.using(alias).filter(of_runs(may_have), kind=Kind.UNDO)
    found: dict[UUID, set[str]] = defaultdict(set)
    for run_id, state in set(records.values_list("run_id", "state")):
        found[run_id].add(state)
    may_go_on = [run for run in failed if not bars_retry(found[run.id])]
    again = {run.id for run in may_go_on if RecordState.FAILED in found[run.id]}
    return [run for run in may_go_on if run.id not in again], [run for run in may_go_on if run.id in again]


def _undo_again(alias: str, runs: Runs, note: dict[str, Any]) -> None:
    """Give fresh attempts to the undo steps of these runs that have failed for good."""
    for run in runs:
        reason = codec.loads_plain(run.error)["type"].rpartition(".")[2] if run.error else ""
        take(alias, arrows.RETRY_UNDO, [run.id], beside=note, reason=reason)
    records = StepRecord.objects.using(alias).filter(of_runs(_ids(runs)), kind=Kind.UNDO, state=RecordState.FAILED)
    records.update(state=RecordState.DUE, attempts=0, finished_at=None, result=None)


def _try_again(alias: str, failed: Runs) -> None:
    """Give fresh attempts to the step whose failure ended each of these runs."""
    ended_by: dict[str, list[UUID]] = defaultdict(list)
    for run in failed:
        for step in steps_of(codec.loads_plain(run.error)) if run.error else ():
            ended_by[step].append(run.id)
    for step, some in ended_by.items():
        records = StepRecord.objects.using(alias).filter(of_runs(some), name=step, state=RecordState.FAILED)
        records = records.exclude(kind__in=(Kind.MAP, Kind.CALL))
        records.update(state=RecordState.DUE, attempts=0, finished_at=None, result=None)
        _open_map_again(alias, some, step)
        # It may succeed: then what its failure has decided is not decided, and the other branches go on, too.
        names = step.split("/")[:-1]
        above = [codec.dumps_plain("/".join(names[: n + 1])) for n in range(len(names))]
        decided = StepRecord.objects.using(alias).filter(of_runs(some), kind=Kind.GATHER, state=RecordState.FAILED)
        decided.filter(result__in=above).delete()


def _open_map_again(alias: str, run_ids: Sequence[UUID], key: str) -> None:
    """Let the map go on of which this is an item, so that this is called; or which it is.

    One that has failed gives fresh attempts to all of its items that have failed: with them it would fail at once.
    """
    maps = StepRecord.objects.using(alias).filter(of_runs(run_ids), kind=Kind.MAP, name=map_of(key))
    found = dict(maps.values_list("run_id", "state"))
    if not found:
        return
    maps.update(state=RecordState.STARTED, finished_at=None)
    have_failed = [run_id for run_id, state in found.items() if state == RecordState.FAILED]
    steps = StepRecord.objects.using(alias).filter(of_runs(have_failed), kind=Kind.STEP, state=RecordState.FAILED)
    items = [record_id for record_id, name in steps.values_list("id", "name") if map_of(name) == map_of(key)]
    for first in range(0, len(items), _AT_ONCE):
        some = StepRecord.objects.using(alias).filter(id__in=items[first : first + _AT_ONCE])
        some.update(state=RecordState.DUE, attempts=0, finished_at=None, result=None)


def _call_again(alias: str, failed: Runs, note: dict[str, Any]) -> None:
    """Retry the children whose failures ended these runs.

    One that was cancelled, undone or pruned never goes on. Its call is forgotten, to be made anew; so are those whose
    children this run's own end has cancelled.
    """
    ended_by = {run.id: set(steps_of(codec.loads_plain(run.error))) if run.error else set() for run in failed}
    found = [call for runs in batches(_ids(failed)) for call in calls.calls_of(alias, runs)]
    for some in batches([call for call in found if not call.has_failed or call.step in ended_by[call.run_id]]):
        locked = {child.id: child for child in lock(alias, list({call.child for call in some}), why=True)}
        failures = [call for call in some if call.has_failed]
        wanted = {call.child for call in failures}
        may_go_on = [child for child in locked.values() if child.state == FAILED and child.id in wanted]
        going = set(_ids(retry(alias, may_go_on, note)))
        gone = [call for call in some if _is_gone(locked.get(call.child), call, going)]
        calls.open_again(alias, {call.id for call in failures} - {call.id for call in gone})
        for call in gone:
            calls.forget_call(alias, call)


def _is_gone(child: WorkflowRun | None, call: Call, going: Collection[UUID]) -> bool:
    """Return whether this call's child, as it was found, never ends again, or not as the call wants it."""
    if child is None or (child.state == FAILED and child.id not in going):
        return call.has_failed
    return child.state == CANCELLED and (call.has_failed or child.reason == children.PARENT_STOPPED)


def _by_owner(runs: Runs) -> tuple[Runs, Runs]:
    """Return the runs that no worker owns, and those that one does."""
    return [run for run in runs if run.owner_id is None], [run for run in runs if run.owner_id is not None]


def _ids(runs: Runs) -> list[UUID]:
    return [run.id for run in runs]
