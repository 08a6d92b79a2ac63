"""The calls about any run from outside a worker, whatever its workflow.

`Workflow`, the admin, the commands and the bulk verbs of the queryset call these functions. Everything happens in the
caller's transaction on the runs' database; workers are told after its commit.
"""

from __future__ import annotations

from .bulk import bulk_cancel, bulk_retry
from .controls import acancel, apause, aresume, aretry, awake, cancel, pause, resume, retry, wake
from .each import cancel_each, pause_each, resume_each, retry_each, wake_each
from .events import asend, asend_event, send, send_event
from .forking import afork, fork
from .reading import aget_run, get_run, runs
from .results import aresult, result
from .starting import arerun, rerun, start, start_many

__all__ = [
    "acancel",
    "afork",
    "aget_run",
    "apause",
    "arerun",
    "aresult",
    "aresume",
    "aretry",
    "asend",
    "asend_event",
    "awake",
    "bulk_cancel",
    "bulk_retry",
    "cancel",
    "cancel_each",
    "fork",
    "get_run",
    "pause",
    "pause_each",
    "rerun",
    "result",
    "resume",
    "resume_each",
    "retry",
    "retry_each",
    "runs",
    "send",
    "send_event",
    "start",
    "start_many",
    "wake",
    "wake_each",
]
