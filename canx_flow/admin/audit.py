"""Who did what to which run, why, and what came of it: an entry in the admin's own log for each run.

Kept in the admin's own database, on the page "History"; why, for those who may see payloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest

from ..models import WorkflowRun
from .verbs import Outcome

_REASON = " Reason: "


def log(request: HttpRequest, done: Sequence[tuple[WorkflowRun, Outcome]], reason: str) -> None:
    """Add one entry per run. Written in English, as Django writes its own: a log must not depend on its reader."""
    runs_by_message: dict[str, list[WorkflowRun]] = {}
    for run, outcome in done:
        runs_by_message.setdefault(outcome.logged, []).append(run)
    for message, runs in runs_by_message.items():
        note(request, runs, message, reason)


def note(request: HttpRequest, things: Sequence[Any], message: str, reason: str = "") -> None:
    """Add an entry with this message for each of these."""
    user: Any = request.user
    LogEntry.objects.log_actions(user.pk, things, CHANGE, f"{message}{_REASON}{reason}" if reason else message)


def without_reason(message: str) -> str:
    """Return the message of an entry without why it was done. What Django writes itself, as JSON, has no reason."""
    return message if message.startswith("[") else message.partition(_REASON)[0]
