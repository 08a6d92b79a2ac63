"""What a worker does besides running runs: one file per chore, each with a `run_once(now)`.

Called by the turn. Every worker does all of them; guarded writes decide which worker was first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ...replay.beside import Beside
from ..agenda import Agenda
from ..slots import Slots
from ..solitude import Solitude
from ..teller import Teller
from .declare import Declare
from .declare_dead import DeclareDead
from .deliver import Deliver
from .disown import Disown
from .fire import Fire
from .free_places import FreePlaces
from .hasten import Hasten
from .make_room import MakeRoom
from .park import Park
from .recover import Recover
from .tell_branches import TellBranches
from .tick import Tick
from .tidy import Tidy


@dataclass(frozen=True, slots=True)
class OfSchedules:
    """What is done for schedules."""

    declare: Declare
    tick: Tick


@dataclass(frozen=True, slots=True)
class Chores:
    """All chores of one worker."""

    hasten: Hasten
    declare_dead: DeclareDead
    disown: Disown
    recover: Recover
    deliver: Deliver
    park: Park
    tidy: Tidy
    make_room: MakeRoom
    fire: Fire
    tell_branches: TellBranches
    free_places: FreePlaces
    schedules: OfSchedules


def chores_of(
    owner: UUID,
    alias: str,
    queues: Sequence[str],
    *,
    poll_seconds: float,
    agenda: Agenda,
    slots: Slots,
    solitude: Solitude,
    tell: Teller,
    watched: Mapping[UUID, Beside],
) -> Chores:
    """Return the chores of the worker `owner`. Receivers of signals are called by `tell`."""
    return Chores(
        hasten=Hasten(alias),
        declare_dead=DeclareDead(owner, poll_seconds),
        disown=Disown(owner, slots),
        recover=Recover(alias),
        deliver=Deliver(alias, agenda, tell),
        park=Park(alias, queues, tell),
        tidy=Tidy(alias, agenda),
        make_room=MakeRoom(owner, alias, queues, solitude, slots),
        fire=Fire(alias, tell),
        tell_branches=TellBranches(alias, watched),
        free_places=FreePlaces(alias, queues),
        schedules=OfSchedules(Declare(owner, alias), Tick(alias, tell)),
    )
