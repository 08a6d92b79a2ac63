"""`manage.py flowreplay`: stored histories replayed against today's code, and where the two part. For CI and deploys.

How is in `canx_flow.histories`: nothing is written, and no step is called.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand
from django.core.management.base import CommandParser

from canx_flow import client, conf, states
from canx_flow.core.pretty import counted
from canx_flow.histories import stored
from canx_flow.histories.history import History, NotAnExport, of_file
from canx_flow.histories.mismatches import Mismatch
from canx_flow.histories.replaying import mismatches
from canx_flow.management import finding, given
from canx_flow.management.refusals import plainly
from canx_flow.management.terminal import Terminal
from canx_flow.models import RunQuerySet

_OF_THE_DATABASE = ("workflow", "state", "since", "limit")


class Command(BaseCommand):
    help = (
        "Replay stored histories against today's code and list where they part. Nothing is written, no step is called. "
        "Exit codes: 0 all fit, 1 some do not, 2 wrong arguments."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("file", nargs="*", metavar="FILE", help="What `flow export` wrote, instead of what the database holds.")
        add("--workflow", action="append", metavar="NAME[@VERSION]",
            help="Only of this workflow, or this version of it; repeatable.")  # fmt: skip
        add("--state", action="append", choices=states.ALL, metavar="STATE",
            help=f"Only in this; repeatable. One of {', '.join(states.ALL)}.")  # fmt: skip
        add("--since", metavar="WHEN", help="Started since then: 2h, 30d, or a date and time.")
        add("--limit", type=int, metavar="N", help="At most N histories, the newest (all).")
        add("--json", action="store_true", help="Print JSON, for programs.")

    def handle(self, *_args: Any, **options: Any) -> None:
        given.check_texts(options)
        self.terminal = Terminal(self.stdout, self.style, colours=True if options.get("force_color") else None)
        with plainly():
            histories = _of_files(options) if options["file"] else self._of_database(options)
            replayed = ((history, mismatches(history)) for history in histories)
            fit = self._write_json(replayed) if options["json"] else self._write(replayed)
        if not fit:
            sys.exit(1)

    def _of_database(self, options: dict[str, Any]) -> Iterator[History]:
        if options["limit"] is not None:
            given.within("--limit", options["limit"], 1, sys.maxsize)
        wanted = list(_wanted(options))
        if change := given.clock_change(options["since"], "--since"):
            self.stderr.write(change)
        return stored.histories(conf.get().database, wanted, options["limit"])

    def _write(self, replayed: Iterator[tuple[History, list[Mismatch]]]) -> bool:
        """Write a paragraph for each history that does not fit; return whether all fit."""
        number = unfit = 0
        for history, found in replayed:
            number, unfit = number + 1, unfit + bool(found)
            if found:
                self.terminal.say(f"{history.run_id}  {self.terminal.strong(history.label)}")
            for mismatch in found:
                for line in self._lines(mismatch):
                    self.terminal.say(line)
        told = f"{unfit:,} of {counted(number, 'run')} {'does' if unfit == 1 else 'do'} not fit today's code."
        told = told if unfit else f"{counted(number, 'run')} replayed: all fit today's code."
        self.terminal.say(self.terminal.paint(told, "ERROR" if unfit else "SUCCESS"))
        return not unfit

    def _lines(self, mismatch: Mismatch) -> Iterator[str]:
        what = f"{mismatch.why} {mismatch.step!r}" if mismatch.step else mismatch.why
        yield f"  {self.terminal.paint(what, 'ERROR')}"
        yield from textwrap.wrap(
            mismatch.message, self.terminal.width, initial_indent="    ", subsequent_indent="    ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip

    def _write_json(self, replayed: Iterator[tuple[History, list[Mismatch]]]) -> bool:
        """Write one object, mismatch by mismatch: there may be more than fit into memory; return whether all fit."""
        number = unfit = 0
        self.stdout.write('{"mismatches": [', ending="")
        between = ""
        for _history, found in replayed:
            number, unfit = number + 1, unfit + bool(found)
            for mismatch in found:
                self.stdout.write(f"{between}\n  {json.dumps(asdict(mismatch))}", ending="")
                between = ","
        self.stdout.write(f'\n], "histories": {number}, "unfit": {unfit}}}')
        return not unfit


def _wanted(options: dict[str, Any]) -> Iterator[RunQuerySet]:
    """Yield the runs that are asked for, apart for each workflow and state."""
    since = given.since(options["since"], "--since")
    for label in options["workflow"] or ("",):
        name, at, version = label.partition("@")
        runs = client.runs().filter(version=version) if at else client.runs()
        yield from finding.Wanted([name] if name else (), options["state"] or (), since=since).narrow(runs)


def _of_files(options: dict[str, Any]) -> list[History]:
    """Read all files first: what is wrong with one is said before anything else is."""
    if also := next((name for name in _OF_THE_DATABASE if options[name] is not None), None):
        given.refuse(f"--{also} chooses from the database, and FILE takes its place: give one of them")
    return [_of_file(path) for path in options["file"]]


def _of_file(path: str) -> History:
    try:
        return of_file(Path(path))
    except (OSError, NotAnExport) as error:
        given.refuse(f"{path} cannot be read: {error}")
