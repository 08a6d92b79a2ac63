"""Where this thread or task runs: in a workflow's body, in a step function, or outside both. Set by the drivers.

`client` checks it before every call of a run from outside, the contexts before every call from inside.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from heapq import heappop, heappush
from threading import Lock
from uuid import UUID

from ..exceptions import NotInStep, OutsideStep

#: What a call is about: two calls of the same content are the same call, made twice.
Content = tuple[str | None, ...]


@dataclass(slots=True)
class CurrentStep:
    """The step being executed: what a step function may ask about itself.

    `run_id`: the run's UUID. `name`: the whole key, as in `charge#2`. `attempt` counts from 1: 1 plus the failures
    recorded so far. `generation`: how often the run has continued as new.
    """

    run_id: UUID
    name: str
    attempt: int
    generation: int = 0
    #: What this call of the function has started and sent so far, by content.
    _calls: dict[str, _Numbers] = field(default_factory=dict, repr=False, compare=False)

    @property
    def idempotency_key(self) -> str:
        """A UUID as text that stays the same over retries, crashes and replays: hand it to a payment provider."""
        return str(derived_uuid(self.run_id, self.generation, self.name))

    @contextmanager
    def identified(self, calls: Sequence[Content]) -> Iterator[list[str]]:
        """Give each of these calls its default `key` or `dedup_id`, the same whenever the step is repeated.

        It is `<idempotency_key>:<content>:<n>`, where n counts the calls of that content in all threads and tasks. A
        call that raises has made nothing: the next one of that content gets its number.
        """
        digests = [_digest(content) for content in calls]
        with _counting:
            numbers = [self._calls.setdefault(digest, _Numbers()).take() for digest in digests]
        try:
            yield [f"{self.idempotency_key}:{digest}:{n}" for digest, n in zip(digests, numbers, strict=True)]
        except BaseException:
            with _counting:
                for digest, n in zip(digests, numbers, strict=True):
                    self._calls[digest].give_back(n)
            raise


class _Numbers:
    """The numbers 1, 2, 3 …; one that was given back is taken first."""

    __slots__ = ("_given_back", "_last")

    def __init__(self) -> None:
        self._last = 0
        self._given_back: list[int] = []

    def take(self) -> int:
        if self._given_back:
            return heappop(self._given_back)
        self._last += 1
        return self._last

    def give_back(self, number: int) -> None:
        heappush(self._given_back, number)


def _digest(content: Content) -> str:
    return hashlib.sha256(json.dumps(content).encode("ascii")).hexdigest()[:32]


_counting = Lock()
step: ContextVar[CurrentStep | None] = ContextVar("canx_flow_step", default=None)
body: ContextVar[UUID | None] = ContextVar("canx_flow_body", default=None)


def current_step() -> CurrentStep:
    """Return the step that this code is called in.

    NotInStep outside a step, and in threads that a step function starts without its context.
    """
    found = step.get()
    if found is None:
        raise NotInStep(
            "current_step() was called outside a step, or in a thread that a step function has started without its "
            "context. canx_flow.in_step() tells beforehand."
        )
    return found


@contextmanager
def identified(given: str | None, content: Callable[[], Content]) -> Iterator[str | None]:
    """Give a call its key or dedup id: the caller's, or one of the step's own, so that a repeated step repeats nothing.

    `None` outside a step where the caller gave none.
    """
    found = step.get()
    if given is not None or found is None:
        yield given
        return
    with found.identified([content()]) as [own]:
        yield own


def in_step() -> bool:
    """Tell whether this code is called in a step, so that `current_step()` has an answer."""
    return step.get() is not None


@contextmanager
def outside() -> Iterator[None]:
    """Run code that is called from here but belongs to no body and no step: receivers of signals."""
    of_body, of_step = body.set(None), step.set(None)
    try:
        yield
    finally:
        step.reset(of_step)
        body.reset(of_body)


def refuse_in_body(call: str) -> None:
    """Raise OutsideStep if this is a workflow's body outside a step: there a call would run at every replay."""
    run_id = body.get()
    if run_id is not None and step.get() is None:
        raise OutsideStep(
            f"{call} was called in the body of run {run_id}, outside a step, where it would happen again at every "
            f"replay. Put it into a step: ctx.step('{call}', …)."
        )


def derived_uuid(run_id: UUID, generation: int, key: str) -> UUID:
    """Derive a UUID from the run, its generation and the key; it is the same each time."""
    return uuid.uuid5(run_id, f"{generation}:{key}")
