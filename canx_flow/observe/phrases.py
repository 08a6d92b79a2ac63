"""The parts of the log's lines that need more than a value of their fact. Called by `log` alone."""

from __future__ import annotations

from typing import Any

from django.db import Error
from django.utils import timezone

from ..core import clock
from ..core.durations import span
from ..core.failures import steps_of
from ..core.pretty import counted, printable
from ..exceptions import StepFailed, StepInterrupted, StoredError, class_path
from . import facts
from .facts.leaving import InFlight, RunLeft
from .facts.processes import WhyLeave
from .facts.workers import Blocker
from .lines import Part

_BRIEF = 300  # characters of an error in a line
_NAMED = 5  # runs that a line names

# -- errors --------------------------------------------------------------------------------------------


def brief(text: str) -> str:
    """Return a text of any length as a part of one line: escaped for terminals, cut off."""
    line = printable(" ".join(text[: 4 * _BRIEF].split()))
    return line if len(line) <= _BRIEF else f"{line[: _BRIEF - 1]}…"


def first_line(fact: Any) -> str:
    """Return what the fact's error says; not the lines after the first one, in which PostgreSQL quotes the row."""
    return next(iter(str(fact.error).splitlines()), "")


def kind(fact: Any) -> str:
    """Return the name of the error's class."""
    return type(fact.error).__name__


def unexpected(fact: Any) -> BaseException | None:
    """Return the error for its traceback, unless a database has raised it: then its first line says it all."""
    return None if isinstance(fact.error, Error) else fact.error


def stored_error(error: StoredError) -> Part:
    """Return the type of a stored error in the text, and its message as an argument."""
    name = str(error.get("type", "")).removeprefix("builtins.").replace("%", "%%")
    message = brief(str(error.get("message", "")))
    return Part(f"{name}: %s", (message,)) if message else Part(name)


# -- runs and steps ------------------------------------------------------------------------------------


def failure(fact: facts.RunFailed) -> Part:
    """Return what a run has failed by. The failure of a step has the type that its last attempt has failed with."""
    raised = fact.raised
    if not isinstance(raised, StepFailed) or isinstance(raised, StepInterrupted) or not raised.errors:
        return stored_error(fact.error)
    last = stored_error(raised.errors[-1])
    name, attempts = class_path(type(raised)).replace("%", "%%"), "attempt" if raised.attempts == 1 else "attempts"
    return Part(
        f"{name}: step %r failed after %d {attempts}: {last.text}", (raised.step, raised.attempts, *last.arguments)
    )


def cause(fact: facts.RunFailed) -> BaseException | None:
    """Return the exception that says most: of a failed step what its function has raised, if that is still known."""
    raised = fact.raised
    if isinstance(raised, StepFailed) and raised.__cause__ is not None and raised.__cause__.__traceback__ is not None:
        return raised.__cause__
    return raised


def failed_step(fact: facts.RunFailed) -> dict[str, object]:
    """Return the step that ended the run; and the stored traceback, where the exception itself is gone."""
    steps = steps_of(fact.error)
    found: dict[str, object] = {"step": steps[0] if steps else None}
    if isinstance(fact.raised, StepFailed) and cause(fact) is fact.raised and fact.raised.errors:
        found["traceback"] = fact.raised.errors[-1].get("traceback", "")
    return found


def most_attempts(fact: facts.AttemptFailed) -> object:
    """Return how many attempts the step has in all."""
    return "∞" if fact.most is None else fact.most


def next_attempt(fact: facts.AttemptFailed) -> Part:
    """Return when the step is tried again, or that it is not."""
    if fact.due_at is None:
        return Part("gives up")
    after = max((fact.due_at - clock.now()).total_seconds(), 0)
    moment = timezone.localtime(fact.due_at).strftime("%Y-%m-%d %H:%M:%S %Z")
    return Part("next try in %.4g s, at %s", (after, moment))


def parked_kind(fact: facts.RunParked) -> str:
    """Return the first word of the reason: an error's name."""
    return fact.reason.partition(": ")[0]


def parked_why(fact: facts.RunParked) -> str:
    """Return the rest of the reason."""
    return fact.reason.partition(": ")[2]


def refused(fact: facts.WriteRefused) -> str:
    """Return what became of the write."""
    return "it may be stored all the same, for its answer was lost" if fact.unclear else "not stored"


def refused_steps(fact: facts.WriteRefused) -> str:
    """Return the names of its records."""
    return ", ".join(fact.steps) or "the end of an activation"


# -- workers -------------------------------------------------------------------------------------------


def death(fact: facts.WorkerLost) -> str:
    """Return why the worker counts as dead."""
    return "its process has ended" if fact.process_ended else f"it gave no sign for {fact.lease:g} s"


def recovered(fact: facts.RunsRecovered) -> str:
    """Return which runs were recovered, and in which step each was when the worker last said so."""
    named = ", ".join(f"run {run}{f' (in step {step!r})' if step else ''}" for run, step in fact.runs)
    more = fact.total - len(fact.runs)
    return f"{named} and {more:,} more" if more > 0 else named


def released_count(fact: facts.UnknownRunsReleased) -> str:
    """Return how many runs were released."""
    return counted(len(fact.run_ids), "run")


def released(fact: facts.UnknownRunsReleased) -> str:
    """Return the first of them."""
    return ", ".join(map(str, fact.run_ids[:_NAMED]))


def abandoned(fact: facts.TooManyAbandoned) -> str:
    """Return how many threads are abandoned."""
    return counted(fact.abandoned, "step thread")


def blocker(fact: facts.LoopBlocked | facts.LoopUnblocked) -> str:
    """Return whose code blocks the event loop, and where it stands."""
    found: Blocker = fact.blocker
    if found.run_id is None:
        return f"a task of no run that is known, at {found.where}"
    step = f"in step {found.step!r}" if found.step is not None else "in its body"
    return f"run {found.run_id} of {found.workflow}, {step}, at {found.where}"


# -- leaving -------------------------------------------------------------------------------------------


def worker(fact: facts.WorkerWaits | facts.WorkerCutOff) -> str:
    """Return which worker it is."""
    return f"Worker {fact.name} (pid {fact.pid})"


def waits(fact: facts.WorkerWaits) -> str:
    """Return whether the worker says so for the first time."""
    return "still waits" if fact.again else "was told to stop and waits"


def hint(fact: facts.WorkerWaits) -> str:
    """Return what a second signal does, the first time."""
    return "" if fact.again else ". A second Ctrl-C (INT or TERM) leaves at once"


def patience(fact: facts.WorkerWaits) -> str:
    """Return for how long it waits."""
    return span(fact.seconds)


def why_cut_off(fact: facts.WorkerCutOff) -> str:
    """Return why the worker waits no longer."""
    return "it was told to" if fact.forced else f"{span(fact.timeout)} have passed"


def left(fact: facts.WorkerWaits | facts.WorkerCutOff) -> str:
    """Return for what it waits: `2 runs: run … of order, in step 'charge' for 12 s; run … of order, in its body`."""
    found: InFlight = fact.left
    parts = [f"run {run.run_id} of {run.workflow}, {_where(run)}" for run in found.runs]
    if found.more > 0:
        parts.append(f"{found.more:,} more in a step or their body")
    if found.ending:
        what = "to be stored" if found.stored else "to be stored: the database does not answer"
        parts.append(f"{'the' if not parts else f'{found.ending:,} with their'} end {what}")
    count = counted(found.total, "run")
    return f"{count}: {'; '.join(parts)}" if parts else count


def _where(run: RunLeft) -> str:
    if run.step is None:
        where = "in its body"
    else:
        attempt = f" (attempt {run.attempt})" if run.attempt > 1 else ""
        since = span(run.seconds) if run.seconds is not None else f"less than {run.beat:.3g} s"
        where = f"in step {run.step!r}{attempt} for {since}"
    return f"{where}, blocking the event loop at {run.blocks_at}" if run.blocks_at else where


# -- processes -----------------------------------------------------------------------------------------


def pids(fact: facts.ProcessesLeave | facts.ProcessesKilled) -> str:
    """Return the process ids."""
    return ", ".join(map(str, fact.pids))


def why_leave(fact: facts.ProcessesLeave) -> Part:
    """Return why the processes are told to leave."""
    if fact.why is WhyLeave.ENDED:
        return Part("Worker process %s ended with %s and none is started in its place", fact.ended)
    if fact.why is WhyLeave.LATE:
        return Part("%g s have passed", (fact.waited,))
    if fact.why is WhyLeave.ASKED_AGAIN:
        return Part("Told to stop again")
    return Part("Told to stop (a second Ctrl-C, INT or TERM, leaves at once)")


def how_leave(fact: facts.ProcessesLeave) -> Part:
    """Return what the processes are told to do."""
    if fact.at_once:
        return Part("leave at once; other workers go on with their runs")
    return Part("finish their current steps and leave")


def step_of(fact: facts.CommitHookFailed) -> dict[str, object]:
    """Return the run and step of a fact that knows no more of its run."""
    return {"run_id": None if fact.run_id is None else str(fact.run_id), "step": fact.step}
