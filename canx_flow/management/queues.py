"""`flow queues` and `flow queue`: queues as lines and as facts, and what may be done to them.

Called by the command.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from .. import conf
from ..client import queues as verbs
from ..core import clock
from ..core.queue_limits import AS_SETTINGS, NAMES
from ..insight import queues
from ..insight.queues import Queue
from ..insight.speech import when
from . import facts, given
from .terminal import Terminal

_NONE = "none"


def listed(terminal: Terminal, *, json: bool) -> Iterator[str]:
    """Yield a paragraph for each queue, those that need someone first; and a line for each workflow that is paused."""
    found, paused = _all(), queues.paused_workflows(conf.get().database)
    if json:
        workflows = [{"workflow": row.workflow, "paused_by": row.by, "paused_reason": row.reason} for row in paused]
        yield facts.text({"queues": [_facts(queue) for queue in found], "workflows": workflows})
        return
    for queue in found:
        yield from _lines(terminal, queue)
    for row in paused:
        yield terminal.paint(f"workflow {row.workflow} is paused{_paused(row.by, row.at, row.reason)}", "WARNING")


def _all() -> Sequence[Queue]:
    return queues.read(conf.get().database, clock.now()).rows


def _facts(queue: Queue) -> dict[str, Any]:
    """Return a queue for programs."""
    state = queue.state
    return {
        "queue": queue.name, "due": queue.due, "running": queue.running,
        "workers": sum(worker.lives for worker in queue.workers),
        "paused": state is not None and state.paused,
        "paused_by": state.paused_by if state is not None else "",
        "paused_reason": state.paused_reason if state is not None else "",
        "limits": queue.limits, "set_by_operator": sorted(queue.chosen),
    }  # fmt: skip


def _lines(terminal: Terminal, queue: Queue) -> Iterator[str]:
    due = f"{queue.due:,} or more" if queue.is_capped else f"{queue.due:,}"
    live = sum(worker.lives for worker in queue.workers)
    yield terminal.strong(queue.name)
    said = f"  {due} due, {queue.running:,} running, {live} live worker{'' if live == 1 else 's'}"
    yield said if live or not queue.due else terminal.paint(said, "WARNING")
    if queue.state is not None and queue.state.paused:
        about = _paused(queue.state.paused_by, queue.state.paused_at, queue.state.paused_reason)
        yield terminal.paint(f"  paused{about}", "WARNING")
    if queue.limits:
        yield f"  {_limits(queue)}"


def _paused(by: str, at: Any, reason: str) -> str:
    moment = f" {when(at, clock.now())}" if at is not None else ""
    return f"{f' by {by}' if by else ''}{moment}{f': {reason}' if reason else ''}"


def _limits(queue: Queue) -> str:
    """Write the limits in force; those that an operator has set are marked."""
    return ", ".join(
        f"{name} {_NONE if value is None else value}{' (operator)' if name in queue.chosen else ''}"
        for name, value in queue.limits.items()
    )


def act(options: dict[str, Any]) -> Iterator[str]:
    """Do what `flow queue WHAT NAME` asks for; yield what came of it."""
    name, workflow = options["name"], options["workflow"]
    said = _done(options["what"], name, options["option"], options["reason"], workflow=workflow)
    if options["json"]:
        found = [] if workflow else [queue for queue in _all() if queue.name == name]
        yield facts.text(_facts(found[0]) if found else {})
    else:
        yield said


def _done(what: str, name: str, options: Sequence[str], reason: str, *, workflow: bool) -> str:
    """Do it to the queue, or to the workflow, of this name; return what came of it."""
    thing = f"workflow {name}" if workflow else f"queue {name}"
    if options and what != "limits":
        given.refuse(f"{options[0]} belongs to limits")
    if what == "pause":
        (verbs.pause_workflow if workflow else verbs.pause)(name, reason, by=given.who())
        return f"{thing} is paused"
    if what == "resume":
        resume = verbs.resume_workflow if workflow else verbs.resume
        return f"{thing} is resumed" if resume(name, by=given.who()) else f"{thing} was not paused"
    if workflow:
        given.refuse("limits are a queue's: leave out --workflow")
    found = verbs.limits(name, by=given.who(), **dict(_option(text) for text in options))
    said = {key: getattr(found, key) for key in NAMES if getattr(found, key) is not None}
    return f"{thing}: {', '.join(f'{key} {value}' for key, value in said.items()) or 'no limits'}"


def _option(text: str) -> tuple[str, Any]:
    """Read `concurrency=5`, `rate=none` or `aging=settings`."""
    name, is_there, value = text.partition("=")
    if not is_there:
        given.refuse(f"{text} is no OPTION=VALUE, such as concurrency=5, rate=none or aging={AS_SETTINGS}")
    if value in (_NONE, AS_SETTINGS):
        return name, None if value == _NONE else value
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
