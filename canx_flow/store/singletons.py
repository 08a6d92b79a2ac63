"""The name of `using(singleton=…)`: which run of a workflow holds it, and what a start does that meets it.

Called by `starts`.

The row of a name is stored with its run, in the same transaction, and deleted with its end (`names`). So of rivals one
gets the name, the others wait for its transaction and then meet the row, as with idempotency keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from ..core import arrows, clock, naming, policies
from ..core.policies import Policies
from ..models import RunSingleton, Timer, WorkflowRun
from ..models.conditions import of_runs
from ..states import ENDED, PARKED, PAUSED, PENDING, SLEEPING, Kind
from . import keys, runs
from .db.databases import session_for
from .db.tables import SINGLETON
from .transitions import take as take_arrow

#: A run that was not claimed yet is in one of these.
_UNSTARTED = (PENDING, SLEEPING, PAUSED, PARKED)
#: How often a start looks again at a holder that has changed between two looks.
_REPEATS = 20


@dataclass(slots=True)
class Claim:
    """A new run's claim of its name. `quiet`: the seconds of its debounce. `note`: what a cancel of another stores."""

    run: WorkflowRun
    policies: Policies
    on_conflict: Literal["existing", "reject", "cancel_other"]
    quiet: float | None
    note: Mapping[str, Any]
    #: Another start's run, which has not started, was given the arguments of this one.
    moved: bool = False
    #: What was met is no holder of the name, but of the run's idempotency key.
    by_key: bool = False
    #: The run whose end this one is to wait for.
    behind: UUID | None = None
    #: What was cancelled for it: runs that have ended, and that will.
    ended: list[WorkflowRun] = field(default_factory=list)
    stopping: list[WorkflowRun] = field(default_factory=list)


def take(alias: str, claim: Claim) -> keys.Holder | None:
    """Give the run its name; return the run that holds it, and its state, if the new one is not to be stored.

    Called in a transaction that stores the run. What another transaction has changed meanwhile is looked at again.
    """
    holder: keys.Holder = (claim.run.id, PENDING)
    # One that is not cancelled is to go on and end, whatever becomes of the caller's transaction: so without a lock.
    locks = claim.on_conflict == "cancel_other" or not session_for(alias).sees_commits
    for turn in range(_REPEATS + 1):
        holder = _take(alias, claim, newest=locks and turn > 0)
        if holder[0] == claim.run.id:
            return None
        if claim.quiet is not None and _move(alias, holder[0], claim, claim.quiet):
            return holder
        if claim.on_conflict != "cancel_other":
            # By the look that a debounced one has failed with, the run may only just have begun, or ended.
            if turn or claim.quiet is None:
                return holder
        elif _take_over(alias, holder[0], claim):
            return None
    return holder


def _take(alias: str, claim: Claim, *, newest: bool) -> keys.Holder:
    """Give the run its name, unless another has it; return the run that has it now."""
    run, name = claim.run, str(claim.policies.singleton)
    contest = f"{run.workflow} {name}"
    return keys.take(alias, run.workflow, {name: run.id}, contest, table=SINGLETON, newest=newest)[name]


# -- another run has it ----------------------------------------------------------------------------


def _move(alias: str, holder: UUID, claim: Claim, quiet: float) -> bool:
    """Give the holder, if it is debounced and has not started, this start's arguments, and a later moment.

    Its row stays locked until the caller's transaction ends: whoever claims it then finds these arguments. One that has
    started is not locked: it never becomes one that has not, and could store nothing meanwhile.
    """
    rows = WorkflowRun.objects.using(alias).filter(id=holder, started_at=None)
    if session_for(alias).sees_commits and _movable(rows) is None:
        return False
    if connections[alias].features.has_select_for_update:
        rows = rows.select_for_update(no_key=connections[alias].features.has_select_for_no_key_update)
    found = _movable(rows)
    if found is None:
        return False
    state, there = found
    now, new = clock.now(), claim.run
    due_at = policies.debounced_at(now, quiet, there.cap)
    moved = Policies(there.singleton, True, there.cap, claim.policies.expires_at, there.cancel_on)
    WorkflowRun.objects.using(alias).filter(id=holder).update(
        arguments=new.arguments, version=new.version, fingerprint=new.fingerprint, policies=moved.text
    )
    if state not in (PENDING, PARKED):
        _put_off(alias, holder, due_at, state)
    elif due_at > now:  # Its timer has fired.
        state = _sleep_again(alias, holder, due_at, state)
    _expire_at(alias, holder, moved.expires_at, held=state in (PAUSED, PARKED))
    claim.moved = True
    return True


def _movable(rows: QuerySet[WorkflowRun]) -> tuple[str, Policies] | None:
    """Return the state and policies of this run, which has not started, if other starts move it."""
    state, text = rows.values_list("state", "policies").first() or ("", None)
    there = policies.read(text)
    return (state, there) if there.debounced and state in _UNSTARTED else None


def _sleep_again(alias: str, run_id: UUID, due_at: datetime, state: str) -> str:
    """Have a run that was due wait for its moment, as if it had never been; return its state.

    One that is parked is found to be unknown again then, unless a worker knows it by that time: were it to stay parked,
    that worker would start it at once.
    """
    if state == PARKED:
        take_arrow(alias, arrows.UNPARK, [run_id])
    Timer.objects.using(alias).create(run_id=run_id, kind=Kind.START, due_at=due_at)
    take_arrow(alias, arrows.PUT_OFF, [run_id])
    return SLEEPING


def _put_off(alias: str, run_id: UUID, due_at: datetime, state: str) -> None:
    start = Timer.objects.using(alias).filter(run_id=run_id, kind=Kind.START)
    # It may be let go by the end of another run at this moment: one of the two finds it.
    moved = start.filter(event__isnull=False).update(key=due_at.isoformat())
    moved = moved or start.filter(event=None).update(due_at=due_at)
    if not moved and state == PAUSED:  # It had fired: resumed, the run sleeps again.
        Timer.objects.using(alias).create(run_id=run_id, kind=Kind.START, due_at=due_at, held=True)


def _expire_at(alias: str, run_id: UUID, moment: datetime | None, *, held: bool) -> None:
    timers = Timer.objects.using(alias).filter(run_id=run_id, kind=Kind.EXPIRE)
    if moment is None:
        timers.delete()
    elif not timers.update(due_at=moment):
        Timer.objects.using(alias).create(run_id=run_id, kind=Kind.EXPIRE, due_at=moment, held=held)


def _take_over(alias: str, holder: UUID, claim: Claim) -> bool:
    """Cancel the holder and give its name to the new run; False if it has ended by itself meanwhile.

    One that cannot end at once has a step in flight, or something to undo: the new run waits for its end. So does one
    whose holder waited for another run's end.
    """
    before = _behind(alias, holder)
    locked = {run.id: run for run in runs.lock(alias, [holder, *([before] if before else [])], why=True)}
    other = locked.get(holder)
    if other is None or other.state in ENDED:
        return False
    before = _behind(alias, holder)
    ended, stopping = runs.cancel(alias, [other], dict(claim.note), undo=True)
    claim.ended += ended
    claim.stopping += stopping
    if any(run.id == holder for run in ended):
        if before in locked and locked[before].state not in ENDED:
            claim.behind = before
        return _take(alias, claim, newest=True)[0] == claim.run.id
    claim.behind = holder
    return bool(RunSingleton.objects.using(alias).filter(run_id=holder).update(run_id=claim.run.id))


def _behind(alias: str, run_id: UUID) -> UUID | None:
    """Return the run for whose end this one waits before it starts."""
    waits = Timer.objects.using(alias).filter(of_runs([run_id]), kind=Kind.START, event__isnull=False)
    return naming.child_of(waits.values_list("event", flat=True).first())
