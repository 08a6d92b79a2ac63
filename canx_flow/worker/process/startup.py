"""What comes before a worker's first turn: wait for the database, refuse without tables, say hello in one line.

Called by the command, in each worker process.
"""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Callable, Iterable, Sequence

from django.db import Error, connections
from django.db.migrations.executor import MigrationExecutor

from ... import conf
from ...core import registry
from ...core.backoff import Backoff
from ...observe import announce, facts
from ...store.db import engine, errors, pool
from ...store.db.errors import SharedSession
from ..about import VERSION
from ..exitcodes import CLEAN, FATAL
from ..heartbeat import touch
from ..loop import WorkerLoop
from ..options import Options

_FIRST_PAUSE, _MOST_PAUSE = 0.5, 10.0  # seconds between two tries to reach the database


def banner(options: Options) -> str:
    """Return the one line that a worker says at its start."""
    alias = conf.get().database
    name = options.name or socket.gethostname()
    queues = ", ".join(options.queues) or "all"
    workflows = len(registry.labels())
    return (
        f"canx_flow {VERSION} worker {name} (pid {os.getpid()}): queues {queues}; "
        f"{connections[alias].vendor} database {alias!r}; "
        f"{workflows} workflow{'' if workflows == 1 else 's'}; concurrency {options.concurrency}"
    )


def missing_migrations() -> list[str]:
    """Return the names of canx_flow's migrations that the database lacks. Raises OperationalError while it is away."""
    executor = MigrationExecutor(connections[conf.get().database])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes("canx_flow"))
    return [migration.name for migration, _backwards in plan if migration.app_label == "canx_flow"]


def refusal() -> str:
    """Return why no worker can start, empty if one can. Raise OperationalError while the database is away."""
    return _without_tables() or _on_shared_sessions()


def _without_tables() -> str:
    missing = missing_migrations()
    if not missing:
        return ""
    alias = conf.get().database
    option = "" if alias == "default" else f" --database {alias}"
    return (
        f"The tables of canx_flow in database {alias!r} are missing or older than this code "
        f"(not applied: {', '.join(missing)}). Run `python manage.py migrate{option}` first."
    )


def _on_shared_sessions() -> str:
    """Open a connection of the engine's own, before a worker opens its four; return why sessions may not be shared."""
    connection = engine.open_connection(conf.get().database)
    try:
        connection.ensure_connection()
    except SharedSession as shared:
        return str(shared)
    finally:
        engine.reset(connection)
    return ""


class StartedWorker:
    """A worker that begins once the database answers.

    `refuse` says why it must not begin, as `refusal` does; `say` and `complain` take a line for people. `advise`: what
    it says after its banner. `up` is called once the database has answered or is known to be away: what hangs before
    that is the project's own code.
    """

    def __init__(
        self,
        options: Options,
        *,
        say: Callable[[str], object],
        complain: Callable[[str], object],
        refuse: Callable[[], str] = refusal,
        advise: Callable[[], Iterable[str]] = tuple,
        up: Callable[[], object] = bool,
    ) -> None:
        self._options = options
        self._refuse = refuse
        self._advise = advise
        self._up = up
        self._say = say
        self._complain = complain
        self._loop = WorkerLoop(options)
        # Its put() may be called by a signal handler that interrupts its get().
        self._stopped: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def run(self) -> int:
        reason = self._wait_for_database()
        advice = self._advice() if reason == "" else ()
        # The worker works on connections of its own; this thread's would stay open for as long as it lives.
        if not connections[conf.get().database].in_atomic_block:
            connections[conf.get().database].close()
        if reason is None:
            return CLEAN
        if reason:
            self._complain(reason)
            return FATAL
        self._say(banner(self._options))
        for line in advice:
            self._say(line)
        if shortage := pool.shortage(conf.get().database, self._options.concurrency):
            announce(facts.PoolTooSmall(shortage))
        return self._loop.run()

    def _advice(self) -> Sequence[str]:
        """Return what is said after the banner. It is for people alone: a worker begins without it."""
        try:
            return list(self._advise())
        except Error as error:
            announce(facts.AdviceSkipped(error))
            return ()

    def stop(self) -> None:
        self._stopped.put(True)
        self._loop.stop()

    def force(self) -> None:
        self._stopped.put(True)
        self._loop.force()

    def _wait_for_database(self) -> str | None:
        """Return why it cannot start; empty when it can, `None` if it was stopped before the database came."""
        backoff = Backoff(_FIRST_PAUSE, _MOST_PAUSE)
        while True:
            try:
                return self._refuse()
            except Exception as exc:
                if not errors.is_outage(exc):
                    raise
                connections[conf.get().database].close()
                if self._options.burst:
                    return f"The database is away: {exc}"
                announce(facts.StartWaits(exc, backoff.pause))
            finally:
                self._up()
            touch(self._options.heartbeat_file)
            if self._stopped_within(backoff.failed()):
                return None

    def _stopped_within(self, seconds: float) -> bool:
        try:
            return self._stopped.get(timeout=seconds)
        except queue.Empty:
            return False
