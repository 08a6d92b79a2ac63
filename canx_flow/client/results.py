"""Waiting for the end of a run, and what the caller gets then: its result, or the exception for how it ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from ..core import codec
from ..core.current import refuse_in_body
from ..core.current import step as current_step
from ..core.durations import seconds
from ..exceptions import InvalidState, RunCancelled, RunFailed
from ..models import WorkflowRun
from ..states import CANCELLED, ENDED, FAILED
from . import named
from .polling import poller


def result(run_id: UUID | str, timeout: float | timedelta | None = None, *, workflow: str | None = None) -> Any:
    """Wait for the end of a run; its result, or RunFailed, RunCancelled, TimeoutError after `timeout` seconds."""
    limit = None if timeout is None else seconds(timeout, "timeout")
    # In a loop, because a retry may let the run go on between the poller's answer and this query.
    while (run := _ended(run_id, workflow)) is None:
        if not poller.wait(named.alias(), named.as_uuid(run_id), limit):
            raise TimeoutError(f"run {run_id} had not ended after {limit:g} seconds")
    return _result(run)


async def aresult(
    run_id: UUID | str,
    timeout: float | timedelta | None = None,  # noqa: ASYNC109 - the twin's own argument
    *,
    workflow: str | None = None,
) -> Any:
    """Wait for the end of a run as `result` does, from async code and without a thread."""
    limit = None if timeout is None else seconds(timeout, "timeout")
    while (run := await sync_to_async(_ended)(run_id, workflow)) is None:
        if not await poller.wait_async(named.alias(), named.as_uuid(run_id), limit):
            raise TimeoutError(f"run {run_id} had not ended after {limit:g} seconds")
    return _result(run)


def _ended(run_id: UUID | str, workflow: str | None) -> WorkflowRun | None:
    """Return the run if it has ended; InvalidState where the caller could never see its end."""
    refuse_in_body("result")
    if current_step.get() is not None:
        raise InvalidState(
            "result() inside a step would hold the step until another run ends: wait in the body instead"
        )
    connection = connections[named.alias()]
    was_open = connection.connection is not None
    run = named.get(run_id, workflow)
    if run.state in ENDED:
        return run
    if connection.in_atomic_block:
        raise InvalidState(
            f"run {run.id} has not ended, and inside a transaction its end can never be seen: call result() outside; "
            "in a TestCase, after canx_flow.testing.run_until_idle() or advance()"
        )
    if not was_open:  # It would stay open for as long as this waits. One that was has a session of the caller's.
        connection.close()
    return None


def _result(run: WorkflowRun) -> Any:
    """Return the result of a run that has ended, or raise for how it ended."""
    if run.state == FAILED:
        raise RunFailed(run.id, codec.loads_plain(run.error) if run.error else None)
    if run.state == CANCELLED:
        raise RunCancelled(run.id, run.reason)
    return codec.loads(run.result or "null")
