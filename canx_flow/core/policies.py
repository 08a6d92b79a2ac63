"""Start policies: what `using` says on when a run may start, and what ends it from outside; checked, and as stored.

`singleton`, `debounce`, `expires` and `cancel_on`. Most runs have none of them: then nothing is stored, read or asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import naming
from .durations import later, seconds
from .options import StartOptions

#: Why a run is cancelled that had not started in its time.
EXPIRED = "Expired"
_CONFLICTS = ("existing", "reject", "cancel_other")


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of one run. `debounced`: other starts move it, as long as it has not started, up to `cap`."""

    singleton: str | None = None
    debounced: bool = False
    cap: datetime | None = None
    #: It is cancelled if it has not started by then.
    expires_at: datetime | None = None
    #: The broadcast event, and its key, that cancels it.
    cancel_on: tuple[str, str | None] | None = None

    @property
    def text(self) -> str | None:
        """What `WorkflowRun.policies` holds; `None` if there are none."""
        stored: dict[str, Any] = {
            "singleton": self.singleton,
            "debounced": self.debounced,
            "cap": self.cap and self.cap.isoformat(),
            "expires_at": self.expires_at and self.expires_at.isoformat(),
            "cancel_on": self.cancel_on,
        }
        return json.dumps({name: value for name, value in stored.items() if value}) if any(stored.values()) else None


NONE = Policies()


def read(text: str | None) -> Policies:
    """Return the policies that `WorkflowRun.policies` holds."""
    if not text:
        return NONE
    stored = json.loads(text)
    event = stored.get("cancel_on")
    return Policies(
        stored.get("singleton"), stored.get("debounced", False), _moment(stored, "cap"), _moment(stored, "expires_at"),
        None if event is None else (event[0], event[1]),
    )  # fmt: skip


def _moment(stored: dict[str, Any], name: str) -> datetime | None:
    return datetime.fromisoformat(stored[name]) if name in stored else None


# -- what was given --------------------------------------------------------------------------------


def checked(options: StartOptions, now: datetime, run_at: datetime | None) -> Policies:
    """Return the policies that these options ask for; ValueError or TypeError naming the option that is wrong.

    `run_at`: the moment of a delayed start.
    """
    _check_conflict(options)
    _check_debounce(options)
    if options.singleton is None and options.expires is None and options.cancel_on is None:
        return NONE
    singleton = None if options.singleton is None else naming.checked(options.singleton, "singleton")
    return Policies(
        singleton, options.debounce is not None, _cap(options, now), _expires_at(options, now, run_at),
        _cancel_on(options.cancel_on),
    )  # fmt: skip


def quiet(options: StartOptions) -> float | None:
    """Return the seconds of quiet after which a debounced run starts; `None` if it is not debounced."""
    return None if options.debounce is None else seconds(options.debounce, "debounce", positive=True)


def debounced_at(now: datetime, quiet: float, cap: datetime | None) -> datetime:
    """Return when a debounced run starts if no other start moves it: never later than its cap."""
    due = later(now, quiet, "debounce")
    return due if cap is None else min(due, cap)


def _check_conflict(options: StartOptions) -> None:
    if options.on_conflict not in _CONFLICTS:
        shown = naming.shown(options.on_conflict)
        raise ValueError(f"on_conflict must be 'existing', 'reject' or 'cancel_other', not {shown}")
    if options.on_conflict == "cancel_other" and options.singleton is None:
        raise ValueError("on_conflict='cancel_other' needs singleton=…: by its key alone a run is never cancelled")


def _check_debounce(options: StartOptions) -> None:
    if options.debounce is None:
        if options.debounce_max is not None:
            raise ValueError("debounce_max needs debounce=…, of which it is the limit")
        return
    quiet = seconds(options.debounce, "debounce", positive=True)
    if options.singleton is None:
        raise ValueError("debounce needs singleton=…, by which it finds the run that has not started yet")
    if options.delay is not None or options.run_at is not None:
        raise ValueError("debounce excludes delay and run_at: it says itself when the run starts")
    if options.debounce_max is not None and seconds(options.debounce_max, "debounce_max", positive=True) < quiet:
        raise ValueError("debounce_max must not be shorter than debounce")


def _cap(options: StartOptions, now: datetime) -> datetime | None:
    if options.debounce_max is None:
        return None
    return later(now, seconds(options.debounce_max, "debounce_max", positive=True), "debounce_max")


def _expires_at(options: StartOptions, now: datetime, run_at: datetime | None) -> datetime | None:
    if options.expires is None:
        return None
    moment = later(now, seconds(options.expires, "expires", positive=True), "expires")
    if run_at is not None and moment <= run_at:
        raise ValueError("expires must be longer than the run is delayed: it counts from the call, too")
    quiet = options.debounce if options.debounce_max is None else options.debounce_max
    if quiet is not None and seconds(options.expires, "expires") <= seconds(quiet, "debounce"):
        raise ValueError("expires must be longer than debounce and debounce_max: it counts from the call, too")
    return moment


def _cancel_on(given: Any) -> tuple[str, str | None] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return naming.event_name(given), None
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError("cancel_on must be an event's name, or a tuple of that and its key: ('user.deleted', '42')")
    event, key = given
    if not isinstance(event, str):
        raise TypeError(f"cancel_on must begin with an event's name, a str, not {type(event).__name__}")
    return naming.event_name(event), None if key is None else naming.checked(key, "cancel_on's key")
