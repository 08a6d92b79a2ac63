"""The ways on which arrows of the state machine are taken: with a run that is there, by the store or by the client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any
from unittest.mock import ANY
from uuid import UUID, uuid4

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from canx_flow import client
from canx_flow.core import clock
from canx_flow.core.changes import Change, Record, Settle
from canx_flow.core.policies import Policies
from canx_flow.models import Event, RunSingleton, StepRecord, Timer, WorkflowRun
from canx_flow.states import CANCELLED, RUNNING, STOPPING, Kind, RecordState
from canx_flow.store import broadcasts, claims, events, leases, parking, singletons, starts, timers, writes
from canx_flow.store.unparking import Unparking

from .arrows import NAME, Row, dirty_run

KNOWN = [(NAME, "")]


@dataclass(frozen=True)
class Scene:
    """Where an arrow is taken: on this connection, which is the thread's own, and by or from this live worker."""

    connection: BaseDatabaseWrapper
    owner: UUID


@dataclass(frozen=True)
class Route:
    """A way to take an arrow. `go` takes it with one run, and returns the columns that it was given."""

    arrow: str
    states: tuple[str, ...]
    go: Callable[[Scene, UUID], Row]
    #: What the run must have, beside its state, to be taken on this way.
    run: Row = field(default_factory=dict)
    owned: bool = False
    where: tuple[str, ...] = ("engine", "inside")
    #: Timers that go and come with this way, not with the arrow.
    removes: tuple[str, ...] = ()
    adds: dict[str, bool] = field(default_factory=dict)


# -- a worker's ways -------------------------------------------------------------------------------


def claim(scene: Scene, run_id: UUID) -> Row:
    """Claim what is ready."""
    assert [run.id for run in claims.claim(scene.connection, scene.owner, 5, KNOWN)] == [run_id]
    return {"owner_id": scene.owner}


def settled(settle: Settle, how: str, **beside: Any) -> Callable[[Scene, UUID], Row]:
    """Write how an activation leaves its run: alone, in a batch with others, or in a step's own transaction."""

    def go(scene: Scene, run_id: UUID) -> Row:
        changes = [_change(run_id, settle, beside)]
        if how == "waiting":
            with transaction.atomic():
                assert writes.write_waiting(scene.connection, scene.owner, changes[0]).stored
        else:
            if how == "batch":
                others = [dirty_run(RUNNING, (), ready=False, owner_id=scene.owner) for _ in range(2)]
                changes += [_change(others[0], settle, beside), _change(others[1], None, {})]
            assert all(outcome.stored for outcome in writes.write(scene.connection, scene.owner, changes))
        given = asdict(settle.generation) if settle.generation is not None else {}
        return {**{name: getattr(settle, name) for name in ("state", "reason", "error", "result")}, **beside, **given}

    return go


def _change(run_id: UUID, settle: Settle | None, beside: Row) -> Change:
    now = clock.now()
    record = Record(1, "last", Kind.STEP, RecordState.COMPLETED, 1, 2, "1", started_at=now, finished_at=now)
    if settle is not None:  # Of a child: of any other it is known that nothing hangs on its completion.
        settle = replace(settle, parent=uuid4())
    return Change(run_id, 2, inserts=[record], columns=dict(beside), settle=settle)


def fire(kind: str, **given: Any) -> Callable[[Scene, UUID], Row]:
    """Have the timer of this kind fall due."""

    def go(scene: Scene, run_id: UUID) -> Row:
        Timer.objects.filter(run_id=run_id, kind=kind).update(due_at=clock.now() - timedelta(seconds=1))
        assert timers.fire("default").acted == 1
        return given

    return go


def send(scene: Scene, run_id: UUID) -> Row:
    """Send the event that the run waits for."""
    Timer.objects.filter(run_id=run_id, kind=Kind.WAIT).update(event="go")
    Event.objects.create(run_id=run_id, name="go")
    assert events.wake("default", run_id)
    return {}


def broadcast(scene: Scene, run_id: UUID) -> Row:
    """Broadcast the event that the run waits for."""
    Timer.objects.filter(run_id=run_id, kind=Kind.WAIT).update(event="go")
    events.send("default", "go", "1")
    assert broadcasts.deliver_at_once("default").woken == 1
    return {}


def cancelled_by_event(scene: Scene, run_id: UUID) -> Row:
    """Broadcast the event that cancels the run."""
    Timer.objects.filter(run_id=run_id, kind=Kind.CANCEL_ON).update(event="gone", key="7")
    events.send("default", "gone", "1", key="7")
    assert broadcasts.deliver_at_once("default").stopped
    return {"reason": "event 'gone' with key '7'"}


def debounce(scene: Scene, run_id: UUID) -> Row:
    """Start it once more, as a debounced one that has not been claimed yet."""
    stored = Policies("one", debounced=True).text
    WorkflowRun.objects.filter(id=run_id).update(policies=stored)
    RunSingleton.objects.create(run_id=run_id, workflow=NAME, key="one")
    new = WorkflowRun(workflow=NAME, arguments="[[7],{}]", fingerprint="new")
    claim = singletons.Claim(new, Policies("one", debounced=True), "existing", 60.0, {})
    assert starts.insert_singleton("default", claim, None)[1].moved
    return {"arguments": "[[7],{}]", "version": "", "fingerprint": "new", "policies": stored}


def owner_dies(scene: Scene, run_id: UUID) -> Row:
    """Find the owner dead, and recover its runs."""
    assert leases.declare_dead(scene.owner)
    assert leases.recover(scene.owner) == [run_id]
    return {"reason": ANY, "error": _why_parked(run_id)}


def owner_leaves(scene: Scene, run_id: UUID) -> Row:
    """Let the owner say goodbye without having handed the run back."""
    assert leases.say_goodbye(scene.owner)
    assert leases.recover(scene.owner) == [run_id]
    return {}


def disown(scene: Scene, run_id: UUID) -> Row:
    """Let the owner find that it has a run which it knows nothing of."""
    assert leases.disown(scene.owner, []) == [run_id]
    return {}


def park_unknown(scene: Scene, run_id: UUID) -> Row:
    """Look for runs that no live worker knows."""
    assert [run.id for run in parking.park_unknown("default", [])] == [run_id]
    return {"reason": ANY, "error": _why_parked(run_id)}


def _why_parked(run_id: UUID) -> Any:
    """The error of a run that was parked: none, but of one that is to be undone, which keeps how it is to end."""
    run = WorkflowRun.objects.get(id=run_id)
    assert not run.has_undo or run.state == STOPPING or "decided" in str(run.error)
    return ANY if run.has_undo else None


def unpark(scene: Scene, run_id: UUID) -> Row:
    """Start a worker that knows the workflow."""
    assert Unparking("default", KNOWN).all() == 1
    return {}


def unpark_misfits(scene: Scene, run_id: UUID) -> Row:
    """Have a worker look whether the arguments fit its code."""
    assert Unparking("default", KNOWN).all() == 1
    return {}


# -- people's ways ---------------------------------------------------------------------------------


def control(verb: str) -> Callable[[Scene, UUID], Row]:
    """Call a verb for one run."""

    def go(scene: Scene, run_id: UUID) -> Row:
        assert getattr(client, verb)(run_id, "why", by="ann")
        return _noted(verb)

    return go


def in_bulk(verb: str) -> Callable[[Scene, UUID], Row]:
    """Call a verb of the queryset."""

    def go(scene: Scene, run_id: UUID) -> Row:
        assert sum(getattr(WorkflowRun.objects.filter(id=run_id), verb)("why", by="ann").values()) == 1
        return _noted(verb)

    return go


def without_undo(verb: str) -> Callable[[Scene, UUID], Row]:
    """Leave out what is left to undo."""

    def go(scene: Scene, run_id: UUID) -> Row:
        run = WorkflowRun.objects.get(id=run_id)
        assert getattr(client, verb)(run_id, "why", by="ann", undo=False) is (run.ending == CANCELLED)
        return {**_noted(verb), "reason": run.reason, "error": run.error}

    return go


def undo_again(verb: str) -> Callable[[Scene, UUID], Row]:
    """Let what could not be undone be undone again."""

    def go(scene: Scene, run_id: UUID) -> Row:
        now = clock.now()
        StepRecord.objects.create(run_id=run_id, seq=1, name="a[undo]", kind=Kind.UNDO, state="failed", started_at=now)
        assert getattr(client, verb)(run_id, "why", by="ann")
        assert StepRecord.objects.get(run_id=run_id).state == RecordState.DUE
        return {**_noted(verb), "reason": "ValueError"}

    return go


def _noted(verb: str) -> Row:
    return {"control": verb, "control_reason": "why", "control_by": "ann", "control_at": ANY, "reason": "why"}
