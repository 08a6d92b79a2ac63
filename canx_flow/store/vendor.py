"""The hand-written statements: everything hot that differs by database. Called by `claims` and `writes`.

PostgreSQL does in one prepared statement what the others do in a short transaction. Every write of an owner
is fenced on its run's row, locked in the same transaction: id, owner and epoch match, and the state is owned.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from .. import clock
from ..changes import Change, Record
from ..states import COMPLETED, OWNED, RUNNING
from .engine import is_own

_RUN = "canx_flow_workflowrun"
_STEP = "canx_flow_steprecord"
_RECORD_COLUMNS = "run_id, epoch, seq, name, kind, state, attempts, result, errors, event_id, started_at, finished_at"


@dataclass(slots=True)
class Locked:
    """A run's row as it stands while this transaction has it locked for its owner."""

    state: str
    ended: bool = False


def lock(connection: BaseDatabaseWrapper, owner: UUID, epochs: dict[UUID, int]) -> dict[UUID, Locked]:
    """Lock the rows that are still this owner's, in id order; rows that somebody else has locked are left out."""
    if not epochs:
        return {}
    ids = sorted(epochs, key=str)
    marks = ", ".join(["%s"] * len(ids))
    statement = (
        f"SELECT id, owner_id, epoch, state FROM {_RUN} WHERE id IN ({marks}) ORDER BY id{_for_update(connection)}"
    )
    rows = _fetch(connection, statement, [uuid_value(connection, run_id) for run_id in ids])
    mine = uuid_value(connection, owner)
    found = {}
    for run_id, owner_id, epoch, state in rows:
        key = run_id if isinstance(run_id, UUID) else UUID(run_id)
        if (
            owner_id is not None
            and uuid_value(connection, owner_id) == mine
            and epoch == epochs[key]
            and state in OWNED
        ):
            found[key] = Locked(state)
    return found


def write_plain(
    connection: BaseDatabaseWrapper, owner: UUID, changes: Sequence[Change], *, locked: dict[UUID, Locked] | None = None
) -> dict[UUID, Locked]:
    """New records and completions of many runs at once; returns the rows that were ours.

    `ended` says that the completion was written; a paused or stopping run keeps its state. On PostgreSQL this is
    one statement; elsewhere the rows must have been locked in this transaction, and are handed in.
    """
    if connection.vendor == "postgresql":
        return _write_plain_postgresql(connection, owner, changes)
    found = lock(connection, owner, {c.run_id: c.epoch for c in changes}) if locked is None else locked
    ours = [change for change in changes if change.run_id in found]
    _insert_records(connection, [(change.run_id, record) for change in ours for record in change.inserts])
    ends = [c for c in ours if c.settle is not None and found[c.run_id].state == RUNNING]
    if ends:
        moment = time_value(connection, clock.now())
        rows = [(COMPLETED, c.settle and c.settle.result, moment, uuid_value(connection, c.run_id)) for c in ends]
        _many(
            connection,
            f"UPDATE {_RUN} SET state = %s, ready = {boolean(connection, False)}, owner_id = NULL, "
            f"result = %s, reason = '', error = NULL, finished_at = %s WHERE id = %s",
            rows,
        )
        for change in ends:
            found[change.run_id].ended = True
    return found


_POSTGRESQL = f"""
WITH record AS (
  SELECT * FROM json_to_recordset(%s::json) AS (run_id uuid, epoch int, seq int, name text, kind text, state text,
    attempts int, result text, errors text, event_id bigint, started_at timestamptz, finished_at timestamptz)
), wanted AS (
  SELECT * FROM json_to_recordset(%s::json) AS (run_id uuid, epoch int, ends bool, result text, finished_at timestamptz)
), lease AS (
  SELECT run.id, run.state FROM wanted JOIN {_RUN} run ON run.id = wanted.run_id
  WHERE run.owner_id = %s AND run.epoch = wanted.epoch AND run.state IN ('running', 'paused', 'stopping')
  ORDER BY run.id FOR NO KEY UPDATE OF run SKIP LOCKED
), stored AS (
  INSERT INTO {_STEP} ({_RECORD_COLUMNS})
  SELECT {", ".join("record." + name for name in _RECORD_COLUMNS.split(", "))}
  FROM record JOIN lease ON lease.id = record.run_id
), ended AS (
  UPDATE {_RUN} run SET state = 'completed', ready = false, owner_id = NULL, result = wanted.result, reason = '',
    error = NULL, finished_at = wanted.finished_at
  FROM wanted JOIN lease ON lease.id = wanted.run_id
  WHERE run.id = wanted.run_id AND wanted.ends AND lease.state = 'running'
  RETURNING run.id
)
SELECT lease.id, lease.state, ended.id IS NOT NULL FROM lease LEFT JOIN ended ON ended.id = lease.id
"""


def _write_plain_postgresql(
    connection: BaseDatabaseWrapper, owner: UUID, changes: Sequence[Change]
) -> dict[UUID, Locked]:
    records = [
        {
            "run_id": str(change.run_id), "epoch": record.epoch, "seq": record.seq, "name": record.name,
            "kind": record.kind, "state": record.state, "attempts": record.attempts, "result": record.result,
            "errors": record.errors, "event_id": record.event_id, "started_at": _iso(record.started_at),
            "finished_at": _iso(record.finished_at),
        }
        for change in changes
        for record in change.inserts
    ]  # fmt: skip
    wanted: dict[UUID, dict[str, Any]] = {}
    for change in changes:
        row = wanted.setdefault(change.run_id, {"run_id": str(change.run_id), "epoch": change.epoch, "ends": False})
        if change.settle is not None:
            row.update(ends=True, result=change.settle.result, finished_at=_iso(clock.now()))
    parameters = [json.dumps(records), json.dumps(list(wanted.values())), owner]
    rows = prepared(connection, _POSTGRESQL, parameters)
    return {run_id: Locked(state, ended) for run_id, state, ended in rows}


def _insert_records(connection: BaseDatabaseWrapper, rows: Iterable[tuple[UUID, Record]]) -> None:
    values = [
        (
            uuid_value(connection, run_id), r.epoch, r.seq, r.name, r.kind, r.state, r.attempts, r.result, r.errors,
            r.event_id, time_value(connection, r.started_at), time_value(connection, r.finished_at),
        )
        for run_id, r in rows
    ]  # fmt: skip
    if values:
        marks = ", ".join(["%s"] * len(values[0]))
        _many(connection, f"INSERT INTO {_STEP} ({_RECORD_COLUMNS}) VALUES ({marks})", values)


# -- how each database is spoken to --------------------------------------------------------------


def prepared(connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]) -> list[Any]:
    """Run a statement on psycopg's own cursor, on an engine connection prepared. Django's cursor never prepares.

    A project that sets DISABLE_SERVER_SIDE_CURSORS has a transaction pooler before its database, behind which a
    prepared statement may be another session's.
    """
    import psycopg

    connection.ensure_connection()
    raw: Any = connection.connection
    may_prepare = is_own(connection) and not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    with connection.wrap_database_errors:
        if may_prepare and raw.prepare_threshold is None:
            raw.prepare_threshold = 5
            # Every statement here reaches its rows by primary key or by an index made for it. A planner that sees a
            # small or unanalysed table would rather read it whole.
            raw.execute("SET enable_seqscan = off")
        with psycopg.Cursor(raw) as cursor:
            cursor.execute(statement, parameters, prepare=may_prepare)
            return cursor.fetchall() if cursor.description else []


def uuid_value(connection: BaseDatabaseWrapper, value: UUID | str) -> Any:
    """A UUID as this database's column compares it."""
    uuid = value if isinstance(value, UUID) else UUID(value)
    if connection.vendor == "postgresql":
        return uuid
    return str(uuid) if connection.features.has_native_uuid_field else uuid.hex


def time_value(connection: BaseDatabaseWrapper, moment: datetime | None) -> Any:
    return None if moment is None else connection.ops.adapt_datetimefield_value(moment)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _for_update(connection: BaseDatabaseWrapper) -> str:
    if connection.vendor == "sqlite":
        return ""  # BEGIN IMMEDIATE has locked the whole database.
    strength = "FOR NO KEY UPDATE" if connection.vendor == "postgresql" else "FOR UPDATE"
    return f" {strength} SKIP LOCKED"


def boolean(connection: BaseDatabaseWrapper, value: bool) -> str:
    """A literal for a statement."""
    return str(value).lower() if connection.vendor == "postgresql" else str(int(value))


def _fetch(connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]) -> list[Any]:
    if connection.vendor == "sqlite":
        with connection.wrap_database_errors:
            rows: list[Any] = connection.connection.execute(statement.replace("%s", "?"), parameters).fetchall()
            return rows
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def _many(connection: BaseDatabaseWrapper, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    if connection.vendor == "sqlite":
        with connection.wrap_database_errors:
            connection.connection.executemany(statement.replace("%s", "?"), rows)
        return
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)
