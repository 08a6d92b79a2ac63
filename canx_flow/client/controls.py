"""Cancel, pause, resume, wake, retry: each locks the run's row, changes it by its state, and answers with a bool.

The change is a guarded update in the caller's transaction. In a transaction of its own, a deadlock repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from ..core import codec, policies
from ..core.current import refuse_in_body
from ..core.options import checked_flag, checked_note
from ..core.twins import twin
from ..exceptions import InvalidState
from ..models import WorkflowRun
from ..observe import announce, facts, wants
from ..states import CANCELLED, ENDED, FAILED, PAUSED, STOPPING, UNDONE
from ..store import names, rivals, telling
from ..store import runs as store
from ..store.afterwards import after_commit
from . import named

#: What a control call stores with the run: who made it, when and why.
Note = dict[str, Any]


def cancel(
    run_id: UUID | str,
    reason: str = "",
    *,
    undo: bool = True,
    by: Any = None,
    workflow: str | None = None,
) -> bool:
    """End a run: `True` if it is or will be cancelled, `False` if it ends or has ended otherwise.

    What its steps have registered with `compensate` is undone first, unless `undo` is False.
    """
    refuse_in_body("cancel")
    checked_flag(undo, "undo")

    def act(alias: str, note: Note) -> bool:
        run = named.locked(run_id, workflow, why=not undo)
        tell_of_cancel(alias, *store.cancel(alias, [run], note, undo=undo))
        return run.state == CANCELLED or (run.state not in ENDED and run.ending in ("", CANCELLED))

    return _repeated(act, checked_note("cancel", reason, by))


def pause(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> bool:
    """Start no further step of this run; `False` if it is stopping or has ended."""
    refuse_in_body("pause")

    def act(alias: str, note: Note) -> bool:
        run = named.locked(run_id, workflow)
        return bool(store.pause(alias, [run], note)) or run.state == PAUSED

    return _repeated(act, checked_note("pause", reason, by))


def resume(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> bool:
    """Let a paused run go on; `False` if it is stopping or has ended."""
    refuse_in_body("resume")

    def act(alias: str, note: Note) -> bool:
        run = named.locked(run_id, workflow)
        if store.resume(alias, [run], note):
            after_commit(alias, telling.tell, alias)
        return run.state not in (STOPPING, *ENDED) and not run.ending

    return _repeated(act, checked_note("resume", reason, by))


def wake(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> bool:
    """Make the run's nearest timer due; `False` if none is open."""
    refuse_in_body("wake")

    def act(alias: str, note: Note) -> bool:
        woken = store.wake(alias, named.locked(run_id, workflow), note)
        if woken:
            after_commit(alias, telling.tell, alias, "timer")
        return woken

    return _repeated(act, checked_note("wake", reason, by))


def retry(run_id: UUID | str, reason: str = "", *, by: Any = None, workflow: str | None = None) -> bool:
    """Let a failed (or parked) run go on; InvalidState in any other state."""
    refuse_in_body("retry")

    def act(alias: str, note: Note) -> bool:
        run = named.locked(run_id, workflow, why=True)
        if not store.retry(alias, [run], note):
            why = _held(alias, run) or (UNDONE if run.state == FAILED else "only a failed or parked run is retried")
            raise InvalidState(f"run {run.id} is {run.state}: {why}")
        after_commit(alias, telling.tell, alias)
        return True

    return _repeated(act, checked_note("retry", reason, by))


def _held(alias: str, run: WorkflowRun) -> str:
    """Say who holds the name that a failed run had; empty if that is not what bars its retry."""
    name = policies.read(run.policies).singleton if run.state == FAILED else None
    holder = None if name is None else names.holder_of(alias, run.workflow, name)
    return "" if holder is None else f"run {holder} holds its singleton {name!r} by now"


acancel, apause, aresume, awake, aretry = twin(cancel), twin(pause), twin(resume), twin(wake), twin(retry)


def _repeated(act: Callable[[str, Note], bool], note: Note) -> bool:
    """Return what `act` returns in a transaction on the runs' database, repeated where it met a deadlock."""
    alias = named.alias()
    return rivals.repeated(alias, lambda: act(alias, note))


def tell_of_cancel(alias: str, ended: Sequence[WorkflowRun], stopping: Sequence[WorkflowRun]) -> None:
    """Announce, after the commit, the runs that have ended; tell workers of those that are to stop, and of those that
    parents may wait for.
    """
    failed = [run for run in ended if run.ending == FAILED]
    for run in failed:
        after_commit(alias, _announce_failed, run)
    if wants(facts.RunCancelled):
        for run in ended:
            if run not in failed:
                after_commit(alias, _announce_cancelled, run)
    if stopping:
        after_commit(alias, telling.tell, alias)
    if any(run.parent_id is not None for run in ended):
        after_commit(alias, telling.tell, alias, "event")


def _announce_cancelled(run: WorkflowRun) -> None:
    announce(facts.RunCancelled(facts.RunRef.of(run)))


def _announce_failed(run: WorkflowRun) -> None:
    """Announce a run that has failed, as was decided, for nothing more of it is undone."""
    error = codec.loads_plain(run.error) if run.error else None
    ref = facts.RunRef.of(run)
    announce(facts.RunTimedOut(ref) if error is None else facts.RunFailed(ref, error, None))
