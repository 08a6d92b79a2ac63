"""`announce(fact)`: the one way in which the engine says that something happened. Every other layer calls it.

A receiver says which kinds of facts it wants at this moment. Where a fact is announced for every run or step, the
caller asks `wants` first, and builds nothing when the answer is no.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from .facts.runs import Fact

Task = Callable[[], object]


class Receiver(Protocol):
    """What a fact is handed to. Neither method raises."""

    #: It calls functions of the project: the caller of `announce` decides in which thread and context.
    calls_project: bool

    def wants(self, kind: type[Fact]) -> bool:
        """Return whether a fact of this kind would be told to anything now."""

    def receive(self, fact: Fact) -> None:
        """Tell it."""


_receivers: list[Receiver] = []


def add(receiver: Receiver) -> None:
    """Announce every fact to this receiver too, after those that were added before."""
    _receivers.append(receiver)


def wants(*kinds: type[Fact]) -> bool:
    """Return whether any receiver wants any of these kinds of facts now."""
    for kind in kinds:
        for receiver in _receivers:
            if receiver.wants(kind):
                return True
    return False


def here(task: Task) -> None:
    """Call the task in this thread and context."""
    task()


def announce(fact: Fact, call: Callable[[Task], object] = here) -> None:
    """Hand the fact to every receiver that wants it. `call` calls those that run functions of the project."""
    kind = type(fact)
    for receiver in _receivers:
        if receiver.wants(kind):
            if receiver.calls_project:
                call(partial(receiver.receive, fact))
            else:
                receiver.receive(fact)
