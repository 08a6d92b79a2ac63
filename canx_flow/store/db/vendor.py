"""The hand-written statements: everything hot that differs by database. Called by `claims` and `writes`.

PostgreSQL does in one prepared statement what the others do in a short transaction. Every write of an owner
is fenced on its run's row, locked in the same transaction: id, owner and epoch match, and the state is owned.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper

from ...core import clock
from ...core.changes import Change, Record, Wait
from ...models import WorkflowRun
from ...states import COMPLETED, OWNED, RUNNING
from . import libpq
from .engine import is_own, reset, turn

RUN = "canx_flow_workflowrun"
STEP = "canx_flow_steprecord"
TIMER = "canx_flow_timer"
WORKER = "canx_flow_worker"
EVENT = "canx_flow_event"
_RECORD_COLUMNS = "run_id, epoch, seq, name, kind, state, attempts, result, errors, event_id, started_at, finished_at"

#: `None` forbids psycopg to prepare; that each of our statements is prepared at once is said with it.
_ANY_THRESHOLD = 5

#: A run and one of its epochs.
Lease = tuple[UUID, int]


@dataclass(slots=True)
class Locked:
    """A run's row as it stands while this transaction has it locked for its owner."""

    state: str
    ended: bool = False


def lock(connection: BaseDatabaseWrapper, owner: UUID, leases: set[Lease]) -> dict[Lease, Locked]:
    """Lock the rows that are still this owner's, in id order; rows that somebody else has locked are left out."""
    if not leases:
        return {}
    ids = {uuid_value(connection, run_id): run_id for run_id, _epoch in leases}
    mine = uuid_value(connection, owner)
    found = {}
    statement = f"SELECT id, owner_id, epoch, state FROM {RUN} WHERE id"
    in_order = f" ORDER BY id{for_update(connection)}"
    for run_id, owner_id, epoch, state in select_in(connection, statement, sorted(ids), in_order):
        lease = ids[run_id], epoch
        if owner_id == mine and lease in leases and state in OWNED:
            found[lease] = Locked(state)
    return found


def write_plain(
    connection: BaseDatabaseWrapper,
    owner: UUID,
    changes: Sequence[Change],
    *,
    locked: dict[Lease, Locked] | None = None,
) -> dict[Lease, Locked]:
    """New records and completions of many runs at once; returns the rows that were ours.

    `ended` says that the completion was written; a paused or stopping run keeps its state. On PostgreSQL this is
    one statement; elsewhere the rows must have been locked in this transaction, and are handed in.
    """
    if connection.vendor == "postgresql":
        return _write_plain_postgresql(connection, owner, changes)
    found = lock(connection, owner, {c.lease for c in changes}) if locked is None else locked
    ours = [change for change in changes if change.lease in found]
    insert_records(connection, [(change.run_id, record) for change in ours for record in change.inserts])
    ends = [c for c in ours if c.settle is not None and found[c.lease].state == RUNNING]
    if ends:
        moment = time_value(connection, clock.now())
        rows = [(COMPLETED, c.settle and c.settle.result, moment, uuid_value(connection, c.run_id)) for c in ends]
        many(
            connection,
            f"UPDATE {RUN} SET state = %s, ready = {boolean(connection, False)}, owner_id = NULL, "
            f"result = %s, reason = '', error = NULL, finished_at = %s WHERE id = %s",
            rows,
        )
        for change in ends:
            found[change.lease].ended = True
    return found


_RECORD_IN_JSON = """seq int, name text, kind text, state text, attempts int, result text, errors text, event_id bigint,
    started_at timestamptz, finished_at timestamptz"""

# Each row is reached by its key whatever the planner believes: of a table that has just grown it knows nothing, and
# would read all of it for a join. A subquery that locks stays a loop of look-ups; so does `= ANY` of an array.
_POSTGRESQL = libpq.Statement(
    "plain",
    f"""
WITH wanted AS (
  SELECT * FROM json_to_recordset(%s::json) AS (n int, run_id uuid, epoch int, ends bool, result text)
), record AS (
  SELECT * FROM json_to_recordset(%s::json) AS (n int, {_RECORD_IN_JSON})
), lease AS MATERIALIZED (
  SELECT wanted.*, run.state FROM wanted, LATERAL (
    -- Not `owner_id = `: in the index of owners stand all runs that this worker has had.
    SELECT state FROM {RUN} WHERE id = wanted.run_id AND owner_id IS NOT DISTINCT FROM %s::uuid AND epoch = wanted.epoch
      AND state IN ('running', 'paused', 'stopping') FOR NO KEY UPDATE SKIP LOCKED
  ) run
), stored AS (
  INSERT INTO {STEP} ({_RECORD_COLUMNS})
  SELECT lease.run_id, lease.epoch, {", ".join("record." + name for name in _RECORD_COLUMNS.split(", ")[2:])}
  FROM record JOIN lease ON lease.n = record.n
), ended AS (
  UPDATE {RUN} run SET state = 'completed', ready = false, owner_id = NULL, reason = '', error = NULL,
    finished_at = %s::timestamptz, result = (SELECT lease.result FROM lease WHERE lease.run_id = run.id)
  WHERE run.id = ANY(ARRAY(SELECT run_id FROM lease WHERE ends AND state = 'running'))
)
SELECT n::text, state, (ends AND state = 'running')::text FROM lease
""",
)


_POSTGRESQL_RECORDS = f"""
INSERT INTO {STEP} ({_RECORD_COLUMNS})
SELECT {_RECORD_COLUMNS} FROM json_to_recordset(%s::json) AS (run_id uuid, epoch int, {_RECORD_IN_JSON})
"""

_POSTGRESQL_TIMERS = f"""
INSERT INTO {TIMER} (run_id, step, kind, due_at, held, event, key)
SELECT run_id, step, kind, due_at, held, event, key FROM json_to_recordset(%s::json)
  AS (run_id uuid, step text, kind text, due_at timestamptz, held bool, event text, key text)
"""


# One record of one run: half the time of the statement for many. Each text says what it is: a project's connection may
# send texts as such.
_POSTGRESQL_ONE = f"""
WITH lease AS (
  SELECT id, epoch, state FROM {RUN}
  WHERE id = %s::uuid AND owner_id IS NOT DISTINCT FROM %s::uuid AND epoch = %s::int
    AND state IN ('running', 'paused', 'stopping')
  FOR NO KEY UPDATE {{}}
), stored AS (
  INSERT INTO {STEP} ({_RECORD_COLUMNS})
  SELECT id, epoch, %s::int, %s, %s, %s, %s::int, %s, %s, %s::bigint, %s::timestamptz, %s::timestamptz FROM lease
)
SELECT state FROM lease
"""
_POSTGRESQL_ONE_SKIPPING = libpq.Statement("skipping", _POSTGRESQL_ONE.format("SKIP LOCKED"))
_POSTGRESQL_ONE_WAITING = libpq.Statement("waiting", _POSTGRESQL_ONE.format(""))


_SQLITE_SINGLE = f"""
INSERT INTO {STEP} ({_RECORD_COLUMNS})
SELECT id, epoch, {", ".join("?" * 10)} FROM {RUN} WHERE id = ? AND owner_id = ? AND epoch = ? AND state = 'running'
"""


def _write_plain_postgresql(
    connection: BaseDatabaseWrapper, owner: UUID, changes: Sequence[Change]
) -> dict[Lease, Locked]:
    wanted: dict[Lease, dict[str, Any]] = {}
    records = []
    # In the order of their ids, as everybody locks.
    for change in sorted(changes, key=_run_id) if len(changes) > 1 else changes:
        lease = change.lease
        row = wanted.get(lease)
        if row is None:
            row = wanted[lease] = {"n": len(wanted), "run_id": str(lease[0]), "epoch": lease[1], "ends": False}
        if change.settle is not None:
            row.update(ends=True, result=change.settle.result)
        records += [{"n": row["n"], **_as_json(record)} for record in change.inserts]
    parameters = [json.dumps(list(wanted.values())), json.dumps(records), str(owner), clock.now().isoformat()]
    leases = list(wanted)
    rows = _ask_postgresql(connection, _POSTGRESQL, parameters)
    return {leases[int(n)]: Locked(state, ended == "true") for n, state, ended in rows}


def write_single(connection: BaseDatabaseWrapper, owner: UUID, change: Change) -> str | None:
    """One new record, in one statement that commits itself; the run's state, `None` if nothing was written."""
    if connection.vendor == "postgresql":
        return _write_one_postgresql(connection, owner, change, _POSTGRESQL_ONE_SKIPPING)
    (record,) = change.inserts
    key = uuid_value(connection, change.run_id)
    parameters = (*_values(connection, record), key, uuid_value(connection, owner), change.epoch)
    connection.ensure_connection()
    with turn(connection), connection.wrap_database_errors:
        # SQLite takes its one lock for writing before such a statement reads, so the run's row stands still.
        cursor = connection.connection.cursor()
        cursor.execute(_SQLITE_SINGLE, parameters)
        written = cursor.rowcount
    return RUNNING if written else None


def write_one(connection: BaseDatabaseWrapper, owner: UUID, change: Change) -> str | None:
    """One new record in the caller's transaction, waiting for its run's row; the run's state, `None` if not ours."""
    if connection.vendor == "postgresql":
        return _write_one_postgresql(connection, owner, change, _POSTGRESQL_ONE_WAITING)
    lock_row = "" if connection.vendor == "sqlite" else " FOR UPDATE"
    statement = f"SELECT owner_id, epoch, state FROM {RUN} WHERE id = %s{lock_row}"
    rows = fetch(connection, statement, [uuid_value(connection, change.run_id)])
    if not rows or tuple(rows[0][:2]) != (uuid_value(connection, owner), change.epoch) or rows[0][2] not in OWNED:
        return None
    insert_records(connection, [(change.run_id, record) for record in change.inserts])
    state: str = rows[0][2]
    return state


def _write_one_postgresql(
    connection: BaseDatabaseWrapper, owner: UUID, change: Change, statement: libpq.Statement
) -> str | None:
    (r,) = change.inserts
    event_id = None if r.event_id is None else str(r.event_id)
    parameters = [
        str(change.run_id), str(owner), str(change.epoch), str(r.seq), r.name, r.kind, r.state, str(r.attempts),
        r.result, r.errors, event_id, _iso(r.started_at), _iso(r.finished_at),
    ]  # fmt: skip
    rows = _ask_postgresql(connection, statement, parameters)
    return rows[0][0] if rows else None


def _ask_postgresql(
    connection: BaseDatabaseWrapper, statement: libpq.Statement, parameters: Sequence[str | None]
) -> list[Any]:
    """Run a statement whose parameters and rows are texts."""
    if connection.in_atomic_block or not is_own(connection):
        return prepared(connection, statement.text, parameters)
    connection.ensure_connection()
    session = _session(connection)
    if session.cursor is None:
        return prepared(connection, statement.text, parameters)
    with connection.wrap_database_errors:
        return libpq.fetch(session, statement, parameters)


def _run_id(change: Change) -> UUID:
    return change.run_id


def _as_json(record: Record) -> dict[str, Any]:
    return {
        "seq": record.seq, "name": record.name, "kind": record.kind, "state": record.state,
        "attempts": record.attempts, "result": record.result, "errors": record.errors, "event_id": record.event_id,
        "started_at": _iso(record.started_at), "finished_at": _iso(record.finished_at),
    }  # fmt: skip


def insert_records(connection: BaseDatabaseWrapper, rows: Sequence[tuple[UUID, Record]]) -> None:
    """New records, each with its run's id."""
    if not rows:
        return
    if connection.vendor == "postgresql":
        records = [{"run_id": str(run_id), "epoch": r.epoch, **_as_json(r)} for run_id, r in rows]
        prepared(connection, _POSTGRESQL_RECORDS, [json.dumps(records)])
    else:
        values = [(uuid_value(connection, run_id), r.epoch, *_values(connection, r)) for run_id, r in rows]
        many(connection, f"INSERT INTO {STEP} ({_RECORD_COLUMNS}) VALUES ({marks(values[0])})", values)


def insert_timers(connection: BaseDatabaseWrapper, rows: Sequence[tuple[UUID, Wait, bool]]) -> None:
    """New timers, each with its run's id and whether it is held."""
    if not rows:
        return
    if connection.vendor == "postgresql":
        timers = [
            {"run_id": str(run_id), "step": wait.step, "kind": wait.kind, "due_at": _iso(wait.due_at), "held": held,
             "event": wait.event, "key": wait.key} for run_id, wait, held in rows
        ]  # fmt: skip
        prepared(connection, _POSTGRESQL_TIMERS, [json.dumps(timers)])
    else:
        values = [
            (uuid_value(connection, run_id), wait.step, wait.kind, time_value(connection, wait.due_at), held,
             wait.event, wait.key) for run_id, wait, held in rows
        ]  # fmt: skip
        key = connection.ops.quote_name("key")  # To MySQL this is a word of its own.
        columns = f"run_id, step, kind, due_at, held, event, {key}"
        many(connection, f"INSERT INTO {TIMER} ({columns}) VALUES ({marks(values[0])})", values)


def _values(connection: BaseDatabaseWrapper, r: Record) -> tuple[Any, ...]:
    return (
        r.seq, r.name, r.kind, r.state, r.attempts, r.result, r.errors, r.event_id,
        time_value(connection, r.started_at), time_value(connection, r.finished_at),
    )  # fmt: skip


# -- starting many ---------------------------------------------------------------------------------


def insert_runs(
    connection: BaseDatabaseWrapper, pattern: WorkflowRun, ids: Sequence[UUID], arguments: Sequence[str]
) -> None:
    """Many new runs that differ in nothing but their ids and arguments, on the caller's connection."""
    same = {
        field: field.get_db_prep_save(field.pre_save(pattern, add=True), connection)
        for field in WorkflowRun._meta.concrete_fields
        if field.column not in ("id", "arguments")
    }
    columns = f"id, arguments, {', '.join(connection.ops.quote_name(str(field.column)) for field in same)}"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            values = ", ".join(f"%s::{field.db_type(connection)}" for field in same)
            statement = f"INSERT INTO {RUN} ({columns}) SELECT key::uuid, value, {values} FROM json_each_text(%s::json)"
            texts = json.dumps({run_id.hex: text for run_id, text in zip(ids, arguments, strict=True)})
            cursor.execute(statement, [*same.values(), texts])
        else:
            statement = f"INSERT INTO {RUN} ({columns}) VALUES (%s, %s, {marks(same)})"
            keys = [uuid_value(connection, run_id) for run_id in ids]
            cursor.executemany(statement, [(*run, *same.values()) for run in zip(keys, arguments, strict=True)])


# -- how each database is spoken to --------------------------------------------------------------


def prepared(
    connection: BaseDatabaseWrapper,
    statement: str,
    parameters: Sequence[Any] | Mapping[str, Any],
    *,
    large: bool = False,
) -> list[Any]:
    """Run a statement on psycopg's own cursor, prepared. Django's cursor never prepares.

    A project that sets DISABLE_SERVER_SIDE_CURSORS has a transaction pooler before its database, behind which a
    prepared statement may be another session's. `large`: the answer may be, and must not be kept until the next one.
    """
    try:
        return _prepared(connection, statement, parameters, large)
    except NotSupportedError:  # "cached plan must not change result type": the schema has changed under the session.
        if connection.in_atomic_block:
            raise
    if not is_own(connection):
        return _unprepared(connection, statement, parameters)
    reset(connection)
    return _prepared(connection, statement, parameters, large)


def _unprepared(connection: BaseDatabaseWrapper, statement: str, parameters: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def _prepared(connection: BaseDatabaseWrapper, statement: str, parameters: Any, large: bool) -> list[Any]:
    connection.ensure_connection()
    session = _session(connection)
    if session.cursor is None:
        return _unprepared(connection, statement, parameters)
    with connection.wrap_database_errors:
        cursor = session.new_cursor() if large else session.cursor
        raw = session.raw
        if not session.prepares:
            cursor.execute(statement, parameters, prepare=False)
        elif raw.prepare_threshold is not None:
            cursor.execute(statement, parameters, prepare=True)
        else:
            raw.prepare_threshold = _ANY_THRESHOLD
            try:
                cursor.execute(statement, parameters, prepare=True)
            finally:
                raw.prepare_threshold = None  # A project's statements on its own connection are its own matter.
        return cursor.fetchall() if cursor.rownumber is not None else []


def _session(connection: Any) -> libpq.Session:
    """What we know of the connection that psycopg has open behind this one."""
    session: libpq.Session | None = getattr(connection, "canx_flow_session", None)
    if session is None or session.raw is not connection.connection:
        prepares = not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        session = connection.canx_flow_session = libpq.Session(connection.connection, prepares=prepares)
        if session.cursor is not None and is_own(connection) and session.raw.prepare_threshold is None:
            session.raw.prepare_threshold = _ANY_THRESHOLD
    return session


def uuid_value(connection: BaseDatabaseWrapper, value: UUID | str) -> Any:
    """A UUID as this database's column compares it."""
    uuid = value if isinstance(value, UUID) else UUID(value)
    if connection.vendor == "postgresql":
        return uuid
    return str(uuid) if connection.features.has_native_uuid_field else uuid.hex


def time_value(connection: BaseDatabaseWrapper, moment: datetime | None) -> Any:
    """A moment as this database's driver takes it."""
    if moment is None:
        return None
    if connection.vendor != "postgresql" and moment.tzinfo is UTC and connection.timezone is UTC:
        return str(moment.replace(tzinfo=None))  # What Django does, which asks more questions.
    return connection.ops.adapt_datetimefield_value(moment)


def time_read(connection: BaseDatabaseWrapper, value: Any) -> datetime | None:
    """A moment as this database's driver gives it, aware."""
    if value is None:
        return None
    moment: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (moment if moment.tzinfo else moment.replace(tzinfo=connection.timezone)).astimezone(UTC)


def marks(values: Collection[Any]) -> str:
    """Placeholders for so many parameters."""
    return ", ".join(["%s"] * len(values))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def for_update(connection: BaseDatabaseWrapper) -> str:
    """The clause that locks the rows of a SELECT and leaves out those that somebody else has locked."""
    if connection.vendor == "sqlite":
        return ""  # BEGIN IMMEDIATE has locked the whole database.
    strength = "FOR NO KEY UPDATE" if connection.vendor == "postgresql" else "FOR UPDATE"
    return f" {strength} SKIP LOCKED"


def boolean(connection: BaseDatabaseWrapper, value: bool) -> str:
    """A literal for a statement."""
    return str(value).lower() if connection.vendor == "postgresql" else str(int(value))


def fetch(connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]) -> list[Any]:
    """The rows of a SELECT, as the driver gives them."""
    if connection.vendor == "sqlite":
        with connection.wrap_database_errors:
            cursor = connection.connection.cursor()
            cursor.execute(statement.replace("%s", "?"), parameters)
            rows: list[Any] = cursor.fetchall()
            return rows
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def select_in(
    connection: BaseDatabaseWrapper, statement: str, values: Sequence[Any], rest: str = "", *, large: bool = False
) -> list[Any]:
    """The rows of a SELECT that ends in a column, and then `rest`, for which that column has one of these values."""
    if connection.vendor == "postgresql":  # One statement to prepare, however many values.
        return prepared(connection, f"{statement} = ANY(%s){rest}", [values], large=large)
    connection.ensure_connection()
    return fetch(connection, f"{statement} IN ({marks(values)}){rest}", values)


def suspend(connection: BaseDatabaseWrapper, run_ids: Sequence[UUID], state: str, reason: str) -> None:
    """These runs, locked, are nobody's now."""
    statement = (
        f"UPDATE {RUN} SET state = %s, ready = {boolean(connection, False)}, owner_id = NULL, reason = %s WHERE id"
    )
    if connection.vendor == "postgresql":
        prepared(connection, f"{statement} = ANY(%s)", [state, reason, run_ids])
    else:
        ids = [uuid_value(connection, run_id) for run_id in run_ids]
        execute(connection, f"{statement} IN ({marks(ids)})", [state, reason, *ids])


#: What finds the rows of a run.
_RUN_INDEX = {TIMER: "canx_timer_run_kind_step", STEP: "canx_step_run_name", EVENT: "canx_event_unread"}


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A timer as the database gives it."""

    id: int
    run_id: UUID
    kind: str
    held: bool
    due_at: Any


def waits_of(connection: BaseDatabaseWrapper, run_ids: Sequence[UUID]) -> list[OpenWait]:
    """The timers of runs whose rows are locked; on MySQL as they are now, and not as the caller's snapshot has them."""
    if not run_ids:
        return []
    mysql = connection.vendor == "mysql"
    hint, lock = (f" FORCE INDEX ({_RUN_INDEX[TIMER]})", " FOR UPDATE") if mysql else ("", "")
    values = [uuid_value(connection, run_id) for run_id in run_ids]
    statement = f"SELECT id, run_id, kind, held, due_at FROM {TIMER}{hint} WHERE run_id IN ({marks(values)}){lock}"
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = cursor.fetchall()
    return [
        OpenWait(key, run if isinstance(run, UUID) else UUID(run), kind, bool(held), due_at)
        for key, run, kind, held, due_at in rows
    ]


def delete(
    connection: BaseDatabaseWrapper,
    table: str,
    column: str,
    values: Sequence[Any],
    rest: str = "",
    parameters: Sequence[Any] = (),
) -> int:
    """Delete the rows for which `id` or `run_id` has one of these values, and (` AND …`) the rest holds; how many.

    MySQL would read a small table whole, lock every row on the way, wait for those that others have locked, and meet
    another who does the same. So it is told which index to use; by primary key, there is one statement for each.
    """
    if not values:
        return 0
    if isinstance(values[0], UUID):
        values = [uuid_value(connection, value) for value in values]
    with connection.cursor() as cursor:
        if connection.vendor != "mysql":
            statement = f"DELETE FROM {table} WHERE {column} IN ({marks(values)}){rest}"
            cursor.execute(statement, [*values, *parameters])
        elif column == "id":
            cursor.executemany(f"DELETE FROM {table} WHERE id = %s{rest}", [(value, *parameters) for value in values])
        else:
            index = f"FORCE INDEX ({_RUN_INDEX[table]})"
            statement = f"DELETE {table} FROM {table} {index} WHERE {column} IN ({marks(values)}){rest}"
            cursor.execute(statement, [*values, *parameters])
        return int(cursor.rowcount)


def execute(connection: BaseDatabaseWrapper, statement: str, parameters: Sequence[Any]) -> None:
    """A statement that gives no rows."""
    many(connection, statement, [parameters])


def many(connection: BaseDatabaseWrapper, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """A statement for each of these rows of parameters."""
    if connection.vendor == "sqlite":
        with connection.wrap_database_errors:
            connection.connection.cursor().executemany(statement.replace("%s", "?"), rows)
        return
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)
