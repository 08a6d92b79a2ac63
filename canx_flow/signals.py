"""What happened to a run, for receivers in your project: sent after the commit, at most once.

Work that must happen is a step; a receiver that fails is logged and never breaks a run. The sender is the
`Workflow`, or `None` where this process does not know it. Every signal has `run_id` (UUID) and `workflow` (its name).
`observe.django_signals` sends them.
"""

from __future__ import annotations

from django.dispatch import Signal

#: A worker has claimed the run for the first time.
run_started = Signal()
#: The run sleeps, waits, or waits for the next attempt of a step. With `state`: sleeping, waiting or retrying.
run_suspended = Signal()
#: A worker has claimed the run again: after a suspension, a pause, a crash or a deployment.
run_resumed = Signal()
#: The workflow has returned.
run_completed = Signal()
#: The run has failed: by an exception, or at its deadline.
run_failed = Signal()
#: The run has ended by a cancel.
run_cancelled = Signal()
#: The run cannot go on until a person or a deployment acts. With `reason`.
run_parked = Signal()
#: A step's result is stored. With `step` (its whole key) and `attempt`.
step_completed = Signal()
#: An attempt of a step has failed; there may be another. With `step`, `attempt` and `error` (a dict).
step_failed = Signal()

ALL = (
    run_started, run_suspended, run_resumed, run_completed, run_failed, run_cancelled, run_parked, step_completed,
    step_failed,
)  # fmt: skip
