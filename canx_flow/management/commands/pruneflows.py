"""`manage.py pruneflows`: forget runs that ended long ago. For cron, beside live workers and beside itself."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from django.core.management import BaseCommand
from django.core.management.base import CommandParser

from canx_flow import conf, states
from canx_flow.core import clock
from canx_flow.core.pretty import counted
from canx_flow.management import facts, given
from canx_flow.management.connection import own_connection
from canx_flow.management.refusals import plainly
from canx_flow.management.terminal import Terminal
from canx_flow.store import forgetting, leases, pruning
from canx_flow.store.pruning import Old
from canx_flow.store.repeats import patiently

MOST_AT_ONCE = 5000
_KEEP_WORKERS = timedelta(days=1)


class Command(BaseCommand):
    help = (
        "Delete runs that ended longer ago than the retention, with their records, timers and events, in batches. "
        "Never a child whose parent is unfinished. Also forgets broadcasts older than EVENT_DAYS and workers that "
        "left a day ago. Exit codes: 0 done, 1 not done, 2 wrong arguments."
    )
    # As for `flow`: what is wrong with CANX_FLOW is said anyway, and another database may be away.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--older-than", type=_days, metavar="DAYS", help="Days since the run ended; default: RETENTION_DAYS.")
        add("--workflow", action="append", metavar="NAME", help="Only of this workflow; repeatable.")
        ended = ", ".join(states.ENDED)
        add("--state", action="append", choices=states.ENDED, metavar="STATE", help=f"Only these; repeatable: {ended}.")
        add("--batch-size", type=int, default=1000, metavar="N", help="Runs in one transaction at most (1000).")
        add("--dry-run", action="store_true", help="Count, and change nothing.")
        add("--json", action="store_true", help="Print JSON, for programs.")

    def handle(self, *_args: Any, **options: Any) -> None:
        given.check_texts(options)
        self.terminal = Terminal(self.stdout, self.style, colours=True if options.get("force_color") else None)
        given.within("--batch-size", options["batch_size"], 1, MOST_AT_ONCE)
        with plainly():
            old = _old(options)
            alias = conf.get().database
            if options["dry_run"]:
                self._count(alias, old, options)
            else:
                self._prune(alias, old, options)

    def _count(self, alias: str, old: Old, options: dict[str, Any]) -> None:
        found = pruning.count(alias, old)
        if options["json"]:
            rows = [{"workflow": workflow, "state": state, "runs": runs} for workflow, state, runs in found]
            self.terminal.say(facts.text({"dry_run": True, "before": facts.iso(old.before), "runs": rows}))
            return
        for workflow, state, runs in found:
            self.terminal.say(f"{runs:>10,}  {self.terminal.colour(f'{state:<9}', state)}  {workflow}")
        total = sum(runs for _, _, runs in found)
        self.terminal.say(f"{total:>10,}  would be deleted: they ended before {old.before:%Y-%m-%d %H:%M:%S %Z}")

    def _prune(self, alias: str, old: Old, options: dict[str, Any]) -> None:
        def told(runs: int) -> None:
            if options["verbosity"] > 1 and not options["json"]:
                self.terminal.say(f"{runs:>10,}  in this batch")

        with own_connection(alias):
            runs = pruning.prune(alias, old, options["batch_size"], told)
            sent, workers = _forget_the_rest(alias)
        if options["json"]:
            deleted = {"runs": runs, "events": sent, "workers": workers}
            self.terminal.say(facts.text({"dry_run": False, "before": facts.iso(old.before), "deleted": deleted}))
        else:
            found = f"{counted(runs, 'run')}, {counted(sent, 'old event')}, {counted(workers, 'worker')} that had left"
            self.terminal.say(f"Deleted {found}.")


def _days(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of days, such as 30, not {text!r}") from None


def _old(options: dict[str, Any]) -> Old:
    days = options["older_than"] if options["older_than"] is not None else conf.get().retention_days
    if days is None:
        given.refuse('How long are runs kept? Give --older-than DAYS, or set CANX_FLOW["RETENTION_DAYS"].')
    given.within("--older-than", days, 0, conf.MOST_DAYS)
    return Old(clock.now() - timedelta(days=days), options["workflow"] or (), options["state"] or states.ENDED)


def _forget_the_rest(alias: str) -> tuple[int, int]:
    """Delete what workers delete a little at a time, for where none is running, or much has gathered."""
    now = clock.now()
    before = now - timedelta(days=conf.get().event_days)
    sent = forgetting.forget_all(alias, before) + pruning.forget_orphans(alias)
    return sent, patiently(alias, lambda: leases.forget_ended(now - _KEEP_WORKERS))
