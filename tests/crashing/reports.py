"""What a process finds in the database and in the steps' file: read by `judging` when all has ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db.models import Q

from canx_flow.core.naming import END
from canx_flow.models import Event, RunKey, StepRecord, Timer, WorkflowRun
from canx_flow.states import CANCELLED, ENDED, FAILED, RecordState

from .. import effects
from ..models import Effect

#: Ids, and what is hashed of them.
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32,}")


class Call(NamedTuple):
    """A call of a step, as its line tells of it."""

    run_id: str
    generation: int
    attempt: int
    name: str

    @classmethod
    def of(cls, line: str) -> Call:
        """Return what this line tells of."""
        run_id, generation, attempt, name = line.split(" ", 3)
        return cls(run_id, int(generation), int(attempt), name)


_OVER = (RecordState.COMPLETED, RecordState.FAILED)


@dataclass
class Calls:
    """The calls of steps until a moment, and what of them was stored then."""

    made: Sequence[Call]
    #: Each run's generation, and whether it has ended.
    runs: dict[str, tuple[int, bool]]
    #: Each record, by its run and name: whether it is over, its attempts and its result.
    stored: dict[tuple[str, str], tuple[bool, int, str | None]]


@dataclass
class Report:
    """How all of it stands when a worker has ended."""

    runs: list[str]
    #: The name of its body, its own name, and how it is.
    records: list[tuple[str, str, str]]
    rows: list[str]
    leftovers: list[str]
    calls: Calls
    #: As it stood when each worker began that has followed a crash.
    before: list[Calls] = field(default_factory=list)
    #: The writes of this worker, in their order, with the how manyth of its kind each was.
    writes: list[tuple[str, int]] = field(default_factory=list)
    complaint: str = ""


def calls() -> Calls:
    """Return the calls until now. The lines are read last: what is stored was called before."""
    runs = WorkflowRun.objects.values_list("id", "generation", "state")
    records = StepRecord.objects.values_list("run_id", "name", "state", "attempts", "result")
    return Calls(
        runs={str(run_id): (generation, state in ENDED) for run_id, generation, state in runs},
        stored={(str(run_id), name): (state in _OVER, *values) for run_id, name, state, *values in records},
        made=[Call.of(line) for line in effects.read()],
    )


def report() -> Report:
    """Return how it stands now."""
    codes = dict(WorkflowRun.objects.values_list("id", "workflow"))
    records = StepRecord.objects.values_list("run_id", "name", "kind", "state", "result")
    return Report(
        runs=sorted(_run(run) for run in WorkflowRun.objects.all()),
        records=sorted(
            (codes[run_id].rpartition(".")[2], name, _nameless(f"{codes[run_id]} {name}: {kind} {state} {result}"))
            for run_id, name, kind, state, result in records
        ),
        rows=sorted(f"{row.name}={row.value}" for row in Effect.objects.all()),
        leftovers=_leftovers(),
        calls=calls(),
    )


def _run(run: Any) -> str:
    told = [run.workflow, run.state, run.reason, run.result, run.key, run.attributes, run.generation]
    return _nameless(" ".join(str(value) for value in told))


def _leftovers() -> list[str]:
    """Return what should have gone with the end of the last run."""
    # A failed run keeps its waits, held, and what it has not read, for a `retry`.
    timers = Timer.objects.exclude(held=True, run__state=FAILED)
    found = [f"timer {timer.kind} of {timer.step!r}" for timer in timers]
    found += [f"run {run.workflow} has an owner" for run in WorkflowRun.objects.filter(owner__isnull=False)]
    # That a loser's child was cancelled comes before its parent's end, or behind it.
    lost = Q(name__startswith=END, payload__contains=f'["{CANCELLED}"')
    unread = Event.objects.filter(run__isnull=False, consumed_at=None).exclude(Q(run__state=FAILED) | lost)
    found += [f"unread event {event.name}" for event in unread]
    found += [
        f"{kept} keys for {keys} runs"
        for kept, keys in [(RunKey.objects.count(), WorkflowRun.objects.filter(key__isnull=False).count())]
        if kept != keys
    ]
    return sorted(_nameless(line) for line in found)


def _nameless(text: str) -> str:
    """Return it without ids, which are others each time."""
    return _UUID.sub("<id>", text)
