"""`manage.py flowhealth`: whether runs get done, as an exit status, a few lines, or JSON. For probes and people.

What it looks at is in `canx_flow.insight.health`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.core.management.base import CommandParser

from canx_flow import conf
from canx_flow.core.durations import span
from canx_flow.insight import health, overdue
from canx_flow.insight.health import Health, Limits
from canx_flow.insight.overdue import Retrying
from canx_flow.management import facts, given
from canx_flow.management.connection import own_connection
from canx_flow.management.refusals import plainly
from canx_flow.management.terminal import Terminal

_LISTED = 10
_MOST_WORKERS = 1_000_000


class Command(BaseCommand):
    help = (
        "Look whether runs get done: live workers, runs that are due, timers, threads and steps. "
        "Exit codes: 0 healthy, 1 not, 2 wrong arguments. Times are in seconds."
    )
    # A probe asks one database and nothing else.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--min-workers", type=int, default=1, metavar="N", help="Live workers, for each queue named (1).")
        add("--max-age", type=float, default=300.0, metavar="S", help="Of the oldest run that is due (300).")
        add("--stuck-after", type=float, default=60.0, metavar="S", help="After which a due timer is stuck (60).")
        add("--heartbeat-age", type=float, metavar="S",
            help="Of a live worker (LEASE_SECONDS). Allow more where the clocks of hosts differ by more.")  # fmt: skip
        add("--step-age", type=float, default=3600.0, metavar="S", help="Of a step without a timeout (3600).")
        add("--queue", action="append", metavar="NAME", help="Look at this queue only; repeatable.")
        add("--strict", action="store_true",
            help="Abandoned threads, runs that are retrying and long steps are problems, not warnings.")  # fmt: skip
        add("--json", action="store_true", help="Print JSON, for programs.")

    def handle(self, *_args: Any, **options: Any) -> None:
        given.check_texts(options)
        limits = _limits(options)
        self.terminal = Terminal(self.stdout, self.style, colours=True if options.get("force_color") else None)
        try:
            with plainly(), own_connection(conf.get().database):
                found = health.examine(limits)
        except CommandError as exc:
            if options["json"]:
                self.terminal.say(facts.text({"healthy": False, "problems": [str(exc)], "warnings": []}))
            raise
        if options["json"]:
            self.terminal.say(facts.text(_facts(found)))
        else:
            for line in self._lines(found):
                self.terminal.say(line)
        if not found.healthy:
            sys.exit(1)

    def _lines(self, found: Health) -> Iterator[str]:
        yield self.terminal.paint("healthy", "SUCCESS") if found.healthy else self.terminal.paint("unhealthy", "ERROR")
        for name, told in _told(found):
            yield f"  {name:<9} {self.terminal.fit(told, self.terminal.width - 12)}"
        for problem in found.problems:
            yield self.terminal.paint(f"  problem   {problem}", "ERROR")
        for warning in found.warnings:
            yield self.terminal.paint(f"  warning   {warning}", "WARNING")


def _limits(options: dict[str, Any]) -> Limits:
    for name in ("max_age", "stuck_after", "heartbeat_age", "step_age"):
        value = options[name]
        if value is not None:
            given.within(f"--{name.replace('_', '-')}", value, 0, conf.MOST_SECONDS)
    given.within("--min-workers", options["min_workers"], 0, _MOST_WORKERS)
    return Limits(
        min_workers=options["min_workers"], max_age=options["max_age"], stuck_after=options["stuck_after"],
        heartbeat_age=options["heartbeat_age"], step_seconds=options["step_age"],
        queues=tuple(dict.fromkeys(options["queue"] or ())), strict=options["strict"],
    )  # fmt: skip


def _told(found: Health) -> Iterator[tuple[str, str]]:
    """Yield one line for each fact that is examined."""
    live, silent = found.live, len(found.workers) - len(found.live)
    names = ", ".join(worker.name for worker in live[:_LISTED])
    yield "workers", f"{len(live)} live{f' ({names})' if names else ''}" + (f", {silent} silent" if silent else "")
    oldest = f", the oldest for {span(found.oldest.age)}" if found.oldest is not None else ""
    yield "due", f"{_count(found.due)}{oldest}"
    oldest = f", the oldest for {span(found.longest.age)}" if found.longest is not None else ""
    yield "retrying", f"{_count(found.retrying)}{oldest}"
    yield "timers", f"{_count(len(found.stuck))} stuck"
    yield "threads", f"{_count(found.abandoned)} abandoned"
    if found.blocked:
        yield "loops", f"{_count(len(found.blocked))} blocked"
    yield "steps", f"{_count(len(found.long_steps))} without a timeout for over {span(found.limits.step_seconds)}"


def _retrying(longest: Retrying | None) -> dict[str, Any] | None:
    if longest is None:
        return None
    return {
        "run": str(longest.run_id), "workflow": longest.workflow, "age": round(longest.age, 3),
        **facts.of_failing(longest.failing),
    }  # fmt: skip


def _count(rows: int) -> str:
    return f"{rows:,}{' or more' if rows >= overdue.MOST else ''}" if rows else "none"


def _facts(found: Health) -> dict[str, Any]:
    oldest = found.oldest
    return {
        "healthy": found.healthy,
        "problems": list(found.problems),
        "warnings": list(found.warnings),
        "at": facts.iso(found.at),
        "workers": {
            "live": len(found.live),
            "silent": len(found.workers) - len(found.live),
            "abandoned_threads": found.abandoned,
            "list": [
                {
                    "id": str(worker.id), "name": worker.name, "queues": list(worker.queues), "live": not worker.silent,
                    "heartbeat_age": round(worker.heartbeat_age, 3), "abandoned_threads": worker.abandoned,
                }
                for worker in found.workers
            ],
        },
        "due": {
            "count": found.due,
            "oldest": None if oldest is None else {
                "id": str(oldest.run_id), "workflow": oldest.workflow, "queue": oldest.queue,
                "age": round(oldest.age, 3), "alone": oldest.alone, "why": oldest.why,
            },
        },
        "unserved_queues": [{"queue": queue, "due": due} for queue, due in found.unserved.items()],
        "retrying": {"count": found.retrying, "oldest": _retrying(found.longest)},
        "stuck_timers": {
            "count": len(found.stuck),
            "list": [
                {"run": str(stuck.run_id), "step": stuck.step or None, "kind": stuck.kind, "age": round(stuck.age, 3)}
                for stuck in found.stuck[:_LISTED]
            ],
        },
        "blocked_event_loops": [
            {
                "run": str(blocked.run_id), "step": blocked.step, "worker": blocked.worker, "at": blocked.at,
                "age": round(blocked.age, 3),
            }
            for blocked in found.blocked
        ],
        "long_steps": [
            {"run": str(long.run_id), "step": long.step, "worker": long.worker, "age": round(long.age, 3)}
            for long in found.long_steps
        ],
    }  # fmt: skip
