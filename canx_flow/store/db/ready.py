"""The SELECTs that look for ready runs: in the order of claims, a bounded number at a time, each part by one index.

Used by `claims`. Backlogs are long, and may be other workers': of other queues, or of workflows that this one does not
know. So a look finds the first ready runs of each queue, whatever they are; only where those were not enough the next
one finds the first of each workflow that the worker knows. Each part goes by the one index that has its runs in order,
and is written so that PostgreSQL may take no other, whatever it believes: its statistics mostly are of an empty queue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from .merging import ORDER, Select, merged
from .session import Session
from .tables import NOT_PAUSED, QUEUE, RUN, placeholders

Identities = Sequence[tuple[str, str]]

#: A run's place in the order of claims: its priority, its id.
Place = tuple[int, Any]

#: From this many recoveries on a run is claimed alone, by a worker with nothing else in flight.
ALONE_FROM = 3

#: What holds for every run. Only a query that says it may go by `canx_run_ready`, or by `canx_run_ready_code`.
OF_ANY_QUEUE = "epoch >= 0"
OF_ONE_CODE = "generation >= 0"

#: What holds for stopping runs of which nothing is called any more: they have nothing to undo.
_ONLY_ENDS = "state = 'stopping' AND NOT has_undo"
_IS_CALLED = "(state <> 'stopping' OR has_undo)"

#: What holds for runs that must be alone. What is not called any more can do nothing to others beside it.
ALONE = f"recoveries >= {ALONE_FROM} AND {_IS_CALLED}"
_BESIDE_OTHERS = f"(recoveries < {ALONE_FROM} OR ({_ONLY_ENDS}))"

#: In the words of `canx_run_unusual`.
_STOPS = f"{_ONLY_ENDS} AND NOT (state = 'completed') AND NOT (state = 'running')"
#: The queue of those, which are few. An index that begins with the queue, of whose backlog PostgreSQL may not have
#: heard, does not know it by this name.
_OF_FEW = "NULLIF(queue, '')"


def apart(place: Place) -> list[Select]:
    """Return the conditions for what is not before a place: a higher priority, its own behind it, a lower one."""
    priority, run_id = place
    return [
        ("priority > %s", [priority]), ("priority = %s AND id > %s", [priority, run_id]), ("priority < %s", [priority]),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """A SELECT of up to `most` ready runs in the order of claims: id, priority, and whether the worker may take it."""

    text: str
    parameters: Sequence[Any]
    most: int


@dataclass(frozen=True, slots=True)
class Taker:
    """What a worker may take: of which workflows and queues (none: of all), and whether runs that must be alone."""

    owner: UUID
    known: Identities
    queues: Sequence[str] = ()
    alone: bool = False
    #: Of which queues it takes none: of those that have limits or are paused (`apart`), of those that are `paused`, or
    #: of any that it looks at: what its limits allow was asked before.
    leaves_out: Literal["apart", "paused", ""] = "apart"

    def condition(self, session: Session) -> str:
        """Return what holds for the runs that it may take now, whatever their workflow."""
        condition = f"{ALONE if self.alone else _BESIDE_OTHERS} AND {NOT_PAUSED}"
        if not self.leaves_out:
            return condition
        return f"{condition} AND queue NOT IN (SELECT name FROM {QUEUE} WHERE {self.leaves_out} = {session.true})"

    def first(self, session: Session, most: int, begin: Place | None = None) -> Look:
        """Look at the first ready runs of its queues, known or not; of those that must be alone at the known ones.

        `begin`: of the priority of this place, at those behind it only.
        """
        if self.alone:
            return self._look(session, self._suspects(session, most), most)
        parts = [(f" AND {part}", values) for part, values in apart(begin)] if begin is not None else [("", [])]
        ready = f"ready = {session.true}"
        if not self.queues:
            text = _select(session, "canx_run_ready", f"{ready} AND {OF_ANY_QUEUE}{{part}}", most)
            return self._look(
                session, merged([(text.replace("{part}", part), values) for part, values in parts], most), most
            )
        text = _select(session, "canx_run_ready_queue", f"{ready} AND queue = %s{{part}}", most)
        queues = dict.fromkeys(self.queues)
        of_queues = [(text.replace("{part}", part), [queue, *values]) for queue in queues for part, values in parts]
        return self._look(session, merged(of_queues, most), most)

    def known_after(self, session: Session, place: Place, most: int) -> Look:
        """Look at the first ready runs behind this place of each workflow that it knows, and at those that stop.

        Of a workflow that is paused, all of which may be ready, it reads none.
        """
        priority, run_id = place
        behind = [("priority = %s AND id > %s", [priority, run_id]), ("priority < %s", [priority])]
        code = f"ready = {session.true} AND {OF_ONE_CODE} AND {{code}} AND {_IS_CALLED} AND {self.condition(session)}"
        of_code = self._behind(_select(session, "canx_run_ready_code", f"{code} AND {{behind}}", most), behind)
        parts = [session.of_each_code(self.known, of_code, most)]
        if not self.alone:
            stops = f"{_STOPS} AND {session.is_ready} AND {self.condition(session)} AND {{behind}}"
            parts += self._behind(_select(session, "canx_run_unusual", stops, most), behind, _OF_FEW)
        return self._look(session, merged(parts, most), most)

    def _behind(self, text: str, behind: Sequence[Select], queue: str = "queue") -> list[Select]:
        text = text.replace("{behind}", f"{{behind}}{self._of_queues(queue)}")
        return [(text.replace("{behind}", part), [*values, *self.queues]) for part, values in behind]

    def _suspects(self, session: Session, most: int) -> Select:
        fits, parameters = self.fits()
        condition = f"{self.condition(session)} AND {session.is_ready} AND {fits}{self._of_queues()}"
        return _select(session, "canx_run_alone", condition, most), [*parameters, *self.queues]

    def _look(self, session: Session, select: Select, most: int) -> Look:
        fits, parameters = self.fits()
        text, values = select
        text = f"SELECT id, priority, ({self.condition(session)} AND {fits}) AS fits FROM ({text}) looked {ORDER}"
        return Look(text, [*parameters, *values], most)

    def _of_queues(self, queue: str = "queue") -> str:
        return f" AND {queue} IN ({placeholders(self.queues)})" if self.queues else ""

    def fits(self) -> Select:
        """Return the condition for what its code, or no code, can do."""
        versions: dict[str, list[str]] = defaultdict(list)
        for name, version in self.known:
            versions[version].append(name)
        # Where only its end is to come, that needs no code.
        condition, parameters = f"({_ONLY_ENDS})", []
        for version, names in versions.items():
            condition += f" OR (version = %s AND workflow IN ({placeholders(names)}))"
            parameters += [version, *names]
        return f"({condition})", parameters


def _select(session: Session, index: str, condition: str, most: int) -> str:
    columns = f"id, priority, workflow, version, queue, state, recoveries, has_undo FROM {RUN}{session.by_index(index)}"
    return f"SELECT {columns} WHERE {condition} {ORDER} LIMIT {most}"
