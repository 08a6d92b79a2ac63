"""The attempts of delegated steps, from both sides: the run that waits, and whatever calls the task elsewhere.

A token is won by one delivery, and ends once: by what the task has come to, or given up by its run. Whichever write is
first decides, and the row count of the other says so. Locks no run.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import F, Q

from ..core import clock, executors
from ..core.delegated import Delegated, Standing
from ..core.naming import outcome_of
from ..models import Delegation, Event, Timer
from ..models.conditions import of_runs
from ..observe import announce, facts
from ..states import DelegationState, Kind
from .afterwards import after_commit

#: Rows, or runs, in one statement.
_AT_ONCE = 500
#: Why attempts are given up whose runs go on without them, or do not go on.
LOST, STOPPED = "its run has gone on without it", "its run was stopped"
#: Of what a dispatch has met.
_MOST_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class Off:
    """An attempt that nothing waits for any more, of which its executor is to be told."""

    executor: str
    token: UUID
    task: str


# -- by the run ------------------------------------------------------------------------------------


def store(alias: str, begun: Sequence[tuple[UUID, Delegated]]) -> None:
    """Store attempts that begin, each with its run, in the transaction that stores their records."""
    now = clock.now()
    Delegation.objects.using(alias).bulk_create(
        [
            Delegation(
                token=each.token, run_id=run_id, step=each.step, attempt=each.attempt, executor=each.executor,
                task=each.task, heartbeat=each.heartbeat, created_at=now,
            )
            for run_id, each in begun
        ],
        _AT_ONCE,
    )  # fmt: skip


def standing(alias: str, token: UUID) -> Standing | None:
    """Return where an attempt stands; `None` if it is not there any more."""
    rows = Delegation.objects.using(alias).filter(token=token)
    row = rows.values_list("state", "created_at", "started_at", "beat_at", "worker", "reason", "again").first()
    return None if row is None else Standing(*row)


def note_again(alias: str, token: UUID) -> bool:
    """Note that it is dispatched once more; return whether no delivery has begun it."""
    rows = Delegation.objects.using(alias).filter(token=token, state=DelegationState.OUT)
    return bool(rows.update(again=F("again") + 1, again_at=clock.now()))


def note_trouble(alias: str, token: UUID, text: str) -> None:
    """Note what its dispatch has met."""
    Delegation.objects.using(alias).filter(token=token, state=DelegationState.OUT).update(reason=text[:_MOST_TEXT])


def give_up(alias: str, token: UUID, reason: str) -> bool:
    """Wait for it no more; return False if it has ended by now, or was given up before."""
    rows = Delegation.objects.using(alias).filter(token=token, state__in=DelegationState.WANTED)
    return bool(rows.update(state=DelegationState.GIVEN_UP, reason=reason[:_MOST_TEXT], ended_at=clock.now()))


def lose(alias: str, tokens: Sequence[UUID]) -> list[Off]:
    """Give these up: their branches have lost, and nothing reads what they come to. Return those that were out."""
    return _give_up_all(alias, Q(token__in=tokens), LOST)


def withdraw(alias: str, run_ids: Sequence[UUID]) -> None:
    """Give up all that these runs have out, which were cut short; executors are told after the commit."""
    for first in range(0, len(run_ids), _AT_ONCE):
        call_off(alias, _give_up_all(alias, of_runs(run_ids[first : first + _AT_ONCE]), STOPPED))


def call_off(alias: str, offs: Sequence[Off]) -> None:
    """Have executors told of what is not wanted any more, once this is committed."""
    if offs:
        after_commit(alias, _begin_telling, offs)


def _begin_telling(offs: Sequence[Off]) -> None:
    """Tell executors in a thread of its own: what they speak to may be away, and no caller waits for this.

    The end of the process does: a command that cancels a run is over at once.
    """
    threading.Thread(target=tell, args=(offs,), name="canx_flow-call-off").start()


def tell(offs: Sequence[Off]) -> None:
    """Tell the executors of these. What comes of a task all the same is refused, so no failure matters."""
    for off in offs:
        executor = executors.known(off.executor)
        try:
            if executor is not None:
                executor.call_off(off.token, off.task)
        except Exception as error:  # noqa: BLE001 - the executor is the project's, and so is what it raises
            announce(facts.NotCalledOff(off.executor, off.token, error))


def _give_up_all(alias: str, which: Q, reason: str) -> list[Off]:
    rows = Delegation.objects.using(alias).filter(which, state__in=DelegationState.WANTED)
    found = [Off(*row) for row in rows.values_list("executor", "token", "task")]
    return [off for off in found if give_up(alias, off.token, reason)]


# -- by the other side -----------------------------------------------------------------------------


def begin(alias: str, token: UUID, worker: str) -> float | None:
    """Win the token; return its heartbeat in seconds, `None` if another delivery has won it, or it is not wanted."""
    now = clock.now()
    rows = Delegation.objects.using(alias).filter(token=token, state=DelegationState.OUT)
    if not rows.update(state=DelegationState.STARTED, started_at=now, beat_at=now, worker=worker[:255], reason=""):
        return None
    run_id, step, heartbeat = (
        Delegation.objects.using(alias).filter(token=token).values_list("run_id", "step", "heartbeat").get()
    )
    # The run looks at it when it would be silent for too long, not only when it should have begun.
    timers = Timer.objects.using(alias).filter(run_id=run_id, kind=Kind.DELEGATE, step=step)
    timers.update(due_at=now + timedelta(seconds=heartbeat))
    return float(heartbeat)


def beat(alias: str, token: UUID) -> bool:
    """Tell that the task runs; return False if its run does not wait for it any more."""
    rows = Delegation.objects.using(alias).filter(token=token, state=DelegationState.STARTED)
    return bool(rows.update(beat_at=clock.now()))


def receiver(alias: str, token: UUID) -> tuple[UUID, str, str, str, str] | None:
    """Return the run that an attempt is of: its id, state, queue, workflow and version."""
    rows = Delegation.objects.using(alias).filter(token=token, run__isnull=False)
    return rows.values_list("run_id", "run__state", "run__queue", "run__workflow", "run__version").first()


def end(alias: str, token: UUID, run_id: UUID, payload: str) -> bool:
    """Tell the run what an attempt has come to, and end it; False if it has ended before, or is not waited for.

    Called in a transaction that is rolled back then.
    """
    now = clock.now()
    event = Event(run_id=run_id, name=outcome_of(token), payload=payload, created_at=now)
    event.save(using=alias, force_insert=True)
    rows = Delegation.objects.using(alias).filter(token=token, state=DelegationState.STARTED)
    return bool(rows.update(state=DelegationState.ENDED, ended_at=now, event_id=event.id))


def keep_late(alias: str, token: UUID, payload: str) -> bool:
    """Keep what came of an attempt that was given up; the first of it. Returns whether it was that."""
    rows = Delegation.objects.using(alias).filter(token=token, state=DelegationState.GIVEN_UP, late=None)
    return bool(rows.update(late=payload, beat_at=clock.now()))
