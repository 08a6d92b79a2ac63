"""Every line that the engine logs: for each kind of fact its logger, level and text. And the receiver that writes them.

In a text, `%(name)s` is an argument of the line and `{name}` a part of its text: attributes of the fact, or of
`phrases`. `exc_info` says which exception goes along. A line about a run carries `run_id`, `workflow`, `queue`, `step`.
"""

from __future__ import annotations

from functools import partial
from logging import DEBUG, ERROR, INFO, WARNING
from operator import attrgetter

from ..exceptions import RunTimedOut, UnknownWorkflow
from . import facts, phrases
from .facts.runs import Fact
from .lines import Line, Log

RUN, QUEUES, WORKER, SIGNALS, WAKEUP, TELLING, CHECKS, EXECUTORS = (
    "canx_flow.run", "canx_flow.queues", "canx_flow.worker", "canx_flow.signals", "canx_flow.wakeup",
    "canx_flow.telling", "canx_flow", "canx_flow.executors",
)  # fmt: skip

_cause = attrgetter("error")
_first_line = phrases.first_line
_warning, _error = partial(Line, WORKER, WARNING), partial(Line, WORKER, ERROR)
_of_run, _of_executor = partial(Line, RUN, WARNING), partial(Line, EXECUTORS, WARNING)
_defect = partial(Line, WORKER, ERROR, exc_info=_cause)

LINES: dict[type[Fact], Line] = {
    # -- queues ----------------------------------------------------------------------------------------
    facts.QueueSteered: Line(
        QUEUES, INFO, "The %(what)s %(name)r was %(change)s%(why)s%(who)s",
        why=lambda fact: f": {fact.reason.partition(chr(10))[0]}" if fact.reason else "",
        who=lambda fact: f", by {fact.by}" if fact.by else "",
    ),
    # -- runs and steps --------------------------------------------------------------------------------
    facts.AttemptFailed: Line(
        RUN, WARNING,
        "Run %(run.id)s of {run.workflow}: step %(step)r failed, attempt %(attempt)s of %(most)s: {error}; {then}",
        error=lambda fact: phrases.stored_error(fact.error), most=phrases.most_attempts, then=phrases.next_attempt,
        extra=lambda fact: {"attempt": fact.attempt},
    ),
    facts.NotDispatched: _of_run(
        "Run %(run.id)s of {run.workflow}: step %(step)r is dispatched again: executor %(executor)r has met %(error)s",
        error=_first_line,
    ),
    facts.NotCalledOff: _of_executor(
        "Executor %(executor)r was not told that task %(token)s is given up: %(error)s; what comes of it is refused",
        error=_first_line,
    ),
    facts.OutcomeRefused: _of_executor("Task %(token)s has ended, its run did not wait for it: its outcome is refused"),
    facts.BeatNotStored: _of_executor("A beat of task %(token)s did not reach the database: %(met)s", met=_first_line),
    facts.RunFailed: Line(
        RUN, ERROR, "Run %(run.id)s of {run.workflow} failed: {error}",
        error=phrases.failure, exc_info=phrases.cause, extra=phrases.failed_step,
    ),
    facts.RunTimedOut: Line(
        RUN, ERROR, "Run %(run.id)s of {run.workflow} failed: it had not ended at its deadline",
        exc_info=lambda _fact: RunTimedOut("it had not ended at its deadline"),
    ),
    facts.RunParked: Line(
        RUN, ERROR, "Run %(run.id)s of {run.workflow} is parked: {kind}: %(why)s",
        kind=phrases.parked_kind, why=phrases.parked_why,
        exc_info=lambda fact: fact.raised or UnknownWorkflow(phrases.parked_why(fact)),
    ),
    facts.RunStillParked: Line(
        RUN, INFO, "Run %(run.id)s of {run.workflow} is still parked: {kind}: %(why)s",
        kind=phrases.parked_kind, why=phrases.parked_why,
    ),
    facts.RunContinued: Line(
        RUN, DEBUG, "Run %(run.id)s of {run.workflow} goes on as generation %(generation)d, with an empty history",
    ),
    facts.WriteRefused: _of_run(
        "Write refused: run %(run.id)s of %(run.workflow)s has another owner or has ended (epoch %(epoch)s was this "
        "worker's); %(became)s: %(steps)s",
        became=phrases.refused, steps=phrases.refused_steps,
    ),
    facts.CommitHookFailed: Line(
        RUN, ERROR, "Step %(step)r of run %(run_id)s is stored, but a function that it passed to on_commit has failed",
        exc_info=_cause, extra=phrases.step_of,
    ),
    facts.ReceiverLeftTransaction: Line(
        RUN, ERROR, "A receiver of a signal has left a transaction open on database %(alias)r: it is rolled back",
    ),
    facts.SignalNotSent: Line(
        SIGNALS, ERROR, "A signal could not be sent to all of its receivers", exc_info=_cause,
    ),
    # -- runs in a worker ------------------------------------------------------------------------------
    facts.ActivationBroke: _defect(
        "Run %(run.id)s of %(run.workflow)s met an error outside its body and its steps; it is handed back and tried "
        "again",
    ),
    facts.HandBackFailed: _defect(
        "Run %(run.id)s of %(run.workflow)s could not be handed back: this worker owns it until the worker ends, or "
        "finds in its next check that it does not have it in flight",
    ),
    facts.ChangeNotWritable: _defect(
        "What run %(run_id)s has to store cannot be written, after %(tries)d tries, though the database takes other "
        "writes: the run fails with this error",
    ),
    facts.RunNeedsRoom: _warning(
        "Run %(run.id)s of %(run.workflow)s must run alone, because its workers have died: this worker claims nothing "
        "else until the %(in_flight)d in flight have ended",
    ),
    # -- the life of a worker --------------------------------------------------------------------------
    facts.WorkerLost: _warning(
        "Worker %(name)s (pid %(pid)d, id %(worker_id)s) is dead: %(death)s; other workers take its runs over",
        death=phrases.death,
    ),
    facts.RunsRecovered: _warning(
        "Recovered from worker %(worker)s (id %(worker_id)s), which has ended: %(runs)s; any worker can claim them now",
        runs=phrases.recovered,
    ),
    facts.WorkerFoundDead: _error(
        "This worker was found dead by another one, because its heartbeat stood still for its lease of %(lease)g s (a "
        "frozen process, a database that did not answer?): other workers take its runs over; it stores nothing more "
        "for them, and registers anew",
    ),
    facts.DeathNotPassedOn: _defect(
        "This worker was found dead, and its heartbeat could not tell the main thread, which finds out at its next "
        "turn",
    ),
    facts.ThreadRestarted: _error("This worker's %(name)s thread had died; it is started again"),
    facts.ThreadKeepsDying: _error(
        "This worker's %(name)s thread dies again and again: the worker hands its runs back and exits with code 1",
    ),
    facts.TurnsKeepFailing: _error(
        "Every turn of this worker has failed for a whole lease, though the database answers: the worker hands its "
        "runs back and exits with code 1",
    ),
    facts.ScheduleNotRead: _warning(
        "Schedule %(name)r does not tick here: %(kind)s: %(error)s. Other workers may; it is tried again each second",
        kind=phrases.kind, error=_first_line, exc_info=_cause,
    ),
    facts.UnknownRunsReleased: _warning(
        "This worker owned %(count)s that it did not have in flight, probably because the answer to a claim was lost: "
        "they are ready again (%(runs)s)",
        count=phrases.released_count, runs=phrases.released,
    ),
    # -- slots and threads -----------------------------------------------------------------------------
    facts.ThreadNotStarted: _defect(
        "No thread can be started for a claimed run (too many in this process or system?): the run waits for one of "
        "the existing threads",
    ),
    facts.SlotBroke: _defect(
        "An error inside canx_flow, in the thread of a slot (please report it): the thread goes on with the next run",
    ),
    facts.ThreadAbandoned: _warning(
        "A step function still runs after its step's timeout, so its thread is abandoned; this worker has "
        "%(abandoned)d such threads. At --concurrency of them it hands its runs back and exits. The line about the "
        "failed attempt names the step",
    ),
    facts.TooManyAbandoned: _error(
        "Abandoned in steps that outlived their timeout: %(count)s, as many as --concurrency allows. The worker hands "
        "its runs back and exits with code 1, because only a new process is rid of them",
        count=phrases.abandoned,
    ),
    # -- the committer and the heartbeat ---------------------------------------------------------------
    facts.BatchSplit: Line(
        WORKER, DEBUG, "A batch of %(changes)d changes could not be written at once: each is written alone",
        exc_info=_cause,
    ),
    facts.WriteUnanswered: _warning(
        "The database has not answered a write of this worker for %(seconds).0f s: the results of %(runs)d runs wait "
        "to be stored",
    ),
    facts.AfterStoreFailed: _defect(
        "A signal, a line of the log or a wake-up has failed after a run's record was committed; the record is "
        "stored",
    ),
    facts.CommitterBroke: _defect(
        "An error inside canx_flow, in the committer (please report it): the committer goes on, and what was not "
        "stored is tried again",
    ),
    facts.LoopGone: Line(WORKER, DEBUG, "The event loop ended before the changes of its runs were stored"),
    facts.ActivityNotDescribed: _defect(
        "What this worker's runs are doing could not be described: this heartbeat is sent without it",
    ),
    facts.HeartbeatFileNotTouched: _warning(
        "The file of --heartbeat-file cannot be touched (%(error)s): a probe that asks for its age finds it old",
    ),
    # -- the event loop --------------------------------------------------------------------------------
    facts.LoopBroke: _defect(
        "The event loop of this worker broke: its async runs are handed back and tried again in a new one",
    ),
    facts.ExitInTask: _warning(
        "%(exception)s was raised in a task that an async run had started: only that task ends, neither its run nor "
        "this worker",
    ),
    facts.LoopStopped: _warning(
        "The code of an async run has called stop() on this worker's event loop: the loop goes on",
    ),
    facts.LoopBlocked: _warning(
        "The event loop has been blocked for a second: %(blocker)s. No async run of this worker goes on until it does; "
        "move what blocks into a plain step, or behind sync_to_async. Its stack:\n%(stack)s",
        blocker=phrases.blocker,
    ),
    facts.LoopUnblocked: _warning(
        "The event loop goes on after about %(seconds).0f seconds; it was blocked by %(blocker)s",
        blocker=phrases.blocker,
    ),
    facts.LoopWatchFailed: _defect(
        "Whether the event loop of this worker is blocked could not be checked; it is checked again",
    ),
    # -- leaving ---------------------------------------------------------------------------------------
    facts.WorkerWaits: _warning(
        "%(worker)s %(waits)s, for %(patience)s at most, for %(left)s%(hint)s",
        worker=phrases.worker, waits=phrases.waits, patience=phrases.patience, left=phrases.left, hint=phrases.hint,
    ),
    facts.WorkerCutOff: _warning(
        "%(worker)s leaves at once (%(why)s) with %(left)s. Other workers go on with them, and call again the steps "
        "that were cut off",
        worker=phrases.worker, why=phrases.why_cut_off, left=phrases.left,
    ),
    facts.GoodbyeFailed: _warning(
        "The database is away (%(error)s), so this worker leaves without handing its runs back: other workers take "
        "them over when its lease of %(lease)g s has run out",
        error=_first_line,
    ),
    # -- outages ---------------------------------------------------------------------------------------
    facts.TurnMetOutage: _warning(
        "The database is away (%(error)s); the worker tries again", error=_first_line,
    ),
    facts.TurnFailed: _warning(
        "A turn of this worker (claims, timers, events) failed; it is tried again: %(kind)s: %(error)s",
        kind=phrases.kind, error=_first_line, exc_info=phrases.unexpected,
    ),
    facts.TurnRepeated: Line(
        WORKER, DEBUG, "A turn of this worker met a deadlock and is repeated at once: %(error)s",
    ),
    facts.StoreFailed: _warning(
        "The database does not take the results of this worker's runs; it is tried again: %(kind)s: %(error)s",
        kind=phrases.kind, error=_first_line, exc_info=phrases.unexpected,
    ),
    facts.BeatFailed: _warning(
        "The heartbeat of this worker does not reach the database (%(error)s); after %(lease)g s without one, other "
        "workers take its runs over",
        error=_first_line, exc_info=phrases.unexpected,
    ),
    facts.ActivationMetOutage: _warning(
        "The database is away for run %(run.id)s of %(run.workflow)s (%(error)s); the run is tried again",
        error=_first_line,
    ),
    facts.OutageEnded: _warning("The {part} of this worker reaches the database again"),
    # -- connections, and being woken ------------------------------------------------------------------
    facts.ConnectionCut: _warning(
        "A connection of the engine to database %(alias)r has had no answer for %(seconds).0f s: it is closed, and "
        "opened anew",
    ),
    facts.SlowStatementNotTold: _defect("A slow statement could not be reported"),
    facts.PoolTooSmall: _warning("%(explanation)s"),
    facts.WorkersNotTold: Line(
        TELLING, DEBUG, "The workers of database %(alias)r were not told of new work and will poll: %(error)s",
    ),
    facts.AfterCommitSkipped: Line(
        TELLING, DEBUG, "%(name)s, called after a commit, is done by the workers instead: %(error)s",
    ),
    facts.AfterCommitFailed: Line(
        TELLING, ERROR,
        "%(name)s, called after a commit, failed; the commit stands, and the workers do it at their next poll",
        exc_info=_cause,
    ),
    facts.NoWakeSocket: Line(WAKEUP, DEBUG, "This worker has no socket to be woken by, and polls: %(error)s"),
    facts.ListenRefused: Line(WAKEUP, DEBUG, "LISTEN does not work here; the worker polls", exc_info=_cause),
    facts.ListenLost: Line(WAKEUP, DEBUG, "The connection for LISTEN was lost: %(error)s"),
    # -- processes -------------------------------------------------------------------------------------
    facts.StartWaits: _warning(
        "The database is away (%(error)s); next try in %(delay)g s", error=_first_line,
    ),
    facts.ChecksSkipped: _warning(
        "System checks were skipped, because a database that they ask is away: %(error)s",
    ),
    facts.AdviceSkipped: Line(WORKER, DEBUG, "The due runs and timers could not be counted: %(error)s"),
    facts.SourceNotRead: Line(
        CHECKS, DEBUG, "The body of workflow %(workflow)r could not be read for the system checks", exc_info=_cause,
    ),
    facts.ProcessNotUp: _error("Worker process %(pid)s has not come up within %(patience)g s: it is killed"),
    facts.ProcessEnded: _error("Worker process %(pid)s ended with %(code)s; another starts in %(delay)g s"),
    facts.ProcessesLeave: _warning(
        "{why}: worker processes %(pids)s are to {how}",
        why=phrases.why_leave, pids=phrases.pids, how=phrases.how_leave,
    ),
    facts.ProcessesKilled: _warning(
        "Did not leave in time: worker processes %(pids)s are killed; other workers go on with their runs",
        pids=phrases.pids,
    ),
    facts.StopNotTaken: _defect(
        "A signal told this worker to stop, and it could not take the order: send the signal again, and it leaves at "
        "once",
    ),
    facts.WorkerStuck: _error(
        "This worker does not leave, perhaps because the database does not answer: its process is ended",
    ),
    facts.ProcessStuck: _error("This worker has left, but its process does not end by itself: it is ended"),
}  # fmt: skip

RECEIVER = Log(LINES)
