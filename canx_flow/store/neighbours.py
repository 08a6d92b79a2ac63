"""Which workers live, and which of them could do what there is to do: looked up now and then, by each process.

Called by `telling`. Workers that serve the same queues and know the same workflows are of one kind.
"""

from __future__ import annotations

import json
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import Worker, WorkflowRun
from ..states import WorkerState

#: For how long a process remembers which workers live, in seconds.
MEMORY = 2.0


class Needs(NamedTuple):
    """What a worker must serve and know to take a run."""

    queue: str
    workflow: str
    version: str

    @classmethod
    def of(cls, run: WorkflowRun) -> Needs:
        """Return what this run needs."""
        return cls(run.queue, run.workflow, run.version)


class Group(NamedTuple):
    """Workers any of which will do, by address: those of this host, and the others."""

    here: list[str]
    elsewhere: list[str]


class Neighbours:
    """The live workers, as last looked up. `rows`: host, address, queues and workflows of each."""

    def __init__(self, rows: Iterable[tuple[str, str, str, str]], looked_at: float) -> None:
        self._looked_at = looked_at
        kinds: dict[tuple[str, str], Group] = defaultdict(lambda: Group([], []))
        this_host = socket.gethostname()
        for host, address, queues, workflows in rows:
            here, elsewhere = kinds[queues, workflows]
            (here if host == this_host else elsewhere).append(address)
        self._kinds = [_Kind(*texts, group) for texts, group in kinds.items()]
        #: What `groups` has answered: asked again and again for the same workflows.
        self._answers: dict[Needs | None, Sequence[Group]] = {}

    def is_fresh(self, moment: float) -> bool:
        return 0 <= moment - self._looked_at < MEMORY

    def groups(self, needs: Needs | None) -> Sequence[Group]:
        """Return the workers that can take such a run, as one group; without `needs` all of them, a group per kind."""
        found = self._answers.get(needs)
        if found is None:
            found = self._answers[needs] = self._groups(needs)
        return found

    def _groups(self, needs: Needs | None) -> Sequence[Group]:
        if needs is None:
            return [kind.group for kind in self._kinds]
        able = [kind.group for kind in self._kinds if kind.can_take(needs)]
        return [Group([a for group in able for a in group.here], [a for group in able for a in group.elsewhere])]


class _Kind:
    """The workers that serve the same queues and know the same workflows."""

    def __init__(self, queues: str, workflows: str, group: Group) -> None:
        self.group = group
        self._queues = frozenset(json.loads(queues))
        self._workflows = {(name, version) for name, version in json.loads(workflows)}

    def can_take(self, needs: Needs) -> bool:
        serves = not self._queues or needs.queue in self._queues
        return serves and (needs.workflow, needs.version) in self._workflows


_known: dict[str, Neighbours] = {}


def neighbours(connection: BaseDatabaseWrapper) -> Neighbours:
    """Return the live workers of this database, as they were two seconds ago or later."""
    moment = time.monotonic()
    known = _known.get(connection.alias)
    if known is None or not known.is_fresh(moment):
        with guard(connection):
            live = Worker.objects.using(connection.alias).filter(state=WorkerState.ALIVE).exclude(socket="")
            rows = list(live.values_list("host", "socket", "queues", "workflows"))
        known = _known[connection.alias] = Neighbours(rows, moment)
    return known


def forget() -> None:
    """Look the workers up anew the next time."""
    _known.clear()


def guard(connection: BaseDatabaseWrapper) -> transaction.Atomic | nullcontext[None]:
    """Let no failed statement of ours spoil a transaction that is open: a test's, mostly."""
    if connection.in_atomic_block:
        return transaction.atomic(using=connection.alias)
    return nullcontext()
