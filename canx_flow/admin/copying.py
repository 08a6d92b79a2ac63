"""What may be copied or downloaded of a run, and what the tab of its page is called. Called by the page of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from .. import states
from ..core.pretty import printable
from ..insight.timeline import Timeline
from ..models import WorkflowRun
from ..states import Kind
from . import links, words
from .acting import Button

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: Verbs that `flow` has, too, and that need no more than the run.
_COMMANDS = ("retry", "resume", "wake", "pause", "cancel", "rerun")
_SIGNS = {
    states.COMPLETED: "✓", states.FAILED: "✗", states.CANCELLED: "⊘", states.PARKED: "!", states.PAUSED: "‖",
    states.RUNNING: "▶",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Copy:
    """A text that is worth copying, and what it is."""

    label: str
    text: str


def copies(run: WorkflowRun, site: AdminSite, request: HttpRequest, buttons: Sequence[Button]) -> Iterator[Copy]:
    """Yield what may be copied of a run: its id, its address, and the commands for what this user may do."""
    yield Copy(_("Id"), str(run.id))
    yield Copy(_("Link"), request.build_absolute_uri(links.page(site, WorkflowRun, run.id)))
    yield Copy(_("Show, in a terminal"), f"manage.py flow show {run.id}")
    for button in (each for each in buttons if each["name"] in _COMMANDS):
        label = _("{action}, in a terminal").format(action=button["label"])
        yield Copy(label, f"manage.py flow {button['name']} {run.id}")


def tab(timeline: Timeline) -> str:
    """Return what the browser's tab says: `✗ charge failed · order …1504`."""
    run = timeline.run
    sign, state = _SIGNS.get(run.state, "…"), str(words.RUN_STATES.get(run.state, run.state))
    step = _step(timeline)
    return f"{sign} {f'{printable(step)} ' if step else ''}{state} · {printable(timeline.label)} …{str(run.id)[-4:]}"


def _step(timeline: Timeline) -> str:
    """Return the step that has failed, that runs, or that it waits in; empty if none does."""
    if timeline.error is not None:
        return timeline.error.step or ""
    if timeline.report is not None and timeline.report.step:
        return timeline.report.step
    wait: Any = next((wait for wait in timeline.suspended_on if wait.kind != Kind.START), None)
    return wait.step if wait is not None else ""
