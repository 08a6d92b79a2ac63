"""What must be true after any crash: everything as without one, and nothing that was stored done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from .reports import Calls, Report
from .story import UNSURE


def faults(undisturbed: Report, after: Report) -> list[str]:
    """Return what is wrong after a crash, in words; nothing if all is as it should be."""
    found = list(_different("run", undisturbed.runs, after.runs))
    found += _different("record", _sure(undisturbed), _sure(after))
    found += _different("row of an atomic step", undisturbed.rows, after.rows)
    found += _different("leftover", undisturbed.leftovers, after.leftovers)
    if after.before is not None:
        found += _called_again(after.before, after.calls)
    found += _never_called(after.calls)
    if after.complaint:
        found.append(after.complaint)
    return found


def _sure(report: Report) -> list[str]:
    return [text for name, text in report.records if name not in UNSURE]


def _different(what: str, expected: Iterable[str], found: Iterable[str]) -> Iterator[str]:
    missing, added = Counter(expected), Counter(found)
    yield from (f"{what} missing: {text} ({number} times)" for text, number in (missing - added).items())
    yield from (f"{what} too many: {text} ({number} times)" for text, number in (added - missing).items())


def _called_again(before: Calls, after: Calls) -> Iterator[str]:
    """Tell of calls, after a crash, of what was stored then."""
    for line in after.lines[len(before.lines) :]:
        key, attempt, name = line.split(" ", 2)
        over, attempts, _ = before.stored.get(key, (False, 0, ""))
        if over:
            yield f"step {name!r} was stored, and was called again"
        elif int(attempt) <= attempts:
            yield f"attempt {attempt} of step {name!r} was stored, and was called again"


def _never_called(calls: Calls) -> Iterator[str]:
    """Tell of lines that no record speaks of; and of what was to be called once, and was not."""
    called = Counter(line.split(" ", 1)[0] for line in calls.lines)
    for key, (_over, _attempts, name) in calls.stored.items():
        if name == "once" and called[key] > 1:
            yield f"step {name!r} was called {called[key]} times"
