"""What a schedule is: declared by `schedule(…)`, checked there, and stored as text that any worker can tick by.

Registered here by name, as workflows are in `registry`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType
from typing import Any

from . import codec, naming
from .definition import Definition
from .options import checked_priority
from .recurrence import Recurrence, stamp
from .schedule_options import checked_rule, checked_span, one_of

#: What becomes of a tick while the run before it has not ended; and of ticks that no worker was there for.
OVERLAPS = ("skip", "buffer_one", "buffer_all", "cancel_other", "allow_all")
CATCH_UPS = ("none", "one", "all")

_MOST_NAME = 200  # the run's key is longer by the moment


@dataclass(frozen=True)
class Starting:
    """What each run of a schedule is started as."""

    workflow: str
    version: str
    arguments: str
    queue: str
    priority: int
    timeout: float | None
    fingerprint: str


@dataclass(frozen=True)
class Scheduled:
    """A schedule: when it ticks, what it starts then, and what it does about runs and ticks before."""

    name: str
    starting: Starting
    recurrence: Recurrence
    overlap: str
    catch_up: str
    catch_up_window: timedelta
    expires: timedelta | None

    @property
    def spec(self) -> str:
        """The rest of it beside name, workflow and arguments, as it is stored: equal for equal schedules."""
        rule, starting = self.recurrence, self.starting
        return json.dumps(
            {
                "cron": rule.cron,
                "every": _number(rule.every),
                "offset": _number(rule.offset),
                "tz": rule.tz,
                "window": _number(rule.window),
                "start_at": rule.start_at and stamp(rule.start_at),
                "end_at": rule.end_at and stamp(rule.end_at),
                "overlap": self.overlap,
                "catch_up": self.catch_up,
                "catch_up_window": _number(self.catch_up_window),
                "expires": _number(self.expires),
                "queue": starting.queue,
                "priority": starting.priority,
                "timeout": starting.timeout,
                "fingerprint": starting.fingerprint,
            }
        )

    @property
    def rule(self) -> str:
        """When it ticks, in the words in which it was declared: `0 2 * * *`, `every 5 min`."""
        if self.recurrence.cron is not None:
            return self.recurrence.cron
        return f"every {_spoken(self.recurrence.every or timedelta(0))}"

    @classmethod
    def stored(cls, name: str, workflow: str, version: str, arguments: str, spec: str) -> Scheduled:
        """Return the schedule that a row holds."""
        held = json.loads(spec)
        rule = Recurrence(
            name, held["cron"], _delta(held["every"]), _delta(held["offset"]) or timedelta(0), held["tz"],
            _delta(held["window"]) or timedelta(0), _moment(held["start_at"]), _moment(held["end_at"]),
        )  # fmt: skip
        starting = Starting(
            workflow, version, arguments, held["queue"], held["priority"], held["timeout"], held["fingerprint"]
        )
        return cls(
            name, starting, rule, held["overlap"], held["catch_up"],
            _delta(held["catch_up_window"]) or timedelta(0), _delta(held["expires"]),
        )  # fmt: skip

    @classmethod
    def declared(
        cls,
        name: str,
        workflow: Any,
        *,
        cron: str | None = None,
        every: timedelta | float | None = None,
        offset: timedelta | float = timedelta(0),
        tz: str | None = None,
        args: Sequence[Any] = (),
        queue: str | None = None,
        priority: int | None = None,
        overlap: str = "skip",
        catch_up: str = "one",
        catch_up_window: timedelta | float = timedelta(days=1),
        window: timedelta | float = timedelta(0),
        start_at: datetime | None = None,
        end_at: datetime | None = None,
        expires: timedelta | float | None = None,
    ) -> Scheduled:
        """Return the schedule of these arguments of `schedule`; ValueError or TypeError names what is wrong."""
        name = naming.checked(name, "schedule name", _MOST_NAME)
        if "@" in name:
            raise ValueError(f"schedule name {name!r} must not contain @: the key of a run is name@moment")
        if not isinstance(workflow, Definition):
            raise TypeError(f"workflow must be a workflow, not {type(workflow).__name__}")
        if not isinstance(args, (tuple, list)):
            raise TypeError(f"args must be a tuple of arguments, not {type(args).__name__}")
        if misfit := workflow.misfit(args, {}):
            raise ValueError(f"args: {misfit}")
        rule = checked_rule(name, cron, every, offset, tz, window, start_at, end_at)
        lifetime = None if expires is None else checked_span(expires, "expires", positive=True)
        starting = Starting(
            workflow.name,
            workflow.version,
            codec.dumps([list(args), {}], f"args of schedule {name!r}"),
            workflow.queue if queue is None else naming.checked(queue, "queue", 100),
            workflow.priority if priority is None else checked_priority(priority),
            workflow.timeout,
            workflow.fingerprint,
        )
        return cls(
            name,
            starting,
            rule,
            one_of(overlap, "overlap", OVERLAPS),
            one_of(catch_up, "catch_up", CATCH_UPS),
            checked_span(catch_up_window, "catch_up_window"),
            lifetime,
        )


# -- as it is stored -------------------------------------------------------------------------------


def _number(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _delta(number: float | None) -> timedelta | None:
    return None if number is None else timedelta(seconds=number)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _spoken(span: timedelta) -> str:
    number = span.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if number >= size and number % size == 0:
            return f"{number / size:g} {unit}"
    return f"{number:g} s"


# -- what this process declares --------------------------------------------------------------------

_declared: dict[str, Scheduled] = {}
#: The execution of its module in which each was declared.
_executions: dict[str, Any] = {}


def add(scheduled: Scheduled, frame: FrameType | None = None) -> None:
    """Register a declaration, made in this frame. A name that is taken is refused, unless its module was reloaded."""
    execution = None if frame is None else frame.f_globals.get("__spec__")
    known = _executions.get(scheduled.name)
    if scheduled.name in _declared and execution is not None and known is execution:
        raise ValueError(f"schedule name {scheduled.name!r} is taken: two schedules have it")
    if scheduled.name in _declared and getattr(known, "name", "") != getattr(execution, "name", ""):
        raise ValueError(
            f"schedule name {scheduled.name!r} is taken: {getattr(known, 'name', 'another module')} declares it, too"
        )
    _declared[scheduled.name] = scheduled
    _executions[scheduled.name] = execution


def caller() -> FrameType:
    """Return the frame of the module that calls the function which calls this."""
    return sys._getframe(2)


def get(name: str) -> Scheduled | None:
    return _declared.get(name)


def declared() -> list[Scheduled]:
    """Return every schedule that this process declares, in the order of names."""
    return [_declared[name] for name in sorted(_declared)]


def names() -> list[str]:
    """Return the names of what this process declares, sorted."""
    return sorted(_declared)


def forget(name: str) -> None:
    """Take a schedule out again; for tests."""
    _declared.pop(name, None)
    _executions.pop(name, None)
