"""`runflowworker`: options in, exit code out. What the worker does is the work of `canx_flow.worker`."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, BooleanOptionalAction
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError
from django.db import OperationalError, connections
from django.utils import autoreload

from canx_flow import conf
from canx_flow.core import registry
from canx_flow.core.naming import checked
from canx_flow.insight import serving
from canx_flow.management.given import check_texts, within
from canx_flow.observe import announce, facts
from canx_flow.store.db import errors
from canx_flow.worker.exitcodes import ARGUMENTS, CLEAN, FORCED
from canx_flow.worker.options import Options
from canx_flow.worker.process import asked, init, startup
from canx_flow.worker.process.orders import Stoppable, obey, say_up
from canx_flow.worker.process.reloading import run_reloading
from canx_flow.worker.process.supervisor import Supervisor
from canx_flow.worker.process.watchdog import Watched, leave_now

_MOST_CONCURRENCY, _MOST_PROCESSES, _MOST_RUNS = 10_000, 1_000, 1_000_000_000


class Command(BaseCommand):
    help = (
        "Run workflows: the resumption worker. Exit codes: 0 clean, 1 fatal, 2 wrong arguments, 3 forced. "
        "The first INT or TERM lets current steps finish, the second leaves now."
    )
    # Made once the worker's database answers: some ask databases, and any of these may be away.
    requires_system_checks = []
    _called_from_command_line: bool

    def run_from_argv(self, argv: list[str]) -> None:
        init.take_over([argv[0], "runflowworker"])  # Under another name, the app's configuration did not know it.
        super().run_from_argv(argv)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--queue", action="append", metavar="NAME", help="Take only this queue; repeatable.")
        parser.add_argument("--concurrency", type=int, default=16, metavar="N", help="Runs at once (16).")
        parser.add_argument("--processes", type=int, default=1, metavar="N", help="Worker processes under one parent.")
        parser.add_argument("--poll-interval", type=float, metavar="S", help="Seconds between polls (POLL_SECONDS).")
        parser.add_argument("--burst", action="store_true", help="Work until nothing is due, then exit.")
        parser.add_argument("--max-runs", type=int, metavar="N", help="Exit after N runs; --processes starts another.")
        parser.add_argument("--name", default="", help="A label for people; it need not be unique.")
        parser.add_argument(
            "--shutdown-timeout", type=float, default=25.0, metavar="S", help="Seconds for current steps (25)."
        )
        parser.add_argument("--heartbeat-file", type=Path, metavar="PATH", help="Touched while this process lives.")
        parser.add_argument("--reload", action=BooleanOptionalAction, help="Start anew when code changes (DEBUG).")
        # What a parent starts its children with: the socket through which they obey.
        parser.add_argument("--obey", type=int, help=SUPPRESS)

    def handle(self, *_args: Any, **given: Any) -> None:
        check_texts(given)
        if given["obey"] is not None:
            asked.ignore_signals()
        try:
            options = _options(given)
        except ImproperlyConfigured as exc:
            raise CommandError(str(exc)) from exc
        _refuse_in_transaction()
        reloading = self._reloading(given)
        self._leave(self._run(options, given, reloading))

    def _run(self, options: Options, given: dict[str, Any], reloading: bool) -> int:
        if given["obey"] is None:
            target = self._outermost(options, given, reloading)
            with asked.by_signals(target, ends_process=bool(self._called_from_command_line)):
                return target.run()
        up = partial(say_up, given["obey"])
        target = self._supervisor(options, given) if given["processes"] > 1 else self._worker(options, up)
        obey(given["obey"], target)
        return run_reloading(target, options.shutdown_timeout) if reloading else target.run()

    def _outermost(self, options: Options, given: dict[str, Any], reloading: bool) -> Stoppable:
        if reloading:
            return self._reloader(options)
        return self._supervisor(options, given) if given["processes"] > 1 else self._worker(options)

    def _worker(self, options: Options, up: Callable[[], object] = bool) -> Stoppable:
        worker = startup.StartedWorker(
            options, say=self._say, complain=self._complain, refuse=self._refusal,
            advise=lambda: serving.left_alone(options.queues, registry.identities()), up=up,
        )  # fmt: skip
        # Called from code, the process is not ours to end.
        return Watched(worker, options.shutdown_timeout) if self._called_from_command_line else worker

    def _supervisor(self, options: Options, given: dict[str, Any]) -> Stoppable:
        self._refuse_early()
        argv = [*autoreload.get_child_arguments(), "--processes", "1", "--no-reload"]
        renew = options.max_runs is not None and not options.burst
        return Supervisor(argv, given["processes"], grace=options.shutdown_timeout, renew=renew)

    def _reloader(self, options: Options) -> Stoppable:
        argv = [*autoreload.get_child_arguments(), "--reload"]
        # Django's own marker of a reloader's child: projects look at it.
        env = {autoreload.DJANGO_AUTORELOAD_ENV: "true"}
        return Supervisor(argv, grace=options.shutdown_timeout, reloading=True, env=env)

    def _refuse_early(self) -> None:
        """Refuse before children are started that would all fail for it; while the database is away, they wait."""
        try:
            reason = self._refusal()
        except Exception as exc:
            if not errors.is_outage(exc):
                raise
            reason = ""
        finally:
            connections[conf.get().database].close()
        if reason:
            raise CommandError(reason)

    def _refusal(self) -> str:
        return startup.refusal() or self._failed_checks()

    def _failed_checks(self) -> str:
        if not self._called_from_command_line:
            return ""
        try:
            self.check(databases=[conf.get().database])
        except SystemCheckError as exc:
            return str(exc)
        except OperationalError as exc:
            announce(facts.ChecksSkipped(exc))
        return ""

    def _reloading(self, given: dict[str, Any]) -> bool:
        from_command_line = bool(self._called_from_command_line)
        if not from_command_line and (given["reload"] or given["processes"] > 1):
            raise _refused("--reload and --processes start this command line again: they cannot be called from code")
        if given["reload"] and given["burst"]:
            raise _refused("--reload waits for changes and --burst for none: choose one")
        if given["reload"] is None:
            bounded = given["burst"] or given["max_runs"] is not None
            return bool(settings.DEBUG) and from_command_line and not bounded
        return bool(given["reload"])

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _complain(self, line: str) -> None:
        self.stderr.write(self.style.ERROR(line))
        self.stderr.flush()

    def _leave(self, code: int) -> None:
        if code == FORCED and self._called_from_command_line:
            leave_now(code)  # A step that does not end must not keep the process: Python would wait for its thread.
        if code != CLEAN:
            sys.exit(code)


def _refuse_in_transaction() -> None:
    """Refuse a worker inside a transaction: other connections see nothing of it, and the worker closes its own."""
    alias = conf.get().database
    if connections[alias].in_atomic_block:
        raise CommandError(
            f"a worker cannot be called inside a transaction on {alias!r}, such as the one that a TestCase holds open: "
            "its threads would see nothing of that. Call canx_flow.testing.run_until_idle() there, or test with "
            "TransactionTestCase."
        )


def _options(given: dict[str, Any]) -> Options:
    """Return the checked options; CommandError with exit code 2 names the one that is wrong."""
    poll = conf.get().poll_seconds if given["poll_interval"] is None else given["poll_interval"]
    within("--concurrency", given["concurrency"], 1, _MOST_CONCURRENCY)
    within("--processes", given["processes"], 1, _MOST_PROCESSES)
    within("--shutdown-timeout", given["shutdown_timeout"], 0, conf.MOST_SECONDS)
    within("--poll-interval", poll, 0.001, conf.MOST_SECONDS)
    if given["max_runs"] is not None:
        within("--max-runs", given["max_runs"], 1, _MOST_RUNS)
    if given["name"]:
        _well_formed(given["name"], "--name", 200)
    return Options(
        queues=tuple(dict.fromkeys(_well_formed(queue, "--queue", 100) for queue in given["queue"] or ())),
        concurrency=given["concurrency"],
        poll_seconds=poll,
        burst=given["burst"],
        max_runs=given["max_runs"],
        name=given["name"],
        shutdown_timeout=given["shutdown_timeout"],
        heartbeat_file=_touchable(given["heartbeat_file"]),
    )


def _well_formed(value: str, option: str, most: int) -> str:
    try:
        return checked(value, option, most)
    except ValueError as exc:
        raise _refused(str(exc)) from exc


def _touchable(path: Path | str | None) -> Path | None:
    if path is None:
        return None
    try:
        Path(path).touch()
    except (OSError, ValueError) as exc:
        raise _refused(f"--heartbeat-file cannot be written: {exc}") from exc
    return Path(path)


def _refused(message: str) -> CommandError:
    return CommandError(message, returncode=ARGUMENTS)
