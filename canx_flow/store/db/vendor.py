"""The statements as functions of a connection, for the verbs that do not hold its session yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from ...core.changes import Record, Wait
from ...models import WorkflowRun
from .databases import session_of
from .tables import EVENT, KEY, RUN, STEP, TIMER, WORKER, Lease, Locked, OpenWait
from .tables import placeholders as marks

__all__ = ["EVENT", "KEY", "RUN", "STEP", "TIMER", "WORKER", "Lease", "Locked", "OpenWait", "marks"]


def lock(connection: BaseDatabaseWrapper, owner: UUID, leases: set[Lease]) -> dict[Lease, Locked]:
    return session_of(connection).lock(owner, leases)


def insert_records(connection: BaseDatabaseWrapper, rows: Sequence[tuple[UUID, Record]]) -> None:
    session_of(connection).insert_records(rows)


def insert_timers(connection: BaseDatabaseWrapper, rows: Sequence[tuple[UUID, Wait, bool]]) -> None:
    session_of(connection).insert_timers(rows)


def insert_runs(
    connection: BaseDatabaseWrapper, pattern: WorkflowRun, ids: Sequence[UUID], arguments: Sequence[str]
) -> None:
    session_of(connection).insert_runs(pattern, ids, arguments)


def prepared(
    connection: BaseDatabaseWrapper,
    statement: str,
    parameters: Sequence[Any] | Mapping[str, Any],
    *,
    large: bool = False,
) -> list[Any]:
    return session_of(connection).prepared(statement, parameters, large=large)


def uuid_value(connection: BaseDatabaseWrapper, value: UUID | str) -> Any:
    return session_of(connection).uuid(value)


def time_value(connection: BaseDatabaseWrapper, moment: datetime | None) -> Any:
    return session_of(connection).moment(moment)


def time_read(connection: BaseDatabaseWrapper, value: Any) -> datetime | None:
    return session_of(connection).read_moment(value)


def for_update(connection: BaseDatabaseWrapper) -> str:
    return session_of(connection).lock_free_rows


def boolean(connection: BaseDatabaseWrapper, value: bool) -> str:
    session = session_of(connection)
    return session.true if value else session.false


def fetch(connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]) -> list[Any]:
    return session_of(connection).fetch(statement, parameters)


def select_in(
    connection: BaseDatabaseWrapper, statement: str, values: Sequence[Any], rest: str = "", *, large: bool = False
) -> list[Any]:
    return session_of(connection).fetch_of(statement, values, rest, large=large)


def suspend(connection: BaseDatabaseWrapper, run_ids: Sequence[UUID], state: str, reason: str) -> None:
    session_of(connection).suspend(run_ids, state, reason)


def waits_of(connection: BaseDatabaseWrapper, run_ids: Sequence[UUID]) -> list[OpenWait]:
    return session_of(connection).waits_of(run_ids)


def delete(
    connection: BaseDatabaseWrapper,
    table: str,
    column: str,
    values: Sequence[Any],
    rest: str = "",
    parameters: Sequence[Any] = (),
) -> int:
    return session_of(connection).delete(table, column, values, rest, parameters)


def execute(connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]) -> None:
    session_of(connection).execute(statement, parameters)


def many(connection: BaseDatabaseWrapper, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    session_of(connection).execute_many(statement, rows)
