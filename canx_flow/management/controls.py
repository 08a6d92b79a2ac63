"""Control calls from a terminal: each run that is named, one after the other, and what came of it in words.

Called by `flow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.management import CommandError

from .. import client
from ..exceptions import CanxFlowError
from ..states import CANCELLED, PARKED
from . import given
from .refusals import said

Note = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call about one run came to. `run`: its id, or what was typed for it."""

    run: str
    done: bool
    said: str
    state: str | None = None
    new_id: UUID | None = None


def act(action: str, runs: Sequence[str], reason: str, **more: Any) -> list[Outcome]:
    """Do it to every run. One to which it cannot be done does not keep the others from it.

    `more`: what else its call takes.
    """
    note: Note = {"reason": reason, "by": given.who(), **more}
    return [_outcome(CALLS[action], text, note) for text in runs]


def as_facts(outcome: Outcome) -> dict[str, Any]:
    """Describe it for programs."""
    found = {"id": outcome.run, "done": outcome.done, "state": outcome.state, "message": outcome.said}
    return found if outcome.new_id is None else {**found, "new_id": str(outcome.new_id)}


def _outcome(call: Callable[[UUID, Note], Outcome], text: str, note: Note) -> Outcome:
    try:
        return call(given.run_id(text), note)
    except (CanxFlowError, CommandError) as exc:
        return Outcome(text, False, said(exc))


def _cancel(run_id: UUID, note: Note) -> Outcome:
    done = client.cancel(run_id, **note)
    state = _state(run_id)
    if not done:
        return Outcome(str(run_id), done, f"not cancelled: it is {state}", state)
    told = {
        CANCELLED: "cancelled",
        PARKED: "parked, and cancelled once it can be undone; --no-undo ends it at once",
    }.get(state or "", f"stopping: cancelled as soon as {_left(run_id)}")
    return Outcome(str(run_id), done, told, state)


def _left(run_id: UUID) -> str:
    """Say what a stopping run has left to do."""
    undoes = client.runs().filter(id=run_id, has_undo=True).exists()
    return "what it did is undone" if undoes else "its step in flight has ended"


def _retry(run_id: UUID, note: Note) -> Outcome:
    done = client.retry(run_id, **note)
    return Outcome(str(run_id), done, "goes on", _state(run_id))


def _rerun(run_id: UUID, note: Note) -> Outcome:
    new = client.rerun(run_id, **note)
    return Outcome(str(run_id), True, f"started anew as {new}", _state(run_id), new)


def _pause(run_id: UUID, note: Note) -> Outcome:
    done = client.pause(run_id, **note)
    state = _state(run_id)
    return Outcome(str(run_id), done, "paused" if done else f"not paused: it is {state}", state)


def _resume(run_id: UUID, note: Note) -> Outcome:
    done = client.resume(run_id, **note)
    state = _state(run_id)
    return Outcome(str(run_id), done, f"goes on: it is {state}" if done else f"not resumed: it is {state}", state)


def _wake(run_id: UUID, note: Note) -> Outcome:
    done = client.wake(run_id, **note)
    state = _state(run_id)
    told = "woken: its nearest timer counts as due" if done else f"not woken: it is {state} and has no open timer"
    return Outcome(str(run_id), done, told, state)


def _state(run_id: UUID) -> str | None:
    return client.runs().filter(id=run_id).values_list("state", flat=True).first()


CALLS: dict[str, Callable[[UUID, Note], Outcome]] = {
    "cancel": _cancel,
    "retry": _retry,
    "rerun": _rerun,
    "pause": _pause,
    "resume": _resume,
    "wake": _wake,
}
