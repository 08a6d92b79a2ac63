"""The banner above the pages of runs and workers: what keeps runs from getting done, and the command that mends it.

Called by the template tag `canx_banner`. What is found is `insight.pulse`'s, a few seconds old.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ..core.naming import label
from ..insight import overdue, pulse, speech
from ..insight.advice import worker_for
from ..insight.pulse import Pulse
from ..insight.speech import span
from . import fragments

if TYPE_CHECKING:
    from ..insight.serving import Serving


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is wrong. `level`: `bad`, or `warn`."""

    level: str
    text: SafeString
    command: str = ""


def lines() -> list[Line]:
    """Return what is wrong, the worst first; nothing if all is well, or if that is not known."""
    found = pulse.recent()
    if found is None:
        return []
    said = [*_unserved(found), *_late(found), *_unknown(found), *_no_worker(found), *_silent(found)]
    return sorted(said, key=lambda line: line.level)


def _unserved(found: Pulse) -> Iterator[Line]:
    for queue, (due, age) in found.unserved.items():
        runs = ngettext(
            "No live worker serves {queue}: {due} run is due, for {age}. Start one:",
            "No live worker serves {queue}: {due} runs are due, the oldest for {age}. Start one:",
            due,
        )
        text = format_html(runs, queue=fragments.name(queue), due=_number(due), age=span(age))
        yield Line("bad", text, f"manage.py {worker_for(queue)}")


def _late(found: Pulse) -> Iterator[Line]:
    """Yield that timers are late though a worker is live; without one that goes without saying."""
    stuck = found.health.stuck
    if stuck and found.health.live:
        text = ngettext(
            "{number} timer is due and not acted on, for {age}.",
            "{number} timers are due and not acted on, the oldest for {age}.",
            len(stuck),
        )
        yield Line("bad", format_html(text, number=_number(len(stuck)), age=span(stuck[0].age)))


def _unknown(found: Pulse) -> Iterator[Line]:
    for (workflow, version), number in found.unknown.items():
        text = ngettext(
            "No live worker knows {workflow}: {number} run waits. Start one with the code that has it.",
            "No live worker knows {workflow}: {number} runs wait. Start one with the code that has it.",
            number,
        )
        name = fragments.name(label(workflow, version))
        yield Line("bad", format_html(text, workflow=name, number=_number(number)))


def _no_worker(found: Pulse) -> Iterator[Line]:
    if found.left and not found.unserved:
        text = _("No worker is live: what sleeps or waits does not go on. Start one:")
        yield Line("warn", format_html("{}", text), f"manage.py {worker_for(None)}")


def _silent(found: Pulse) -> Iterator[Line]:
    silent = found.silent
    if silent:
        names = format_html_join(", ", "{}", ((_silent_since(each),) for each in silent[:3]))
        text = ngettext("{number} worker is silent: {names}.", "{number} workers are silent: {names}.", len(silent))
        yield Line("warn", format_html(text, number=speech.number(len(silent)), names=names))


def _silent_since(worker: Serving) -> SafeString:
    return format_html(_("{worker} for {span}"), worker=fragments.name(worker.name), span=span(worker.heartbeat_age))


def _number(count: int) -> str:
    said = speech.number(count)
    return _("{number} or more").format(number=said) if count >= overdue.MOST else said
