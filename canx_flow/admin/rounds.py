"""The failed attempts of a step, numbered, by rounds: each `retry` begins a new one with fresh attempts.

Called by `tables`. No attempt vanishes: of those that are not stored any more it is said how many there were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..core.pretty import printable
from ..insight.display import ShownError
from ..insight.history import Entry
from ..insight.rows import Row
from ..insight.timeline import Timeline
from ..states import RecordState
from . import fragments
from .values import Failure, failure


@dataclass(frozen=True, slots=True)
class Attempt:
    """A failed attempt; or, without one, the line that begins a round."""

    failure: Failure | None
    round: SafeString | str = ""


def of(row: Row, timeline: Timeline) -> tuple[Sequence[Attempt], int]:
    """Return the failed attempts of a step, oldest first, and how many before them are not stored any more."""
    errors = _numbered(row)
    rounds = list(_rounds(errors))
    attempts: list[Attempt] = []
    for number, some in enumerate(rounds, start=1):
        if len(rounds) > 1:
            attempts.append(Attempt(None, _heading(number, some, timeline)))
        attempts += [Attempt(failure(error, timeline.now)) for error in some]
    first = errors[0].attempt if errors else None
    return attempts, first - 1 if first is not None else 0


def _numbered(row: Row) -> Sequence[ShownError]:
    """Return its failures with their numbers: of older releases' none was stored, but they come one after another."""
    left = row.attempts - (row.state == RecordState.COMPLETED)
    numbered: list[ShownError] = []
    for error in reversed(row.errors):
        number = error.attempt if error.attempt is not None else left if left > 0 else None
        numbered.append(replace(error, attempt=number))
        left = (number if number is not None else 0) - 1
    return numbered[::-1]


def _rounds(errors: Sequence[ShownError]) -> Iterator[Sequence[ShownError]]:
    """Yield the failures of each round: where the numbers begin anew, another one began."""
    begin = 0
    for place in range(1, len(errors)):
        before, this = errors[place - 1].attempt, errors[place].attempt
        if this is not None and (before is None or this <= before):
            yield errors[begin:place]
            begin = place
    if errors:
        yield errors[begin:]


def _heading(number: int, errors: Sequence[ShownError], timeline: Timeline) -> SafeString | str:
    """Say which round it is, and who began it: `Round 2, retried by root 12 min ago: psp is back`."""
    retry = _began_by(errors[0].began or errors[0].at, timeline.history) if number > 1 else None
    if retry is None:
        return _("Round {number}").format(number=number)
    text = (
        _("Round {number}, retried by {who} {when}: {why}") if retry.reason
        else _("Round {number}, retried by {who} {when}")
    )  # fmt: skip
    return format_html(
        text, number=number, who=printable(retry.by or retry.channel),
        when=fragments.moment(retry.at, timeline.now), why=printable(retry.reason),
    )  # fmt: skip


def _began_by(at: datetime | None, history: Sequence[Entry]) -> Entry | None:
    """Return the last retry before this moment."""
    return next((e for e in history if at is not None and e.verb == "retry" and e.at <= at), None)
