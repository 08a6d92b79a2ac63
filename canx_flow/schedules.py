"""`schedule`: workflows that are started again and again; and what may be asked of a schedule by its name.

Needs neither models nor settings until a schedule is declared: `client`, which does, is imported by the first call.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from django.utils.functional import SimpleLazyObject

from .core import schedules as _declarations
from .core.schedules import Scheduled
from .core.twins import twin
from .workflows import Workflow

if TYPE_CHECKING:
    from .client import schedules as client
else:
    client = SimpleLazyObject(lambda: import_module("canx_flow.client.schedules"))

__all__ = [
    "abackfill", "amissing", "apause", "aresume", "atrigger", "aupcoming", "backfill", "missing", "pause", "resume",
    "schedule", "trigger", "upcoming",
]  # fmt: skip


def schedule(
    name: str,
    workflow: Workflow[..., Any],
    *,
    cron: str | None = None,
    every: timedelta | float | None = None,
    offset: timedelta | float = timedelta(0),
    tz: str | None = None,
    args: tuple[Any, ...] = (),
    queue: str | None = None,
    priority: int | None = None,
    overlap: Literal["skip", "buffer_one", "buffer_all", "cancel_other", "allow_all"] = "skip",
    catch_up: Literal["none", "one", "all"] = "one",
    catch_up_window: timedelta | float = timedelta(days=1),
    window: timedelta | float = timedelta(0),
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    expires: timedelta | float | None = None,
) -> None:
    """Have a workflow started again and again: `schedule("nightly", report, cron="0 2 * * *", tz="Europe/Paris")`.

    Call it in a `workflows` module. `name`: 1 to 200 characters without `@`; each run has the key `<name>@<moment>`.
    Exactly one of `cron` (five fields) and `every` (timedelta or seconds, at least one second; counted from 1970 plus
    `offset`). `tz`: the name of a time zone, in which the fields are read; that of `TIME_ZONE` by default. `args`: what
    each run is given. `queue` and `priority` instead of the workflow's. `overlap`: what becomes of a tick while the run
    before has not ended. `catch_up`: which of the ticks start that no worker was there for, if they are no older than
    `catch_up_window`: none, the last one, or all. `window`: each tick is later by its own share of this. `start_at` and
    `end_at`: aware datetimes, the first and the last moment there may be. `expires`: a run that has not started so long
    after its tick is cancelled.

    ValueError, TypeError or NotSerializable naming the argument that is wrong.
    """
    declared = Scheduled.declared(
        name, workflow, cron=cron, every=every, offset=offset, tz=tz, args=args, queue=queue, priority=priority,
        overlap=overlap, catch_up=catch_up, catch_up_window=catch_up_window, window=window, start_at=start_at,
        end_at=end_at, expires=expires,
    )  # fmt: skip
    _declarations.add(declared, _declarations.caller())


def pause(name: str, reason: str = "", *, by: Any = None) -> bool:
    """Have a schedule not tick until it is resumed; `False` if it was paused already.

    A deployment does not undo it. `reason` and `by` (a user, or any text) are stored. Here and below: ScheduleNotFound
    for a name that no schedule has, OutsideStep in the body of a workflow.
    """
    return client.pause(name, reason, by=by)


def resume(name: str, *, by: Any = None) -> bool:
    """Have a paused schedule tick again, at moments that are to come; `False` if it was not paused."""
    return client.resume(name, by=by)


def trigger(name: str, reason: str = "", *, by: Any = None) -> UUID:
    """Start a run of a schedule now, whether it is paused or busy; its id. The next tick comes as it would have."""
    return client.trigger(name, reason, by=by)


def missing(name: str, start: datetime, end: datetime) -> list[datetime]:
    """Return the moments from `start` to `end`, both included, whose ticks have no run: what `backfill` would start.

    As today's declaration has them. A run that was pruned is missing, too. ValueError for a naive datetime, for an end
    in the future, and for more than 10,000 ticks.
    """
    return client.missing(name, start, end)


def backfill(
    name: str, start: datetime, end: datetime, *, priority: int | None = None, reason: str = "", by: Any = None
) -> list[UUID]:
    """Start the runs of the ticks from `start` to `end` that have none, in one transaction; their ids, in order.

    They are ready at once, whatever the schedule's `overlap`; `priority`: theirs, else the schedule's. ValueError as
    `missing`.
    """
    return client.backfill(name, start, end, priority=priority, reason=reason, by=by)


def upcoming(name: str, n: int = 10) -> list[datetime]:
    """Return the nominal moments of the next `n` ticks, in the schedule's time zone.

    Of a paused schedule those that would come if it were resumed now.
    """
    return client.upcoming(name, n)


apause, aresume, atrigger, amissing = twin(pause), twin(resume), twin(trigger), twin(missing)
abackfill, aupcoming = twin(backfill), twin(upcoming)
