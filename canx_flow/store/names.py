"""What the end of a run with start policies frees, and its retry takes again: the name that only one run holds.

Called by `transitions` at every end, whichever it is, by `timers`, and by `runs.retry`. Paused and parked runs have not
ended, and hold their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from ..core import clock, naming, policies
from ..models import RunSingleton, Timer, WorkflowRun
from ..models.conditions import of_runs
from ..states import UNFINISHED, Kind
from . import keys
from .db.databases import session_for
from .db.tables import SINGLETON, TIMER


def have_ended(alias: str, ended: Sequence[WorkflowRun]) -> None:
    """Take back, in the transaction of their end, what runs have of policies; most runs have none."""
    run_ids = [run.id for run in ended if run.policies is not None]
    if not run_ids:
        return
    session_for(alias).delete(TIMER, "run_id", run_ids, " AND kind IN (%s, %s)", [Kind.EXPIRE, Kind.CANCEL_ON])
    free(alias, [run.id for run in ended if policies.read(run.policies).singleton is not None])


def take_again(alias: str, failed: Sequence[WorkflowRun]) -> dict[UUID, UUID]:
    """Give runs that are retried their names again; return those that cannot have theirs, each with the run that has.

    Those that can are cancelled by their events again, too.
    """
    held: dict[UUID, UUID] = {}
    # Without a lock, where there is a choice: the run that has a name could not free it before the caller commits.
    newest = not session_for(alias).sees_commits
    for run in failed:
        name = policies.read(run.policies).singleton
        if name is not None:
            contest = f"{run.workflow} {name}"
            found = keys.take(alias, run.workflow, {name: run.id}, contest, table=SINGLETON, newest=newest)[name]
            if found[0] != run.id:
                held[run.id] = found[0]
    events = [(run.id, policies.read(run.policies).cancel_on) for run in failed if run.id not in held]
    Timer.objects.using(alias).bulk_create(
        Timer(run_id=run_id, kind=Kind.CANCEL_ON, event=on[0], key=on[1]) for run_id, on in events if on is not None
    )
    return held


def holder_of(alias: str, workflow: str, name: str) -> UUID | None:
    """Return the run that holds a name, if one does."""
    return (
        RunSingleton.objects.using(alias).filter(workflow=workflow, key=name).values_list("run_id", flat=True).first()
    )


def free(alias: str, run_ids: Sequence[UUID]) -> None:
    """Free the names of runs that have ended in this transaction; what waits for their ends goes on.

    A run that was started with `cancel_other` waits so: its delayed start has no moment, but the end's event. Whoever
    cancels, pauses or moves it at this moment is not waited for, by a worker least of all: it is let go once its row is
    free, by a timer of its own.
    """
    session, features = session_for(alias), connections[alias].features
    session.delete(SINGLETON, "run_id", run_ids)
    waits = Timer.objects.using(alias).filter(event__in=[naming.end_of(run_id) for run_id in run_ids], kind=Kind.START)
    if not features.has_select_for_update:
        _let_go(alias, waits)
        return
    # A caller who does not see what others have committed could not tell which of them are locked.
    skips = features.has_select_for_update_skip_locked and session.sees_commits
    _let_go(alias, waits.select_for_update(skip_locked=skips))
    locked = waits.values_list("run_id", flat=True) if skips else ()
    Timer.objects.using(alias).bulk_create(
        [Timer(run_id=run_id, kind=Kind.FREED, due_at=clock.now()) for run_id in locked], ignore_conflicts=True
    )


def go_on(alias: str, run_ids: Sequence[UUID]) -> None:
    """Let these runs go, whose rows are locked, if what their starts wait for has ended."""
    if not run_ids:
        return
    waits = Timer.objects.using(alias).filter(of_runs(run_ids), kind=Kind.START, event__isnull=False)
    awaited = {timer_id: naming.child_of(event) for timer_id, event in waits.values_list("id", "event")}
    going = WorkflowRun.objects.using(alias).filter(id__in=set(awaited.values()), state__in=UNFINISHED)
    unfinished = set(going.values_list("id", flat=True))
    ended = [timer_id for timer_id, run_id in awaited.items() if run_id not in unfinished]
    _let_go(alias, Timer.objects.using(alias).filter(id__in=ended))


def _let_go(alias: str, waits: QuerySet[Timer]) -> None:
    """Have these delayed starts due at their moments, or now."""
    for timer_id, moment in waits.values_list("id", "key"):
        due_at = clock.now() if moment is None else datetime.fromisoformat(moment)
        Timer.objects.using(alias).filter(id=timer_id).update(due_at=due_at, event=None, key=None)
