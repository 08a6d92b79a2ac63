"""Why a run does not move, or what it does: the one place that decides it, for every state.

Called by `status`, the terminal, the admin and `health`, which draw the reasons of `reasons`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from .. import conf
from ..core import policies
from ..core.naming import label
from ..models import WorkflowRun
from ..states import CANCELLED, COMPLETED, ENDED, FAILED, GOING_ON, NO_WAITS, PARKED, PAUSED, STOPPING, SUSPENDED
from . import evidence, overdue, reading, reasons, why_waits
from .cutoffs import CutOff
from .evidence import Evidence
from .reading import OpenWait
from .reasons import Exact, Level, Reason
from .serving import Serving

#: Seconds after which a timer that did not fire is late: workers fire one within a second or so.
_PATIENCE = 10

Found = Iterator[Reason]


@dataclass(frozen=True, slots=True)
class Why:
    """The reasons that hold, in the order in which they count. `stuck`: longer than is healthy, by `health.Limits`."""

    reasons: tuple[Reason, ...]
    stuck: bool = False

    @property
    def reason(self) -> Reason | None:
        """The first one, which keeps it from moving; the others are said beside it."""
        return self.reasons[0] if self.reasons else None

    @property
    def level(self) -> Level:
        """The worst of them."""
        return max((reason.level for reason in self.reasons), default=Level.FINE)

    def without_payloads(self) -> Why:
        """Return it without what stems from values: messages of errors, and what people gave as reasons."""
        return replace(self, reasons=tuple(_without_payloads(reason) for reason in self.reasons))

    def words(self, now: datetime, exact: Exact | None = None) -> str:
        """Return it as plain text, in the reader's language; `exact`: what writes the moments to come, too."""
        return "; ".join(reason.words(now, exact) for reason in self.reasons)


def why(
    run: WorkflowRun,
    *,
    workers: Sequence[Serving] | None = None,
    waits: Sequence[OpenWait] | None = None,
    cut_off: Sequence[CutOff] = (),
) -> Why:
    """Return why this run does not move; what is given has been read before. `cut_off`: calls whose step is known."""
    open_waits = None if waits is None else {run.id: waits}
    found = evidence.gather(run._state.db or conf.get().database, [run], workers, open_waits)
    return _why(run, found, cut_off)


def whys(alias: str, runs: Iterable[WorkflowRun], workers: Sequence[Serving] | None = None) -> dict[UUID, Why]:
    """Return why each of these runs does not move, by its id, with as few queries as for one."""
    runs = list(runs)
    found = evidence.gather(alias, runs, workers)
    return {run.id: _why(run, found) for run in runs}


def _why(run: WorkflowRun, found: Evidence, cut_off: Sequence[CutOff] = ()) -> Why:
    if run.state in ENDED:
        return Why(tuple(_ended(run, found)))
    said = [reason for holds in _ORDER for reason in holds(run, found)]
    said += _interrupted(run, cut_off, said)
    return Why(tuple(said), _is_stuck(run, found, said))


# -- in the order in which they count ------------------------------------------------------------------


def _parked(run: WorkflowRun, _found: Evidence) -> Found:
    if run.state == PARKED:
        yield reasons.Parked(reason=run.reason)


def _paused(run: WorkflowRun, _found: Evidence) -> Found:
    if run.state == PAUSED:
        by, at, said = _control(run, "pause")
        yield reasons.Paused(by=by, at=at, why=said)


def _held(run: WorkflowRun, found: Evidence) -> Found:
    if run.ready:
        yield from found.held.paused(run)


def _limited(run: WorkflowRun, found: Evidence) -> Found:
    if run.ready and not any(_without_worker(run, found)):
        yield from found.held.limited(run)


def _without_worker(run: WorkflowRun, found: Evidence) -> Found:
    """Yield what keeps a run that is due from being claimed: nobody serves its queue, or knows its workflow."""
    if not run.ready and not _is_late(run, found, _PATIENCE):
        return
    serve = [worker for worker in found.live if worker.serves(run.queue)]
    if not serve:
        yield reasons.Unserved(queue=run.queue, live=len(found.live))
    elif run.ready and not any(worker.knows(run.workflow, run.version) for worker in serve):
        yield reasons.Unknown(queue=run.queue, workflow=label(run.workflow, run.version))


def _queued(run: WorkflowRun, found: Evidence) -> Found:
    if not run.ready or any(_without_worker(run, found)):
        return
    if overdue.waits_to_be_alone(run):
        yield reasons.Alone(deaths=run.recoveries)
    elif ahead := found.ahead.get(run.id, 0):
        most = evidence.MOST_AHEAD
        yield reasons.Behind(queue=run.queue, ahead=min(ahead, most), at_least=ahead >= most)
    elif not any(_held(run, found)) and not any(_limited(run, found)):
        yield reasons.Next(queue=run.queue)


def _suspended(run: WorkflowRun, found: Evidence) -> Found:
    waits = _waits(run, found)
    if run.ready or run.owner_id is not None or not waits:
        return
    yield why_waits.of_wait(run, waits[0], found)
    if len(waits) > 1:
        yield reasons.Others(number=len(waits) - 1)


def _expires(run: WorkflowRun, _found: Evidence) -> Found:
    """Yield until when it must have started, beside why it has not."""
    expires_at = policies.read(run.policies).expires_at
    if expires_at is not None and run.started_at is None:
        yield reasons.Expiring(until=expires_at)


def _owned(run: WorkflowRun, found: Evidence) -> Found:
    if run.owner_id is None:
        return
    worker = found.workers.get(run.owner_id)
    report = worker.reports.get(run.id) if worker is not None else None
    step = (report.step or "") if report is not None else ""
    if worker is None:
        yield reasons.Gone()
    elif worker.gone:
        yield reasons.Gone(worker=worker.name, step=step)
    elif worker.silent:
        yield reasons.Silent(worker=worker.name, silent=worker.heartbeat_age, step=step)
    else:
        since = report.since if report is not None else None
        yield reasons.Working(
            worker=worker.name, step=step, took=None if since is None else reading.age(since, found.now),
            attempt=report.attempt if report is not None else 1, heartbeat=worker.heartbeat_age,
        )  # fmt: skip
    if report is not None and report.blocks_at:
        yield reasons.Blocking(place=report.blocks_at)


def _stopping(run: WorkflowRun, found: Evidence) -> Found:
    if run.state == STOPPING:
        yield reasons.Stopping(ending=run.ending or CANCELLED, undoes=run.has_undo, left=found.undo_left.get(run.id, 0))


def _scheduled(run: WorkflowRun, _found: Evidence) -> Found:
    """Yield which schedule has started it: the run's key names that."""
    if run.scheduled_for is not None and run.key is not None:
        yield reasons.Scheduled(schedule=run.key.rpartition("@")[0], at=run.scheduled_for)


#: The first that holds is why a run does not move.
_ORDER: tuple[Callable[[WorkflowRun, Evidence], Found], ...] = (
    _parked,
    _paused,
    _held,
    _without_worker,
    _limited,
    # A singleton that is held is a wait, of a run that is suspended.
    _queued,
    _suspended,
    _expires,
    _owned,
    _stopping,
    _scheduled,
)


# -- what they go by -----------------------------------------------------------------------------------


def _interrupted(run: WorkflowRun, cut_off: Sequence[CutOff], said: Sequence[Reason]) -> Found:
    """Yield that its workers died, which is no reason for itself; `Alone` says so already."""
    if run.recoveries and run.state in (*GOING_ON, STOPPING) and not _has(said, reasons.Alone):
        steps = ", ".join(dict.fromkeys(cut.step for cut in cut_off))
        yield reasons.Interrupted(times=run.recoveries, step=steps)


def _ended(run: WorkflowRun, found: Evidence) -> Found:
    if run.state == COMPLETED:
        yield reasons.Completed(at=run.finished_at, took=reading.duration(run, found.now))
    elif run.state == FAILED:
        yield reasons.Failed(at=run.finished_at, error=found.errors.get(run.id), reason=run.reason)
    else:
        by, _at, _said = _control(run, "cancel")
        yield reasons.Cancelled(at=run.finished_at, by=by, why=run.reason)
        yield from _scheduled(run, found)


def _control(run: WorkflowRun, what: str) -> tuple[str, datetime | None, str]:
    """Return by whom, when and why the run was last called so; nothing where another call came later."""
    return (run.control_by, run.control_at, run.control_reason) if run.control == what else ("", None, "")


def _waits(run: WorkflowRun, found: Evidence) -> Sequence[OpenWait]:
    return [wait for wait in found.waits.get(run.id, ()) if wait.kind not in NO_WAITS]


def _is_late(run: WorkflowRun, found: Evidence, patience: float) -> bool:
    """Tell whether a timer of a suspended run is due for so many seconds."""
    waits = _waits(run, found) if run.state in (*SUSPENDED, STOPPING) and not run.ready else ()
    due = [wait.due_at for wait in waits if wait.due_at is not None and not wait.held]
    return bool(due) and min(due) < found.now - timedelta(seconds=patience)


def _is_stuck(run: WorkflowRun, found: Evidence, said: Sequence[Reason]) -> bool:
    if _has(said, reasons.Silent, reasons.Gone) or _is_late(run, found, overdue.STUCK_AFTER):
        return True
    if not run.ready or not _has(said, reasons.Unserved, reasons.Unknown):
        return False
    since = max(at for at in (run.created_at, run.continued_at, run.control_at) if at is not None)
    return reading.age(since, found.now) > overdue.MAX_AGE


def _without_payloads(reason: Reason) -> Reason:
    values = reason.values()
    hidden: dict[str, Any] = {name: None if name == "error" else "" for name in ("error", "why") if name in values}
    for name in {"reason", "trouble"} & values.keys():  # What kind of error it was comes first.
        hidden[name] = values[name].partition(":")[0]
    return replace(reason, **hidden)


def _has(said: Sequence[Reason], *kinds: type[Reason]) -> bool:
    return any(isinstance(reason, kinds) for reason in said)
