"""The receiver that sends Django's signals (`canx_flow.signals`): which fact is which signal, and with what.

The sender is the run's `Workflow`, or `None` where this process does not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

from django.dispatch import Signal

from .. import signals
from ..core import registry
from . import facts
from .announcing import announce
from .facts.runs import Fact, RunFact

#: By kind of fact: the signal, and the fact's attributes that it carries beside `run_id` and `workflow`.
SIGNALS: dict[type[Fact], tuple[Signal, tuple[str, ...]]] = {
    facts.RunStarted: (signals.run_started, ()),
    facts.RunSuspended: (signals.run_suspended, ("state",)),
    facts.RunResumed: (signals.run_resumed, ()),
    facts.RunCompleted: (signals.run_completed, ()),
    facts.RunFailed: (signals.run_failed, ()),
    facts.RunTimedOut: (signals.run_failed, ()),
    facts.RunCancelled: (signals.run_cancelled, ()),
    facts.RunParked: (signals.run_parked, ("reason",)),
    facts.RunStillParked: (signals.run_parked, ("reason",)),
    facts.StepCompleted: (signals.step_completed, ("step", "attempt")),
    facts.AttemptFailed: (signals.step_failed, ("step", "attempt", "error")),
}


class _Signals:
    """Sends each fact as its signal."""

    calls_project = True

    def wanting(self, kind: type[Fact]) -> Callable[[], object] | None:
        """Return what tells whether the signal of this kind has a receiver."""
        found = SIGNALS.get(kind)
        return partial(getattr, found[0], "receivers") if found is not None else None

    def receive(self, fact: Fact) -> None:
        """Send its signal."""
        assert isinstance(fact, RunFact)
        signal, names = SIGNALS[type(fact)]
        run = fact.run
        sender = registry.get(run.workflow, run.version)
        _send(signal, sender, run_id=run.id, workflow=run.workflow, **{name: attrgetter(name)(fact) for name in names})


RECEIVER = _Signals()


def _send(signal: Signal, sender: Any, **kwargs: Any) -> None:
    """Send to every receiver; never raises."""
    if not signal.has_listeners(sender):
        return
    try:
        signal.send_robust(sender, **kwargs)  # Logs each receiver's exception on django.dispatch.
    except Exception as error:  # noqa: BLE001 - async receivers called from a running loop, a receiver without a name
        announce(facts.SignalNotSent(error))
