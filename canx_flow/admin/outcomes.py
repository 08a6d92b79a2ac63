"""What became of many runs, counted and in words. Called by the actions of the list and their report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.utils.translation import ngettext_lazy

from ..insight import speech
from .verbs import Verb

#: Outcomes of many runs, counted.
COUNTED: dict[str, Any] = {
    "cancelled": ngettext_lazy("{number} cancelled", "{number} cancelled", "count"),
    "stopping": ngettext_lazy("{number} is being cancelled", "{number} are being cancelled", "count"),
    "retried": ngettext_lazy("{number} retried", "{number} retried", "count"),
    "paused": ngettext_lazy("{number} paused", "{number} paused", "count"),
    "resumed": ngettext_lazy("{number} resumed", "{number} resumed", "count"),
    "woken": ngettext_lazy("{number} woken", "{number} woken", "count"),
    "ended": ngettext_lazy("{number} already finished", "{number} already finished", "count"),
    "ending": ngettext_lazy("{number} already stopping", "{number} already stopping", "count"),
    "other": ngettext_lazy("{number} neither failed nor parked", "{number} neither failed nor parked", "count"),
    "undone": ngettext_lazy(
        "{number} of which something was undone", "{number} of which something was undone", "count"
    ),
    "held": ngettext_lazy("{number} already paused", "{number} already paused", "count"),
    "not held": ngettext_lazy("{number} not paused", "{number} not paused", "count"),
    "over": ngettext_lazy("{number} ending or finished", "{number} ending or finished", "count"),
    "no timer": ngettext_lazy("{number} without an open timer", "{number} without an open timer", "count"),
    "risky": ngettext_lazy("{number} that has killed its workers", "{number} that have killed their workers", "count"),
    "forbidden": ngettext_lazy("{number} that you may not change", "{number} that you may not change", "count"),
}
#: The same of runs that were left alone, where that is all there is to say.
_LEFT_ALONE: dict[str, Any] = {
    "ended": ngettext_lazy("{number} run has already finished", "{number} runs have already finished", "count"),
    "ending": ngettext_lazy("{number} run is already stopping", "{number} runs are already stopping", "count"),
    "other": ngettext_lazy(
        "{number} run is neither failed nor parked", "{number} runs are neither failed nor parked", "count"
    ),
    "undone": ngettext_lazy("of {number} run something was undone", "of {number} runs something was undone", "count"),
    "held": ngettext_lazy("{number} run is already paused", "{number} runs are already paused", "count"),
    "not held": ngettext_lazy("{number} run is not paused", "{number} runs are not paused", "count"),
    "over": ngettext_lazy(
        "{number} run is ending or has finished", "{number} runs are ending or have finished", "count"
    ),
    "no timer": ngettext_lazy("{number} run has no open timer", "{number} runs have no open timer", "count"),
}
#: Those that changed nothing.
UNCHANGED = ("ended", "ending", "other", "undone", "held", "not held", "over", "no timer", "risky", "forbidden")


def summary(counts: Mapping[str, int]) -> str:
    """Write `12 cancelled, 3 already finished`."""
    return _listed(COUNTED, counts)


def nothing_to_do(verb: Verb, states: Mapping[str, int], otherwise: str) -> str:
    """Write `Nothing to retry: 1 run is neither failed nor parked.`"""
    why = _listed(_LEFT_ALONE, left_alone(verb, states)) or otherwise
    return str(verb.texts.nothing).format(why=why)


def left_alone(verb: Verb, states: Mapping[str, int]) -> Counter[str]:
    """Count the runs in each of these states as not changed."""
    counted: Counter[str] = Counter()
    for state, number in states.items():
        counted[verb.outcome("unchanged", state).code] += number
    return counted


def _listed(words: Mapping[str, Any], counted: Mapping[str, int]) -> str:
    return ", ".join(_counted(said, counted[code]) for code, said in words.items() if counted.get(code))


def _counted(said: Any, count: int) -> str:
    """Write a count; which form of the words it needs is decided by `count`, and `number` is what is written."""
    return str(said.format(count=count, number=speech.number(count)))
