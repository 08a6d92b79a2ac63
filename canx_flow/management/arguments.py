"""What may be typed after `manage.py flow`. Called by the command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser

from .. import states
from .given import LEAST_ENDING, LEAST_PREFIX

Add = Callable[..., argparse.ArgumentParser]

_VALUES = (
    "Arguments and payloads are JSON, and what is no JSON is text: 7 is a number, ada is a text, and so is '\"7\"'."
)
_BOTH_SENDS = "%(prog)s [options] RUN EVENT [PAYLOAD]\n       %(prog)s [options] --broadcast EVENT [PAYLOAD]"
_CONTROL = {
    "cancel": "End runs. A step in flight may finish, nothing further starts; what has an undo is undone.",
    "retry": "Let failed or parked runs go on; finished steps are kept.",
    "rerun": "Start runs anew with the same arguments, under new ids.",
    "pause": "Start no further step of these runs.",
    "resume": "Let paused runs go on.",
    "wake": "Have the nearest timer of each run count as due.",
}


ACTIONS = (
    "list", "show", "why", "export", "versions", "limits", "schedules", "schedule", "queues", "queue", "start", "fork",
    "send", *_CONTROL,
)  # fmt: skip


def add(parser: CommandParser) -> None:
    """Add one sub-command per action, each with `--json`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")

    def add_action(name: str, text: str, traceback: str = argparse.SUPPRESS, **more: Any) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=text, **more)
        action.add_argument("--json", action="store_true", help="Print JSON, for programs.")
        _add_base(action, traceback)
        return action

    _add_reading(add_action)
    _add_schedules(add_action)
    _add_queues(add_action)
    _add_start(add_action)
    _add_fork(add_action)
    _add_send(add_action)
    for name, text in _CONTROL.items():
        _add_control(add_action, name, text)


def _add_reading(add_action: Add) -> None:
    add = add_action("list", "List runs, the newest first.").add_argument
    add("--workflow", action="append", metavar="NAME", help="Only of this workflow; repeatable.")
    one_of = f"One of {', '.join(states.ALL)}."
    add("--state", action="append", choices=states.ALL, metavar="STATE", help=f"Only in this; repeatable. {one_of}")
    add("--key", help="Only with this idempotency key.")
    add("--queue", action="append", metavar="NAME", help="Only of this queue; repeatable.")
    add("--subject", metavar="APP.MODEL:KEY", help="Only about this object, be it gone: shop.Order:7.")
    add("--since", metavar="WHEN", help="Started since then: 2h, 30d, or a date and time.")
    add("--limit", type=int, default=20, metavar="N", help="At most N runs (20).")
    add("--ids", action="store_true", help="Print ids alone, as for xargs; with --json as a list.")
    show = "Draw a run's timeline: steps, attempts, waits, events. -v 2 adds results and payloads."
    _add_run(add_action("show", show, traceback="Also print the tracebacks of the run's errors."))
    _add_run(add_action("why", "Say why a run does not move, what it does, or how it ended; and what can be done."))
    export = add_action("export", "Write a run's history as JSON, which flowreplay reads: for golden tests.")
    _add_run(export)
    export.add_argument("--output", metavar="FILE", help="Write it there, not to the terminal.")
    add_action("limits", "List the limits of steps: what each allows, and how it stands.")
    add_action("versions", "List workflows: where each is defined, and its runs by state.")


def _add_schedules(add_action: Add) -> None:
    add_action("schedules", "List schedules: their next ticks, and what was skipped.")
    action = add_action("schedule", "Show a schedule, pause or resume it, start a run of it, or fill in missing ticks.")
    add = action.add_argument
    what = ("show", "pause", "resume", "trigger", "backfill")
    add("what", choices=what, metavar="WHAT", help=f"One of {', '.join(what)}.")
    add("name", metavar="NAME")
    add("--reason", default="", help="Stored, for those who ask why.")
    add("--from", dest="start", metavar="MOMENT", help="Of backfill: the first moment, 2026-11-24T08:00.")
    add("--to", dest="end", metavar="MOMENT", help="Of backfill: the last moment.")
    add("--priority", type=int, metavar="N", help="Of backfill: the runs' priority, -100 to 100.")
    add("--dry-run", action="store_true", help="Of backfill: say how many ticks have no run, and start none.")


def _add_queues(add_action: Add) -> None:
    add_action("queues", "List queues: what is due and runs, their limits, and what is paused.")
    action = add_action("queue", "Pause or resume a queue or a workflow, or set limits of a queue.")
    add = action.add_argument
    add("what", choices=("pause", "resume", "limits"), metavar="WHAT", help="pause, resume or limits.")
    add("name", metavar="NAME", help="The queue's name.")
    options = "Of limits: concurrency=5, rate=100/m; none: no such limit; settings: as the settings say."
    add("option", nargs="*", metavar="OPTION=VALUE", help=options)
    add("--workflow", action="store_true", help="NAME is a workflow's: none of its runs is claimed, in any queue.")
    add("--reason", default="", help="Shown with what is paused, for those who ask why.")


def _add_start(add_action: Add) -> None:
    add = add_action("start", "Start a run.", epilog=_VALUES).add_argument
    add("workflow", metavar="NAME[@VERSION]")
    add("argument", nargs="*", metavar="ARG", help="The workflow's arguments.")
    add("--kwargs", metavar="JSON", help="Its keyword arguments: '{\"express\": true}'.")
    add("--key", help="Idempotency key: a run that has it is taken instead of a new one.")
    add("--reject", action="store_true", help="Fail if the key is taken.")
    add("--queue", metavar="NAME")
    add("--partition", metavar="KEY", help="The partition of its queue: a tenant's id, for one.")
    add("--priority", type=int, metavar="N", help="-100 to 100, larger first.")
    add("--delay", metavar="DURATION", help="Not before: 90 (seconds), 15m, 2h, 30d.")
    add("--run-at", metavar="MOMENT", help="Not before: 2026-11-24T08:00, in the project's time zone.")
    add("--timeout", metavar="DURATION", help="The run's deadline, from its first activation.")
    add("--subject", metavar="APP.MODEL:KEY", help="The object it is about: shop.Order:7.")
    add("--attributes", metavar="JSON", help='As in \'{"plan": "pro"}\'.')


def _add_fork(add_action: Add) -> None:
    text = "Start a new run with what a run has stored before one of its steps, and run the rest again."
    action = add_action("fork", text)
    _add_run(action)
    add = action.add_argument
    add("--from", dest="from_step", required=True, metavar="STEP", help="The first step that runs again: charge#2.")
    add("--arguments", metavar="JSON", help="A list in place of the run's own arguments: '[7, \"ada\"]'.")
    add("--kwargs", metavar="JSON", help="Keyword arguments in place of the run's own: '{\"express\": true}'.")
    add("--version", metavar="VERSION", help="The version of the workflow that runs it; '' for the unversioned one.")
    add("--queue", metavar="NAME")
    _add_reason(action)


def _add_send(add_action: Add) -> None:
    text = "Send an event to one run, or with --broadcast to all that wait for it."
    add = add_action("send", text, epilog=_VALUES, usage=_BOTH_SENDS).add_argument
    add("word", nargs="*", metavar="RUN EVENT PAYLOAD", help=argparse.SUPPRESS)
    add("--broadcast", action="store_true", help="To every run that waits, or will, for this event.")
    add("--key", help="Of a broadcast: only for waits with this key.")
    add("--dedup-id", metavar="ID", help="Sent again with the same id, it is not stored again.")


def _add_control(add_action: Add, name: str, text: str) -> None:
    action = add_action(name, text)
    _add_run(action, nargs="+")
    _add_reason(action)
    if name == "cancel":
        action.add_argument("--no-undo", action="store_true", help="Undo nothing, and nothing more.")


def _add_reason(action: argparse.ArgumentParser) -> None:
    action.add_argument("--reason", default="", help="Stored with the run, for those who ask why.")


def _add_run(action: argparse.ArgumentParser, **more: Any) -> None:
    text = f"A run's id, its first {LEAST_PREFIX} characters or more, or its last {LEAST_ENDING} or more."
    action.add_argument("run", metavar="RUN", help=text, **more)


def _add_base(action: argparse.ArgumentParser, traceback: str) -> None:
    """Add Django's own options behind the action, too."""

    def add(*names: str, **more: Any) -> None:
        action.add_argument(*names, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **more)

    for name in ("--settings", "--pythonpath"):
        add(name)
    action.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS, help=traceback)
    for name in ("--no-color", "--force-color"):
        add(name, action="store_true")
    add("-v", "--verbosity", type=int, choices=range(4))
