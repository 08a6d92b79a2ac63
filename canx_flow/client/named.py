"""The run that a caller names by its id, as UUID or text. Called by the other modules of `client`."""

from __future__ import annotations

from uuid import UUID

from .. import conf
from ..core.naming import shown
from ..exceptions import RunNotFound
from ..models import RunQuerySet, WorkflowRun
from ..store import runs as store


def alias() -> str:
    """Return the alias of the database that holds the runs."""
    return conf.get().database


def as_uuid(run_id: UUID | str) -> UUID:
    """Return an id as a UUID; RunNotFound for text that is none."""
    if isinstance(run_id, UUID):
        return run_id
    try:
        return UUID(run_id)
    except (ValueError, AttributeError, TypeError):
        raise RunNotFound(f"{shown(run_id)} is no run id: those are UUIDs") from None


def one(run_id: UUID | str, workflow: str | None) -> RunQuerySet:
    """Return the queryset of this run, if it is one of `workflow` (of any, if that is `None`)."""
    chosen = WorkflowRun.objects.using(alias()).filter(id=as_uuid(run_id))
    return chosen if workflow is None else chosen.filter(workflow=workflow)


def get(run_id: UUID | str, workflow: str | None) -> WorkflowRun:
    """Load the run with its owner; RunNotFound if there is none."""
    run = one(run_id, workflow).select_related("owner").first()
    if run is None:
        raise not_found(run_id, workflow)
    return run


def locked(run_id: UUID | str, workflow: str | None, *, why: bool = False) -> WorkflowRun:
    """Load the run and lock its row until the transaction ends; with `why`, also what tells why it ended."""
    found = store.lock(alias(), [as_uuid(run_id)], workflow, why=why)
    if not found:
        raise not_found(run_id, workflow)
    return found[0]


def not_found(run_id: UUID | str, workflow: str | None) -> RunNotFound:
    """Return the error for an id that no run has."""
    return RunNotFound(f"there is no run {run_id}" + (f" of workflow {workflow!r}" if workflow else ""))
