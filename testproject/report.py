"""What became of the demo's runs: each one's timeline from its step records, and a verdict.

The verdict compares the database with the ledger, to which the steps' functions append from outside every transaction.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from uuid import UUID

from canx_flow.models import StepRecord, WorkflowRun
from shop import ledger

WIDTH = 44  # characters for the whole demo
# What each run must have called, by its workflow.
STEPS = {
    "subscription": ["charge", "renew"],
    "order-processing": ["fetch-order", "reserve-items", "take-payment", "send-confirmation"],
}


def timelines(names: dict[UUID, str], began: float, killed: float) -> str:
    """A table for each run: its steps, when they began, how long they took, drawn to one scale."""
    runs = {run.id: run for run in WorkflowRun.objects.filter(id__in=names)}
    end = max(_seconds(run.finished_at) for run in runs.values())
    scale = Scale(began, end)
    lines = ["", f"  {'':22}{'began':>8}{'took':>9}  {'':{scale.column(killed)}}↓ kill -9"]
    for run_id, name in names.items():
        lines.append(f"\n  {name}: {runs[run_id].state}")
        lines += [_row(record, scale, killed) for record in StepRecord.objects.filter(run=run_id).order_by("seq")]
    return "\n".join(lines)


def verdict(names: dict[UUID, str], killed: float) -> tuple[str, bool]:
    """The facts, each marked as it should be or not; and whether all are."""
    calls = Counter((line.run, line.step) for line in ledger.read() if line.what == "began")
    ends = Counter((line.run, line.step) for line in ledger.read() if line.what == "ended")
    interrupted = _in_flight(killed)
    runs = WorkflowRun.objects.filter(id__in=names)
    wanted = {(str(run.id), step) for run in runs for step in STEPS[run.workflow]}
    stored = Counter(
        (str(run), step)
        for run, step in StepRecord.objects.filter(run__in=names, kind="step", state="completed").values_list(
            "run", "name"
        )
    )
    completed = sum(run.state == "completed" for run in runs)
    again = {call for call, number in calls.items() if number > 1}
    once = sum(calls[step] == ends[step] == 1 for step in wanted - interrupted)
    facts = [
        (f"{completed} of {len(names)} runs completed", completed == len(names)),
        (f"{len(stored)} of {len(wanted)} steps have one stored result", stored == Counter(wanted)),
        (f"{once} of {len(wanted) - len(interrupted)} uninterrupted steps ran once", once == len(wanted - interrupted)),
        (
            f"interrupted by the kill: {_named(interrupted, names)}; it ran {_times(calls, interrupted)}",
            len(interrupted) == 1 and again == interrupted and all(calls[s] == 2 and ends[s] == 1 for s in interrupted),
        ),
    ]
    lines = ["", "  Verdict", *(f"    {'✓' if good else '✗'} {fact}" for fact, good in facts)]
    return "\n".join(lines), all(good for _, good in facts)


class Scale:
    """Seconds to columns."""

    def __init__(self, began: float, end: float) -> None:
        self.began, self._per_column = began, max(end - began, 0.1) / WIDTH

    def column(self, at: float) -> int:
        return min(max(int((at - self.began) / self._per_column), 0), WIDTH - 1)

    def bar(self, began: float, end: float, mark: str) -> str:
        first, last = self.column(began), self.column(end)
        return " " * first + mark * (last - first + 1)


def _row(record: StepRecord, scale: Scale, killed: float) -> str:
    began, ended = _seconds(record.started_at), _seconds(record.finished_at)
    drawn = scale.bar(began, ended, "·" if record.kind == "sleep" else "█")
    note = ""
    if (str(record.run_id), record.name) in _in_flight(killed):
        first = next(line.at for line in ledger.read() if (line.run, line.step) == (str(record.run_id), record.name))
        lost = scale.bar(first, killed, "▒")
        drawn, note = lost + drawn[len(lost) :], "  ▒ killed, █ ran again"
    took = f"{ended - began:.2f} s" if ended - began >= 0.1 else f"{(ended - began) * 1000:.0f} ms"
    return f"    {record.name:20}{began - scale.began:6.1f} s{took:>9}  {drawn}{note}"


def _in_flight(moment: float) -> set[tuple[str, str]]:
    """The steps that had begun and not ended at that moment, by the ledger."""
    before: Counter[tuple[str, str]] = Counter()
    for line in ledger.read():
        if line.at <= moment:
            before[line.run, line.step] += 1 if line.what == "began" else -1
    return {step for step, open_ in before.items() if open_}


def _named(steps: set[tuple[str, str]], names: dict[UUID, str]) -> str:
    return " and ".join(f"{step} of {names[UUID(run)]}" for run, step in sorted(steps)) or "nothing"


def _times(calls: Counter[tuple[str, str]], steps: set[tuple[str, str]]) -> str:
    words = {1: "once", 2: "twice"}
    return " and ".join(words.get(calls[step], f"{calls[step]} times") for step in sorted(steps)) or "never"


def _seconds(moment: datetime | None) -> float:
    assert moment is not None
    return moment.timestamp()
