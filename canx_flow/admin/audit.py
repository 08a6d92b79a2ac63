"""Who did what to which run, why, and what came of it: an entry in the admin's own log for each run.

The run itself keeps the last call only (`control…`); the log keeps all, in its own database, on the page "History".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest

from ..models import WorkflowRun
from .verbs import Outcome


def log(request: HttpRequest, done: Sequence[tuple[WorkflowRun, Outcome]], reason: str) -> None:
    """Add one entry per run. Written in English, as Django writes its own: a log must not depend on its reader."""
    runs_by_message: dict[str, list[WorkflowRun]] = {}
    for run, outcome in done:
        runs_by_message.setdefault(_message(outcome, reason), []).append(run)
    user: Any = request.user
    for message, runs in runs_by_message.items():
        LogEntry.objects.log_actions(user.pk, runs, CHANGE, message)


def _message(outcome: Outcome, reason: str) -> str:
    return f"{outcome.logged} Reason: {reason}" if reason else outcome.logged
