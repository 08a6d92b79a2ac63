"""What happened to a run, for whoever wants to know: sent after the commit, at most once.

Work that must happen is a step; a receiver that fails is logged and never breaks a run. The sender is the
`Workflow`, or `None` where this process does not know it. The engine sends through `announce`.
"""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal

logger = logging.getLogger("canx_flow.signals")

run_started = Signal()
run_suspended = Signal()
run_resumed = Signal()
run_completed = Signal()
run_failed = Signal()
run_cancelled = Signal()
run_parked = Signal()
step_completed = Signal()
step_failed = Signal()

ALL = (
    run_started, run_suspended, run_resumed, run_completed, run_failed, run_cancelled, run_parked, step_completed,
    step_failed,
)  # fmt: skip


def announce(signal: Signal, sender: Any, **kwargs: Any) -> None:
    """Send to every receiver; never raises. Ask `signal.has_listeners(sender)` first if `kwargs` cost anything."""
    if not signal.has_listeners(sender):
        return
    try:
        signal.send_robust(sender, **kwargs)  # Logs each receiver's exception on django.dispatch.
    except Exception:
        # What it does not catch: async receivers called from a running loop, a receiver without a name to log.
        logger.exception("A signal could not be sent to all of its receivers")
