"""Where this thread or task is: in a workflow's body, in a step function, or outside. Set by the drivers.

`client` asks it before every call of a run from outside, the contexts before every call from inside.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

from .exceptions import OutsideStep


@dataclass(slots=True)
class CurrentStep:
    """The step being executed: what a step function may ask about itself.

    `run_id`: the run's UUID. `name`: the whole key, as in `charge#2`. `attempt` counts from 1: 1 plus the failures
    recorded so far. `generation`: 0.
    """

    run_id: UUID
    name: str
    attempt: int
    generation: int = 0
    _calls: count[int] = field(default_factory=lambda: count(1), repr=False, compare=False)

    @property
    def idempotency_key(self) -> str:
        """A UUID as text that stays the same over retries, crashes and replays: hand it to a payment provider."""
        return str(derived_uuid(self.run_id, self.generation, self.name))

    def next_id(self) -> str:
        """`<idempotency_key>:<n>`: the default `key` or `dedup_id` of the n-th call made inside this step."""
        return f"{self.idempotency_key}:{next(self._calls)}"


step: ContextVar[CurrentStep | None] = ContextVar("canx_flow_step", default=None)
body: ContextVar[UUID | None] = ContextVar("canx_flow_body", default=None)


def current_step() -> CurrentStep | None:
    """The step that this code is called in; `None` outside a step, and in threads that a step function starts."""
    return step.get()


@contextmanager
def outside() -> Iterator[None]:
    """For code that is called from here but belongs to no body and no step: receivers of signals."""
    in_body, in_step = body.set(None), step.set(None)
    try:
        yield
    finally:
        step.reset(in_step)
        body.reset(in_body)


def refuse_in_body(call: str) -> None:
    """Raise OutsideStep if this is a workflow's body outside a step: there a call would run at every replay."""
    run_id = body.get()
    if run_id is not None and step.get() is None:
        raise OutsideStep(
            f"{call} was called in the body of run {run_id}, outside a step, where it would happen again at every "
            f"replay. Put it into a step: ctx.step('{call}', …)."
        )


def derived_uuid(run_id: UUID, generation: int, key: str) -> UUID:
    """A UUID that is the same whenever it is asked for: from the run, its generation and the key."""
    return uuid.uuid5(run_id, f"{generation}:{key}")
