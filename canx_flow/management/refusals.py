"""Errors as one clear line: what people at a terminal get where a program gets an exception.

Used around everything that the commands do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError
from django.db import Error, connections

from .. import conf
from ..exceptions import CanxFlowError, RunNotFound, ScheduleNotFound, UnknownWorkflow
from ..store.db import errors

_HINTS: dict[type[CanxFlowError], str] = {
    RunNotFound: "See `flow list`.",
    ScheduleNotFound: "See `flow schedules`.",
    UnknownWorkflow: "See `flow versions`.",
}


@contextmanager
def plainly() -> Iterator[None]:
    """Turn what may rightly go wrong into a CommandError; a defect stays an exception with its traceback."""
    try:
        yield
    except (CanxFlowError, ImproperlyConfigured) as exc:
        raise CommandError(said(exc)) from exc
    except Error as exc:
        why = of_database(exc)
        if not why:
            raise
        raise CommandError(why) from exc


def said(exc: Exception) -> str:
    """Write the error as a sentence, with where to look."""
    text = str(exc)
    text = f"{text[:1].upper()}{text[1:]}"
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(exc, kind)), "")
    return f"{text} {hint}".rstrip()


def of_database(exc: BaseException) -> str:
    """Say why the database could not answer; empty if the statement itself was wrong."""
    alias = conf.get().database
    if errors.is_outage(exc):
        return f"The database {alias!r} is away: {' '.join(str(exc).split())}"
    with suppress(Exception):
        from ..worker.process import startup  # Only now: it brings the whole worker.

        if not connections[alias].in_atomic_block:  # Whose it is then, and it would be closed.
            connections[alias].close_if_unusable_or_obsolete()
        return startup.refusal()
    return ""
