"""The text of every line of the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError

from canx_flow.exceptions import RunTimedOut, StepFailed, StoredError, UnknownWorkflow
from canx_flow.observe import announce, facts, log
from canx_flow.observe.facts import WhyLeave
from canx_flow.observe.facts.runs import Fact

from .keeping import kept_lines

pytestmark = pytest.mark.once

ID = UUID(int=7)
RUN = facts.RunRef(ID, "order", "", "mail")
OTHER = UUID(int=8)
BROKEN = ValueError("50% %s")
AWAY = OperationalError("no route\nDETAIL: more")
STORED = StoredError(type="builtins.ValueError", message="50% %s", traceback="the stored one", at="", mro=[])
STEP = facts.RunLeft(ID, "order", "charge", 2, 12.0, 5.0, "")
BODY = facts.RunLeft(OTHER, "order", None, 1, None, 5.0, "shop.py:3 in wait")
CODE = facts.Blocker(ID, "order", "charge", "shop.py:3 in charge")
LEFT = facts.InFlight(4, (STEP, BODY), 1, 1, stored=False)
_LEFT = (
    f"4 runs: run {ID} of order, in step 'charge' (attempt 2) for 12 s; run {OTHER} of order, in its body, blocking "
    f"the event loop at shop.py:3 in wait; 1 more in a step or their body; 1 with their end to be stored: the database "
    f"does not answer"
)


@pytest.fixture
def lines() -> Iterator[list[logging.LogRecord]]:
    """What the engine logs, on any level."""
    with kept_lines("canx_flow", logging.DEBUG) as kept:
        yield kept


#: The fact, its logger and level, what the line says, and the exception that goes along.
LINES: list[tuple[Fact, str, str, str, BaseException | type[BaseException] | None]] = [
    (
        facts.NotDispatched(RUN, "far", "celery", AWAY), "canx_flow.run", "WARNING",
        f"Run {ID} of order: step 'far' is dispatched again: executor 'celery' has met no route",
        None,
    ),
    (
        facts.AttemptFailed(RUN, "charge", 2, 3, STORED, None), "canx_flow.run", "WARNING",
        f"Run {ID} of order: step 'charge' failed, attempt 2 of 3: ValueError: 50% %s; gives up",
        None,
    ),
    (
        facts.RunFailed(RUN, STORED, BROKEN), "canx_flow.run", "ERROR",
        f"Run {ID} of order failed: ValueError: 50% %s",
        BROKEN,
    ),
    (
        facts.RunTimedOut(RUN), "canx_flow.run", "ERROR",
        f"Run {ID} of order failed: it had not ended at its deadline",
        RunTimedOut,
    ),
    (
        facts.RunParked(RUN, "UnknownWorkflow: no worker knows it"), "canx_flow.run", "ERROR",
        f"Run {ID} of order is parked: UnknownWorkflow: no worker knows it",
        UnknownWorkflow,
    ),
    (
        facts.RunParked(RUN, "HistoryMismatch: 'charge' was a sleep", BROKEN), "canx_flow.run", "ERROR",
        f"Run {ID} of order is parked: HistoryMismatch: 'charge' was a sleep",
        BROKEN,
    ),
    (
        facts.RunStillParked(RUN, "UnknownWorkflow: no worker knows it"), "canx_flow.run", "INFO",
        f"Run {ID} of order is still parked: UnknownWorkflow: no worker knows it",
        None,
    ),
    (
        facts.RunContinued(RUN, 2), "canx_flow.run", "DEBUG",
        f"Run {ID} of order goes on as generation 2, with an empty history",
        None,
    ),
    (
        facts.WriteRefused(RUN, 3, ("charge", "nap"), unclear=False), "canx_flow.run", "WARNING",
        (f"Write refused: run {ID} of order has another owner or has ended (epoch 3 was this worker's); not"
        " stored: charge, nap"),
        None,
    ),
    (
        facts.WriteRefused(RUN, 3, (), unclear=True), "canx_flow.run", "WARNING",
        (f"Write refused: run {ID} of order has another owner or has ended (epoch 3 was this worker's); it "
        "may be stored all the same, for its answer was lost: the end of an activation"),
        None,
    ),
    (
        facts.CommitHookFailed(ID, "charge", BROKEN), "canx_flow.run", "ERROR",
        f"Step 'charge' of run {ID} is stored, but a function that it passed to on_commit has failed",
        BROKEN,
    ),
    (
        facts.ReceiverLeftTransaction("default"), "canx_flow.run", "ERROR",
        "A receiver of a signal has left a transaction open on database 'default': it is rolled back",
        None,
    ),
    (
        facts.SignalNotSent(BROKEN), "canx_flow.signals", "ERROR",
        "A signal could not be sent to all of its receivers",
        BROKEN,
    ),
    (
        facts.ActivationBroke(RUN, BROKEN), "canx_flow.worker", "ERROR",
        f"Run {ID} of order met an error outside its body and its steps; it is handed back and tried again",
        BROKEN,
    ),
    (
        facts.HandBackFailed(RUN, BROKEN), "canx_flow.worker", "ERROR",
        (f"Run {ID} of order could not be handed back: this worker owns it until the worker ends, or finds "
        "in its next check that it does not have it in flight"),
        BROKEN,
    ),
    (
        facts.ChangeNotWritable(ID, 5, BROKEN), "canx_flow.worker", "ERROR",
        (f"What run {ID} has to store cannot be written, after 5 tries, though the database takes other "
        "writes: the run fails with this error"),
        BROKEN,
    ),
    (
        facts.RunNeedsRoom(RUN, 3), "canx_flow.worker", "WARNING",
        (f"Run {ID} of order must run alone, because its workers have died: this worker claims nothing else"
        " until the 3 in flight have ended"),
        None,
    ),
    (
        facts.WorkerLost(OTHER, "web-1", 4711, process_ended=True, lease=30.0), "canx_flow.worker", "WARNING",
        f"Worker web-1 (pid 4711, id {OTHER}) is dead: its process has ended; other workers take its runs over",
        None,
    ),
    (
        facts.WorkerLost(OTHER, "web-1", 4711, process_ended=False, lease=1.5), "canx_flow.worker", "WARNING",
        (f"Worker web-1 (pid 4711, id {OTHER}) is dead: it gave no sign for 1.5 s; other workers take its "
        "runs over"),
        None,
    ),
    (
        facts.RunsRecovered("web-1:4711", OTHER, ((ID, "charge"), (OTHER, None)), 5), "canx_flow.worker", "WARNING",
        (f"Recovered from worker web-1:4711 (id {OTHER}), which has ended: run {ID} (in step 'charge'), run"
        f" {OTHER} and 3 more; any worker can claim them now"),
        None,
    ),
    (
        facts.WorkerFoundDead(30.0), "canx_flow.worker", "ERROR",
        ("This worker was found dead by another one, because its heartbeat stood still for its lease of 30"
        " s (a frozen process, a database that did not answer?): other workers take its runs over; it "
        "stores nothing more for them, and registers anew"),
        None,
    ),
    (
        facts.DeathNotPassedOn(BROKEN), "canx_flow.worker", "ERROR",
        ("This worker was found dead, and its heartbeat could not tell the main thread, which finds out at"
        " its next turn"),
        BROKEN,
    ),
    (
        facts.ThreadRestarted("committer"), "canx_flow.worker", "ERROR",
        "This worker's committer thread had died; it is started again",
        None,
    ),
    (
        facts.ThreadKeepsDying("committer"), "canx_flow.worker", "ERROR",
        "This worker's committer thread dies again and again: the worker hands its runs back and exits with code 1",
        None,
    ),
    (
        facts.TurnsKeepFailing(), "canx_flow.worker", "ERROR",
        ("Every turn of this worker has failed for a whole lease, though the database answers: the worker "
        "hands its runs back and exits with code 1"),
        None,
    ),
    (
        facts.ScheduleNotRead("nightly", BROKEN), "canx_flow.worker", "WARNING",
        ("Schedule 'nightly' does not tick here: ValueError: 50% %s. Other workers may; it is tried again each "
        "second"),
        BROKEN,
    ),
    (
        facts.UnknownRunsReleased((ID, OTHER)), "canx_flow.worker", "WARNING",
        ("This worker owned 2 runs that it did not have in flight, probably because the answer to a claim "
        f"was lost: they are ready again ({ID}, {OTHER})"),
        None,
    ),
    (
        facts.QueueSteered("queue", "mail", "paused", "the provider is down", "ada"), "canx_flow.queues", "INFO",
        "The queue 'mail' was paused: the provider is down, by ada",
        None,
    ),
    (
        facts.QueueSteered("workflow", "order", "resumed", "", ""), "canx_flow.queues", "INFO",
        "The workflow 'order' was resumed",
        None,
    ),
    (
        facts.ThreadNotStarted(BROKEN), "canx_flow.worker", "ERROR",
        ("No thread can be started for a claimed run (too many in this process or system?): the run waits "
        "for one of the existing threads"),
        BROKEN,
    ),
    (
        facts.SlotBroke(BROKEN), "canx_flow.worker", "ERROR",
        ("An error inside canx_flow, in the thread of a slot (please report it): the thread goes on with "
        "the next run"),
        BROKEN,
    ),
    (
        facts.ThreadAbandoned(2), "canx_flow.worker", "WARNING",
        ("A step function still runs after its step's timeout, so its thread is abandoned; this worker has"
        " 2 such threads. At --concurrency of them it hands its runs back and exits. The line about the "
        "failed attempt names the step"),
        None,
    ),
    (
        facts.TooManyAbandoned(16), "canx_flow.worker", "ERROR",
        ("Abandoned in steps that outlived their timeout: 16 step threads, as many as --concurrency "
        "allows. The worker hands its runs back and exits with code 1, because only a new process is rid of "
        "them"),
        None,
    ),
    (
        facts.BatchSplit(12, BROKEN), "canx_flow.worker", "DEBUG",
        "A batch of 12 changes could not be written at once: each is written alone",
        BROKEN,
    ),
    (
        facts.WriteUnanswered(6.2, 12), "canx_flow.worker", "WARNING",
        "The database has not answered a write of this worker for 6 s: the results of 12 runs wait to be stored",
        None,
    ),
    (
        facts.AfterStoreFailed(BROKEN), "canx_flow.worker", "ERROR",
        ("A signal, a line of the log or a wake-up has failed after a run's record was committed; the record "
        "is stored"),
        BROKEN,
    ),
    (
        facts.CommitterBroke(BROKEN), "canx_flow.worker", "ERROR",
        ("An error inside canx_flow, in the committer (please report it): the committer goes on, and what "
        "was not stored is tried again"),
        BROKEN,
    ),
    (
        facts.LoopGone(), "canx_flow.worker", "DEBUG",
        "The event loop ended before the changes of its runs were stored",
        None,
    ),
    (
        facts.ActivityNotDescribed(BROKEN), "canx_flow.worker", "ERROR",
        "What this worker's runs are doing could not be described: this heartbeat is sent without it",
        BROKEN,
    ),
    (
        facts.HeartbeatFileNotTouched(OSError("no such folder")), "canx_flow.worker", "WARNING",
        ("The file of --heartbeat-file cannot be touched (no such folder): a probe that asks for its age "
        "finds it old"),
        None,
    ),
    (
        facts.LoopBroke(BROKEN), "canx_flow.worker", "ERROR",
        "The event loop of this worker broke: its async runs are handed back and tried again in a new one",
        BROKEN,
    ),
    (
        facts.ExitInTask("SystemExit"), "canx_flow.worker", "WARNING",
        ("SystemExit was raised in a task that an async run had started: only that task ends, neither its "
        "run nor this worker"),
        None,
    ),
    (
        facts.LoopStopped(), "canx_flow.worker", "WARNING",
        "The code of an async run has called stop() on this worker's event loop: the loop goes on",
        None,
    ),
    (
        facts.LoopBlocked(CODE, "the stack"), "canx_flow.worker", "WARNING",
        (f"The event loop has been blocked for a second: run {ID} of order, in step 'charge', at shop.py:3 in"
        " charge. No async run of this worker goes on until it does; move what blocks into a plain step, "
        "or behind sync_to_async. Its stack:\nthe stack"),
        None,
    ),
    (
        facts.LoopUnblocked(facts.Blocker(None, "?", None, "shop.py:3 in wait"), 4.2), "canx_flow.worker", "WARNING",
        ("The event loop goes on after about 4 seconds; it was blocked by a task of no run that is known, "
        "at shop.py:3 in wait"),
        None,
    ),
    (
        facts.LoopWatchFailed(BROKEN), "canx_flow.worker", "ERROR",
        "Whether the event loop of this worker is blocked could not be checked; it is checked again",
        BROKEN,
    ),
    (
        facts.WorkerWaits("web-1", 4711, again=False, seconds=25.0, left=LEFT), "canx_flow.worker", "WARNING",
        (f"Worker web-1 (pid 4711) was told to stop and waits, for 25 s at most, for {_LEFT}. A second "
        "Ctrl-C (INT or TERM) leaves at once"),
        None,
    ),
    (
        facts.WorkerWaits("web-1", 4711, again=True, seconds=5.0, left=LEFT), "canx_flow.worker", "WARNING",
        f"Worker web-1 (pid 4711) still waits, for 5.0 s at most, for {_LEFT}",
        None,
    ),
    (
        facts.WorkerCutOff("web-1", 4711, forced=True, timeout=25.0, left=LEFT), "canx_flow.worker", "WARNING",
        (f"Worker web-1 (pid 4711) leaves at once (it was told to) with {_LEFT}. Other workers go on with "
        "them, and call again the steps that were cut off"),
        None,
    ),
    (
        facts.WorkerCutOff("web-1", 4711, forced=False, timeout=25.0, left=LEFT), "canx_flow.worker", "WARNING",
        (f"Worker web-1 (pid 4711) leaves at once (25 s have passed) with {_LEFT}. Other workers go on with"
        " them, and call again the steps that were cut off"),
        None,
    ),
    (
        facts.GoodbyeFailed(AWAY, 30.0), "canx_flow.worker", "WARNING",
        ("The database is away (no route), so this worker leaves without handing its runs back: other "
        "workers take them over when its lease of 30 s has run out"),
        None,
    ),
    (
        facts.TurnMetOutage(AWAY), "canx_flow.worker", "WARNING",
        "The database is away (no route); the worker tries again",
        None,
    ),
    (
        facts.TurnFailed(AWAY), "canx_flow.worker", "WARNING",
        "A turn of this worker (claims, timers, events) failed; it is tried again: OperationalError: no route",
        None,
    ),
    (
        facts.TurnFailed(BROKEN), "canx_flow.worker", "WARNING",
        "A turn of this worker (claims, timers, events) failed; it is tried again: ValueError: 50% %s",
        BROKEN,
    ),
    (
        facts.TurnRepeated(AWAY), "canx_flow.worker", "DEBUG",
        "A turn of this worker met a deadlock and is repeated at once: no route\nDETAIL: more",
        None,
    ),
    (
        facts.StoreFailed(AWAY), "canx_flow.worker", "WARNING",
        ("The database does not take the results of this worker's runs; it is tried again: "
        "OperationalError: no route"),
        None,
    ),
    (
        facts.StoreFailed(BROKEN), "canx_flow.worker", "WARNING",
        ("The database does not take the results of this worker's runs; it is tried again: "
        "ValueError: 50% %s"),
        BROKEN,
    ),
    (
        facts.BeatFailed(AWAY, 30.0), "canx_flow.worker", "WARNING",
        ("The heartbeat of this worker does not reach the database (no route); after 30 s without one, "
        "other workers take its runs over"),
        None,
    ),
    (
        facts.BeatFailed(BROKEN, 30.0), "canx_flow.worker", "WARNING",
        ("The heartbeat of this worker does not reach the database (50% %s); after 30 s without one, other"
        " workers take its runs over"),
        BROKEN,
    ),
    (
        facts.ActivationMetOutage(AWAY, RUN), "canx_flow.worker", "WARNING",
        f"The database is away for run {ID} of order (no route); the run is tried again",
        None,
    ),
    (
        facts.OutageEnded("committer"), "canx_flow.worker", "WARNING",
        "The committer of this worker reaches the database again",
        None,
    ),
    (
        facts.ConnectionCut("default", 31.2), "canx_flow.worker", "WARNING",
        ("A connection of the engine to database 'default' has had no answer for 31 s: it is closed, and "
        "opened anew"),
        None,
    ),
    (
        facts.SlowStatementNotTold(BROKEN), "canx_flow.worker", "ERROR",
        "A slow statement could not be reported",
        BROKEN,
    ),
    (
        facts.PoolTooSmall("The pool has 4 connections."), "canx_flow.worker", "WARNING",
        "The pool has 4 connections.",
        None,
    ),
    (
        facts.WorkersNotTold("default", BROKEN), "canx_flow.telling", "DEBUG",
        "The workers of database 'default' were not told of new work and will poll: 50% %s",
        None,
    ),
    (
        facts.NotCalledOff("celery", OTHER, AWAY), "canx_flow.executors", "WARNING",
        f"Executor 'celery' was not told that task {OTHER} is given up: no route; what comes of it is refused",
        None,
    ),
    (
        facts.OutcomeRefused(OTHER), "canx_flow.executors", "WARNING",
        f"Task {OTHER} has ended, its run did not wait for it: its outcome is refused",
        None,
    ),
    (
        facts.BeatNotStored(OTHER, AWAY), "canx_flow.executors", "WARNING",
        f"A beat of task {OTHER} did not reach the database: no route",
        None,
    ),
    (
        facts.AfterCommitSkipped("wake", AWAY), "canx_flow.telling", "DEBUG",
        "wake, called after a commit, is done by the workers instead: no route\nDETAIL: more",
        None,
    ),
    (
        facts.AfterCommitFailed("wake", BROKEN), "canx_flow.telling", "ERROR",
        "wake, called after a commit, failed; the commit stands, and the workers do it at their next poll",
        BROKEN,
    ),
    (
        facts.NoWakeSocket(OSError("too long")), "canx_flow.wakeup", "DEBUG",
        "This worker has no socket to be woken by, and polls: too long",
        None,
    ),
    (
        facts.ListenRefused(BROKEN), "canx_flow.wakeup", "DEBUG",
        "LISTEN does not work here; the worker polls",
        BROKEN,
    ),
    (
        facts.ListenLost(AWAY), "canx_flow.wakeup", "DEBUG",
        "The connection for LISTEN was lost: no route\nDETAIL: more",
        None,
    ),
    (
        facts.StartWaits(AWAY, 0.5), "canx_flow.worker", "WARNING",
        "The database is away (no route); next try in 0.5 s",
        None,
    ),
    (
        facts.ChecksSkipped(AWAY), "canx_flow.worker", "WARNING",
        "System checks were skipped, because a database that they ask is away: no route\nDETAIL: more",
        None,
    ),
    (
        facts.AdviceSkipped(AWAY), "canx_flow.worker", "DEBUG",
        "The due runs and timers could not be counted: no route\nDETAIL: more",
        None,
    ),
    (
        facts.SourceNotRead("order@2", BROKEN), "canx_flow", "DEBUG",
        "The body of workflow 'order@2' could not be read for the system checks",
        BROKEN,
    ),
    (
        facts.ProcessNotUp(4711, 3.0), "canx_flow.worker", "ERROR",
        "Worker process 4711 has not come up within 3 s: it is killed",
        None,
    ),
    (
        facts.ProcessEnded(4711, -9, 0.5), "canx_flow.worker", "ERROR",
        "Worker process 4711 ended with -9; another starts in 0.5 s",
        None,
    ),
    (
        facts.ProcessesLeave((11, 12), WhyLeave.ASKED, at_once=False), "canx_flow.worker", "WARNING",
        ("Told to stop (a second Ctrl-C, INT or TERM, leaves at once): worker processes 11, 12 are to "
        "finish their current steps and leave"),
        None,
    ),
    (
        facts.ProcessesLeave((11, 12), WhyLeave.ASKED_AGAIN, at_once=True), "canx_flow.worker", "WARNING",
        "Told to stop again: worker processes 11, 12 are to leave at once; other workers go on with their runs",
        None,
    ),
    (
        facts.ProcessesLeave((11, 12), WhyLeave.ENDED, at_once=False, ended=(10, 3)), "canx_flow.worker", "WARNING",
        ("Worker process 10 ended with 3 and none is started in its place: worker processes 11, 12 are to "
        "finish their current steps and leave"),
        None,
    ),
    (
        facts.ProcessesLeave((11, 12), WhyLeave.LATE, at_once=True, waited=28.0), "canx_flow.worker", "WARNING",
        "28 s have passed: worker processes 11, 12 are to leave at once; other workers go on with their runs",
        None,
    ),
    (
        facts.ProcessesKilled((11, 12)), "canx_flow.worker", "WARNING",
        "Did not leave in time: worker processes 11, 12 are killed; other workers go on with their runs",
        None,
    ),
    (
        facts.StopNotTaken(BROKEN), "canx_flow.worker", "ERROR",
        ("A signal told this worker to stop, and it could not take the order: send the signal again, and "
        "it leaves at once"),
        BROKEN,
    ),
    (
        facts.WorkerStuck(), "canx_flow.worker", "ERROR",
        "This worker does not leave, perhaps because the database does not answer: its process is ended",
        None,
    ),
    (
        facts.ProcessStuck(), "canx_flow.worker", "ERROR",
        "This worker has left, but its process does not end by itself: it is ended",
        None,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fact", "logger", "level", "message", "exception"), LINES, ids=[type(line[0]).__name__ for line in LINES]
)
def test_each_fact_has_its_line(
    lines: list[logging.LogRecord],
    fact: Fact,
    logger: str,
    level: str,
    message: str,
    exception: BaseException | type[BaseException] | None,
) -> None:
    """With its logger, its level, its words, and the exception that an error tracker shows."""
    announce(fact)
    [line] = lines
    assert (line.name, line.levelname, line.getMessage()) == (logger, level, message)
    found = line.exc_info[1] if line.exc_info is not None else None
    assert found is exception or type(found) is exception


def test_every_line_is_shown_here() -> None:
    """A new fact brings its sentence to the table above."""
    assert set(log.LINES) == {type(line[0]) for line in LINES}


def test_lines_of_runs_say_which_run_it_is(lines: list[logging.LogRecord]) -> None:
    """In extra attributes, for structured logs: the step as well, where it is one's."""
    for fact, *_ in LINES:
        announce(fact)
    runs = [line for line in lines if line.name == "canx_flow.run" and line.levelno != logging.DEBUG]
    told = [line for line in runs if "transaction" not in line.getMessage()]
    assert {line.__dict__["run_id"] for line in told} == {str(ID)}
    found = {line.getMessage().partition(": ")[0]: line.__dict__ for line in told}
    attempt = found[f"Run {ID} of order"]
    assert [attempt[name] for name in ("workflow", "queue", "step", "attempt")] == ["order", "mail", "charge", 2]
    assert found[f"Run {ID} of order failed"]["step"] is None


def test_a_line_that_no_logger_wants_is_not_built(caplog: pytest.LogCaptureFixture) -> None:
    """What a fact holds is not even looked at."""
    caplog.set_level(logging.CRITICAL, "canx_flow.run")
    announce(facts.AttemptFailed(RUN, "charge", 1, 1, None, None))  # type: ignore[arg-type]
    assert caplog.records == []


def test_a_step_that_failed_long_ago_is_told_with_its_stored_traceback(lines: list[logging.LogRecord]) -> None:
    """Its own exception is gone; the StepFailed that the replay has raised holds the text."""
    error = StepFailed("charge", 3, [STORED])
    announce(facts.RunFailed(RUN, {**STORED, "step": "charge"}, error))
    [line] = lines
    assert line.getMessage() == (
        f"Run {ID} of order failed: canx_flow.exceptions.StepFailed: step 'charge' failed after 3 attempts: "
        f"ValueError: 50% %s"
    )
    assert (line.__dict__["traceback"], line.__dict__["step"]) == ("the stored one", "charge")
    assert "ValueError" in line.msg, "error trackers group by it"


def test_the_names_in_a_text_are_no_formats(lines: list[logging.LogRecord]) -> None:
    """A workflow may be called anything."""
    announce(facts.RunTimedOut(facts.RunRef(ID, "100% {order} %s", "", "mail")))
    assert lines[0].getMessage() == f"Run {ID} of 100% {{order}} %s failed: it had not ended at its deadline"


# -- the page of the run -------------------------------------------------------------------------------


@pytest.fixture
def admin(settings: Any) -> str:
    """Where the project's admin is."""
    settings.CANX_FLOW = {"ADMIN_URL": "https://example.com/office/"}
    return "https://example.com/office/canx_flow/workflowrun"


FAILED_IN = StoredError(
    type="canx_flow.exceptions.StepFailed", message="step 'ship it' failed after 1 attempt: ValueError: x",
    traceback="", at="", mro=[], step="ship it",
)  # fmt: skip


@pytest.mark.parametrize(
    ("fact", "page"),
    [
        (facts.RunFailed(RUN, STORED, BROKEN), f"{ID}/change/"),
        (facts.RunFailed(RUN, FAILED_IN, None), f"{ID}/change/?step=ship%20it#step-ship_it"),
        (facts.RunTimedOut(RUN), f"{ID}/change/"),
        (facts.RunParked(RUN, "HistoryMismatch: other code"), f"{ID}/change/"),
        (facts.CommitHookFailed(ID, "left/mail#2", BROKEN), f"{ID}/change/?step=left%2Fmail%232#step-left%2Fmail%232"),
        (facts.ActivationBroke(RUN, BROKEN), f"{ID}/change/"),
        (facts.ChangeNotWritable(ID, 3, BROKEN), f"{ID}/change/"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_a_run_says_where_it_is_shown(
    admin: str, lines: list[logging.LogRecord], fact: Fact, page: str
) -> None:
    """At the step that it is about. What groups lines by their text still does: the address is an argument."""
    announce(fact)
    [line] = lines
    assert line.levelname == "ERROR"
    assert line.getMessage().endswith(f"; see {admin}/{page}")
    assert str(ID) not in line.msg
    assert vars(line)["run_url"] == f"{admin}/{page}"


def test_a_warning_has_the_address_beside_it(admin: str, lines: list[logging.LogRecord]) -> None:
    """There are many of them: their text stays as it is."""
    announce(facts.AttemptFailed(RUN, "charge", 2, 3, STORED, None))
    [line] = lines
    assert "https:" not in line.getMessage()
    assert vars(line)["run_url"] == f"{admin}/{ID}/change/?step=charge#step-charge"


def test_without_the_setting_no_line_has_an_address(lines: list[logging.LogRecord]) -> None:
    """Where the admin is, nobody else knows."""
    announce(facts.RunFailed(RUN, STORED, BROKEN))
    [line] = lines
    assert "see" not in line.getMessage()
    assert not hasattr(line, "run_url")
