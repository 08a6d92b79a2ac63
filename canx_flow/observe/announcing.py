"""`announce(fact)`: the one way in which the engine says that something happened. Every other layer calls it.

A receiver says which kinds of facts it wants at this moment. Where a fact is announced for every run or step, the
caller asks `wants` first, and builds nothing when the answer is no: so asking must cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from .facts.runs import Fact

Task = Callable[[], object]


class Receiver(Protocol):
    """What a fact is handed to. Nothing of it raises."""

    #: It calls functions of the project: the caller of `announce` decides in which thread and context.
    calls_project: bool

    def wanting(self, kind: type[Fact]) -> Callable[[], object] | None:
        """Return what tells, whenever it is called, whether facts of this kind are wanted; `None` if they never are."""

    def receive(self, fact: Fact) -> None:
        """Tell it."""


class _Listening(dict[type[Fact], list[tuple[Callable[[], object], Receiver]]]):
    """By kind of fact: which receivers may want it, each with what tells whether it does now."""

    def __init__(self) -> None:
        super().__init__()
        self.receivers: list[Receiver] = []

    def __missing__(self, kind: type[Fact]) -> list[tuple[Callable[[], object], Receiver]]:
        asked = ((receiver.wanting(kind), receiver) for receiver in self.receivers)
        found = self[kind] = [(wanting, receiver) for wanting, receiver in asked if wanting is not None]
        return found


_listening = _Listening()


def add(receiver: Receiver) -> None:
    """Announce every fact to this receiver too, after those that were added before."""
    _listening.receivers.append(receiver)
    _listening.clear()


def wants(kind: type[Fact]) -> bool:
    """Return whether a receiver wants this kind of fact now."""
    for wanting, _receiver in _listening[kind]:  # noqa: SIM110 - called for every step: `any` costs twice as much
        if wanting():
            return True
    return False


def wants_any(kinds: Iterable[type[Fact]]) -> bool:
    """Return whether a receiver wants any of these kinds of facts now."""
    for kind in kinds:
        for wanting, _receiver in _listening[kind]:
            if wanting():
                return True
    return False


def here(task: Task) -> None:
    """Call the task in this thread and context."""
    task()


def announce(fact: Fact, call: Callable[[Task], object] = here) -> None:
    """Hand the fact to every receiver that wants it. `call` calls those that run functions of the project."""
    for wanting, receiver in _listening[type(fact)]:
        if not wanting():
            continue
        if receiver.calls_project:
            call(partial(receiver.receive, fact))
        else:
            receiver.receive(fact)
