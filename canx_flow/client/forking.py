"""Forking a run: a new run that is given what the old one had stored before one of its steps, and runs the rest.

In a step, a fork has a key of the step's own, as a start has, so that a repeated step forks no second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from ..core import codec, naming, registry
from ..core.current import Content, refuse_in_body
from ..core.options import checked_note
from ..core.twins import twin
from ..exceptions import NotDecodable
from ..models import WorkflowRun
from ..store import forks, history, rivals, telling
from ..store.afterwards import after_commit
from . import named, starting

_MOST_NAMED = 20  # steps in an error


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a fork has in place of the old run's: `None` where it has the same."""

    from_step: str
    given: tuple[tuple[Any, ...], dict[str, Any]] | None
    version: str | None
    queue: str | None


def fork(
    run_id: UUID | str,
    from_step: str,
    reason: str = "",
    *,
    arguments: tuple[Any, ...] | None = None,
    version: str | None = None,
    queue: str | None = None,
    by: Any = None,
    workflow: str | None = None,
) -> UUID:
    """Start a new run that has the records of this one up to a step, and runs again from there; return the new id."""
    refuse_in_body("fork")
    choice = _Choice(
        naming.checked(from_step, "from_step"),
        _given(arguments),
        version if version in (None, "") else naming.checked(version, "version", 100),
        None if queue is None else naming.checked(queue, "queue", 100),
    )
    note = checked_note("fork", reason, by)
    alias = named.alias()
    return rivals.repeated(alias, lambda: _fork(alias, run_id, workflow, choice, note))


afork = twin(fork)


def _fork(alias: str, run_id: UUID | str, workflow: str | None, choice: _Choice, note: dict[str, Any]) -> UUID:
    # Locked, so that neither its owner nor a timer changes its records between one statement and the next.
    old = named.get(named.locked(run_id, workflow).id, None)
    before = forks.seq_of(alias, old.id, choice.from_step)
    if before is None:
        raise ValueError(_unknown_step(old.id, choice.from_step, forks.names(alias, old.id)))
    new = _new_run(old, choice, note)
    there = starting.insert(alias, new, None, None, lambda: _content(old, choice))
    if there is not None:
        return there[0]
    forks.copy(alias, old.id, new.id, before)
    history.copied(alias, old.id, new.id, note)
    after_commit(alias, telling.tell, alias, "work", telling.Needs.of(new))
    return new.id


def _given(arguments: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return what a fork is to be called with: by position, and by keyword where a tuple and a dict were given."""
    if arguments is None:
        return None
    if not isinstance(arguments, tuple):
        raise TypeError(f"arguments must be a tuple, or a tuple and a dict, not {type(arguments).__name__}")
    if len(arguments) == 2 and isinstance(arguments[0], tuple) and isinstance(arguments[1], dict):
        return arguments
    return arguments, {}


def _new_run(old: WorkflowRun, choice: _Choice, note: dict[str, Any]) -> WorkflowRun:
    """Make the row of the fork. Its generation is the old run's, of which it is a replay at first."""
    new = starting.like(old, **note)
    new.generation, new.seed = old.generation, old.seed or old.id
    new.forked_from_id, new.forked_at = old.id, choice.from_step
    new.has_undo = old.has_undo
    if choice.queue is not None:
        new.queue = choice.queue
    if choice.version is not None:
        known = registry.get(new.workflow, choice.version)
        new.version, new.fingerprint = choice.version, known.fingerprint if known is not None else ""
    if choice.given is not None or choice.version is not None:
        new.arguments = _arguments(new, choice)
    return new


def _arguments(new: WorkflowRun, choice: _Choice) -> str:
    """Return the fork's arguments as text: TypeError unless the function of its version takes them."""
    known = registry.get(new.workflow, new.version)
    if known is None:
        label = naming.label(new.workflow, new.version)
        raise ValueError(f"this process knows no workflow {label!r}, so what it takes cannot be checked")
    if choice.given is not None:
        arguments, keywords = choice.given
        starting.refuse_misfit(known, arguments, keywords)
        return codec.dumps([list(arguments), keywords], f"the arguments of a fork of {known.label!r}")
    with suppress(NotDecodable):  # The old run could not begin either: so says this one, once it is claimed.
        starting.refuse_misfit(known, *codec.loads(new.arguments))
    return new.arguments


def _unknown_step(run_id: UUID, wanted: str, names: Sequence[str]) -> str:
    """Say which steps there are: the nearest names first, then all in their order."""
    if not names:
        return f"run {run_id} has no step {naming.shown(wanted)}: it has stored none yet"
    near = get_close_matches(wanted, names, 3)
    ordered = [*near, *(name for name in names if name not in near)]
    shown = ", ".join(repr(name) for name in ordered[:_MOST_NAMED])
    more = f", and {len(ordered) - _MOST_NAMED:,} more" if len(ordered) > _MOST_NAMED else ""
    return f"run {run_id} has no step {naming.shown(wanted)}: there are {shown}{more}"


def _content(old: WorkflowRun, choice: _Choice) -> Content:
    """Return what tells one fork from another."""
    given = None if choice.given is None else [list(choice.given[0]), choice.given[1]]
    arguments = None if given is None else codec.canonical(codec.dumps(given, "the arguments of a fork"))
    return ("fork", str(old.id), choice.from_step, arguments, choice.version, choice.queue)
