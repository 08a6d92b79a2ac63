"""Tables of the terminal: runs, and the workflows that are registered.

Called by `flow list` and `flow versions`.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ..core import naming, registry
from ..core.callables import plain
from ..core.durations import ago
from ..insight import cutoffs, overdue, reading
from ..insight.reading import Failing, OpenWait
from ..models import WorkflowRun
from ..states import ALL, CANCELLED, COMPLETED, FAILED, GOING_ON, PARKED, RETRYING, SUSPENDED
from . import finding
from .terminal import Terminal, one_line, share, widest

_ID = 36  # a whole UUID, to be copied
_KEY = 24
_NAMES = 20


def runs(
    terminal: Terminal,
    found: Sequence[WorkflowRun],
    waits: Mapping[UUID, OpenWait],
    failing: Mapping[UUID, Failing],
    now: datetime,
) -> Iterator[str]:
    """Write one line per run: id, state, workflow, start; where there is room, its key and its subject.

    Why a run failed or is parked is said in any case: below it, if need be. So is why a step is tried again.
    """
    labels = [naming.label(run.workflow, run.version) for run in found]
    ages = [ago(run.created_at, now) for run in found]
    about = [_about(run, waits.get(run.id), failing.get(run.id), now) for run in found]
    age = widest(ages, 7, 14)
    told = terminal.width >= 100
    keys = [run.key or "" for run in found]
    key = widest(keys, 3, _KEY) if told and any(keys) else 0
    room = terminal.width - _ID - 2 - 11 - 2 - age - 2 - (key + 2 if key else 0)
    label, rest = share([widest(labels, 8, 60), widest(about, 0, 200) if told else 0], room - (2 if told else 0))
    head = f"  {'key':{key}}" if key else ""
    heading = f"{'id':{_ID}}  {'state':11}  {'workflow':{label}}{head}  {'started':{age}}"
    yield terminal.paint(heading.rstrip(), "HTTP_INFO")
    for run, name, began, words, its_key in zip(found, labels, ages, about, keys, strict=True):
        state = terminal.colour(f"{terminal.sign(run.state)} {run.state:9}", run.state)
        named = terminal.column(name, label) + (f"  {terminal.column(its_key, key)}" if key else "")
        line = f"{run.id}  {state}  {named}  {terminal.column(began, age)}"
        yield f"{line}  {terminal.fit(words, rest)}".rstrip() if told and rest > 3 else line.rstrip()
        why = "" if told and run.state in (FAILED, PARKED) else one_line(_why(run, failing.get(run.id)))
        if why:
            yield terminal.paint(f"  {terminal.signs.branch} {terminal.fit(why, terminal.width - 4)}", "ERROR")


def reason(run: WorkflowRun) -> str:
    """Say why it is in its state: of a failed run what failed, through `REDACT`."""
    if run.state in GOING_ON:
        return ""
    error = reading.error(run)
    return run.reason if error is None else error.brief


def _why(run: WorkflowRun, failing: Failing | None) -> str:
    """Write the last error, for the line below a run's own."""
    if run.state == RETRYING:
        return failing.error.summary_in_brief if failing is not None and failing.error is not None else ""
    return reason(run) if run.state in (FAILED, PARKED) else ""


def _about(run: WorkflowRun, wait: OpenWait | None, failing: Failing | None, now: datetime) -> str:
    """Write what a run waits for, or why it is in its state."""
    if wait is not None and run.state in SUSPENDED:
        return f"{wait.step}: {wait.words(now, failing)}" if wait.step else wait.words(now)
    parts = ["waits to run alone"] if overdue.waits_to_be_alone(run) else [one_line(reason(run))]
    if run.recoveries and run.state in GOING_ON:
        parts.append(cutoffs.words(run.recoveries, (), since=False))
    return ", ".join(part for part in parts if part)


def none_of(names: Sequence[str]) -> str:
    """Say that a list is empty; with the known names, if an unknown one was asked for."""
    known = sorted({name for name, _ in registry.identities()})
    said = f"No runs of {', '.join(names)}." if names else "No runs."
    if set(names) <= set(known):
        return said
    more = f" and {len(known) - _NAMES:,} more" if len(known) > _NAMES else ""
    return f"{said} Known workflows: {', '.join(known[:_NAMES]) or 'none'}{more}."


# -- workflows -------------------------------------------------------------------------------------


def versions(alias: str) -> list[dict[str, Any]]:
    """Describe every workflow that is registered here or has runs: where it is defined, and its runs by state.

    Of each state the newest `finding.MOST_COUNTED` are counted; `not_all_counted` has the states that have more.
    """
    counts, cut = finding.counts(alias)
    identities = sorted({*registry.identities(), *counts}, key=lambda known: (known[0], registry.natural(known[1])))
    return [_version(name, version, counts.get((name, version), Counter()), cut) for name, version in identities]


def _version(name: str, version: str, runs: Counter[str], cut: Sequence[str]) -> dict[str, Any]:
    known = registry.get(name, version)
    place = "" if known is None else registry.place(known.function)
    return {
        "workflow": name,
        "version": version,
        "registered": known is not None,
        "defined_at": place,
        "source": _source(known.function) if known is not None else "",
        "queue": known.queue if known is not None else None,
        "runs": {state: runs[state] for state in ALL if runs[state]},
        "not_all_counted": list(cut),
    }


def _source(function: Any) -> str:
    """Return file and line, where there is a file."""
    found = plain(function)
    try:
        return "" if found is None else f"{inspect.getsourcefile(found)}:{found.__code__.co_firstlineno}"
    except (OSError, TypeError):
        return ""


def version_lines(terminal: Terminal, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one paragraph per workflow."""
    for entry in found:
        yield terminal.strong(naming.label(entry["workflow"], entry["version"]))
        if entry["registered"]:
            yield "  " + terminal.fit(entry["defined_at"], terminal.width - 2)
        else:
            yield "  " + terminal.paint("not registered here", "WARNING")
        yield "  " + _counts(terminal, entry["runs"], entry["not_all_counted"])


def _counts(terminal: Terminal, runs: Mapping[str, int], cut: Sequence[str]) -> str:
    """Return how many runs there are.

    Where not all were counted (`cut`), say of which there may be more. Of those that are completed or cancelled only
    that none is needed to go on: their code may go.
    """
    or_more = dict.fromkeys(cut, " or more")
    said = [f"{number:,}{or_more.get(state, '')} {terminal.colour(state, state)}" for state, number in runs.items()]
    if unseen := [state for state in cut if state not in runs and state not in (COMPLETED, CANCELLED)]:
        said.append(f"none among the newest {finding.MOST_COUNTED:,} that are {', '.join(unseen)}")
    return ", ".join(said) or ("none that may go on" if cut else "no runs")
