"""What must be true after any crash: everything as without one, and nothing that was stored done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from .reports import Calls, Report
from .story import ONCE, UNSURE


def faults(undisturbed: Report, after: Report) -> list[str]:
    """Return what is wrong after a crash, in words; nothing if all is as it should be."""
    found = list(_different("run", undisturbed.runs, after.runs))
    found += _different("record", _sure(undisturbed), _sure(after))
    found += _different("row of an atomic step", undisturbed.rows, after.rows)
    found += _different("leftover", undisturbed.leftovers, after.leftovers)
    for before in after.before:
        found += _called_again(before, after.calls)
        found += _changed(before, after.calls)
    found += _called_twice(after.calls)
    if after.complaint:
        found.append(after.complaint)
    return found


def _sure(report: Report) -> list[str]:
    return [text for body, name, text in report.records if not {body, name} & UNSURE]


def _different(what: str, expected: Iterable[str], found: Iterable[str]) -> Iterator[str]:
    missing, added = Counter(expected), Counter(found)
    yield from (f"{what} missing: {text} ({number} times)" for text, number in (missing - added).items())
    yield from (f"{what} too many: {text} ({number} times)" for text, number in (added - missing).items())


def _called_again(before: Calls, after: Calls) -> Iterator[str]:
    """Tell of calls, after a crash, of what was stored or over then."""
    for call in after.made[len(before.made) :]:
        generation, has_ended = before.runs.get(call.run_id, (0, False))
        over, attempts, _ = before.stored.get((call.run_id, call.name), (False, 0, ""))
        if has_ended or call.generation < generation:
            yield f"step {call.name!r} of a run, or generation, that had ended was called"
        elif call.generation > generation:
            continue
        elif over:
            yield f"step {call.name!r} was stored, and was called again"
        elif call.attempt <= attempts:
            yield f"attempt {call.attempt} of step {call.name!r} was stored, and was called again"


def _changed(before: Calls, after: Calls) -> Iterator[str]:
    """Tell of results, after a crash, that are others than they were stored."""
    for (run_id, name), (over, attempts, result) in before.stored.items():
        if not over or after.runs[run_id][0] != before.runs[run_id][0]:
            continue
        now = after.stored.get((run_id, name))
        if now != (over, attempts, result):
            yield f"step {name!r} was stored as {attempts, result}, and is {now}"


def _called_twice(calls: Calls) -> Iterator[str]:
    """Tell of steps that may be called once only, however they end, and were called again."""
    made = Counter((call.run_id, call.name) for call in calls.made if call.name == ONCE)
    yield from (f"step {name!r} was called {number} times" for (_, name), number in made.items() if number > 1)
