"""Branches and items in the threads of a `def` workflow: entered one after another, and waited for. For its driver."""

from __future__ import annotations

from threading import Event, Lock

from .awaiting import finisher
from .beside import Member


def serve(first: Member) -> None:
    """Enter one after another in this thread, each with the variables of the body that has begun it."""
    member: Member | None = first
    while member is not None:
        member = member.team.variables.copy().run(_alike, member)


def serve_and_give(first: Member, baton: Lock) -> None:
    """Do so in a thread that was given the baton; give it up at the end."""
    try:
        serve(first)
    finally:
        baton.release()


def _alike(first: Member) -> Member | None:
    """Enter it, and the items of its map that follow: steps set nothing that the next one would see."""
    finish = finisher()
    member: Member | None = finish(first.serve())
    while member is not None and member.shares_task and member.team is first.team:
        member = finish(member.serve())
    return member


class ThreadSignal:
    """Waited for by a thread, which gives up the baton meanwhile."""

    def __init__(self, baton: Lock) -> None:
        self._baton = baton
        self._event = Event()
        self.set = self._event.set

    async def wait(self) -> None:
        self._baton.release()
        self._event.wait()
        self._event.clear()
        self._baton.acquire()
