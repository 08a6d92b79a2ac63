"""The other side of a delegated step: where an executor's worker calls the task. Public as `canx_flow.executors`.

Everything here is a guarded write to the row of the attempt: of two deliveries one wins, and what comes after the run
has given the attempt up is refused, and kept to be seen.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from django.db import Error, InterfaceError, OperationalError, connections, transaction

from ..core import codec
from ..core.failures import describe
from ..observe import announce, facts
from ..states import COMPLETED, FAILED, RUNNING
from ..store import children, delegations, telling
from ..store.afterwards import after_commit
from . import named
from .events import wake_receiver

R = TypeVar("R")

#: Seconds between two tries to store an outcome: two minutes in all, for a restart of the database.
_PAUSES = (0.1, 0.3, 1, 2, 4, 8, 15, 30, 60)


class Attempt:
    """An attempt that this delivery of its message has won. `is_wanted`: whether the run still waits, at the last beat.

    A long task may look at that, and end early.
    """

    def __init__(self, token: UUID, heartbeat: float) -> None:
        self.token = token
        self.is_wanted = True
        self._alias = named.alias()
        self._every = heartbeat / 3
        self._over = threading.Event()

    def beat(self) -> bool:
        """Tell that the task runs; return whether its run still waits for it. While the task runs a thread does so."""
        self.is_wanted = delegations.beat(self._alias, self.token)
        return self.is_wanted

    def succeed(self, result: Any) -> bool:
        """Give the run the task's result; False if it is refused. What cannot be stored fails the step at once."""
        try:
            text = codec.dumps(result, "the result of the task")
        except Exception as error:  # noqa: BLE001 - encoding calls the project's code, and what that raises is the task's
            return self.fail(error)
        return self._end(f'["{COMPLETED}",{text}]')

    def fail(self, error: BaseException) -> bool:
        """Tell the run what the task has failed of; False if that is refused."""
        return self._end(f'["{FAILED}",{codec.dumps_plain(describe(error))}]')

    def _end(self, payload: str) -> bool:
        """Store the outcome. While the database is away, try again: the work is done, and would be done anew."""
        pauses = iter(_PAUSES)
        while True:
            try:
                return self._try_to_end(payload)
            except (OperationalError, InterfaceError):
                pause = next(pauses, None)
                if pause is None or connections[self._alias].in_atomic_block:
                    raise
                connections[self._alias].close()
                time.sleep(pause)

    def _try_to_end(self, payload: str) -> bool:
        """Store the outcome with the end of the attempt, in one transaction: the run reads it once, or never."""
        with transaction.atomic(using=self._alias):
            found = delegations.receiver(self._alias, self.token)
            reads = found is not None and children.reads(found[1], "")
            told = found is not None and reads and delegations.end(self._alias, self.token, found[0], payload)
            if found is not None and told:
                self._follow(*found)
            elif reads:
                transaction.set_rollback(True, using=self._alias)
        if told:
            return True
        if found is not None and not reads:
            delegations.give_up(self._alias, self.token, delegations.STOPPED)
        # An answer that was lost may have been a commit: then it has ended, and nothing is kept.
        if delegations.keep_late(self._alias, self.token, payload):
            announce(facts.OutcomeRefused(self.token))
        return False

    def _follow(self, run_id: UUID, state: str, *needs: str) -> None:
        after_commit(self._alias, wake_receiver, self._alias, run_id, telling.Needs(*needs))
        if state == RUNNING:  # One of its branches may wait for this while others go on.
            after_commit(self._alias, telling.tell_owner, self._alias, run_id)

    @contextmanager
    def beating(self) -> Iterator[Attempt]:
        """Beat from a thread of its own meanwhile, a third of the heartbeat apart."""
        thread = threading.Thread(target=self._beat_on, name=f"canx_flow-beat-{self.token}", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()

    def _beat_on(self) -> None:
        try:
            while self.is_wanted and not self._over.wait(self._every):
                self._try_to_beat()
        finally:
            connections[self._alias].close()

    def _try_to_beat(self) -> None:
        try:
            self.beat()
        except Error as error:
            announce(facts.BeatNotStored(self.token, error))
            connections[self._alias].close()


def attempt(token: UUID | str, worker: str = "") -> Attempt | None:
    """Win the attempt of this token for this delivery of its message; `None` if the task is not to be called.

    Another delivery has won it then, or the run does not wait for it any more. `worker`: who calls the task, for
    people; else host and process.
    """
    token = token if isinstance(token, UUID) else UUID(token)
    heartbeat = delegations.begin(named.alias(), token, worker or f"{socket.gethostname()}:{os.getpid()}")
    return None if heartbeat is None else Attempt(token, heartbeat)


def perform(token: UUID | str, call: Callable[[], R], worker: str = "") -> R | None:
    """Call a task for the attempt of this token, beat meanwhile, and give the run what comes of it.

    Returns what the task returns, `None` if it was not called: see `attempt`. What it raises is told, and raised.
    """
    won = attempt(token, worker)
    if won is None:
        return None
    with won.beating():  # Until the outcome is stored, too: the database may be away for a while.
        try:
            result = call()
        except BaseException as error:
            won.fail(error)
            raise
        won.succeed(result)
        return result
