"""A session of PostgreSQL: prepared statements, and one statement for what takes a short transaction elsewhere.

Chosen by `databases`. Where a tracer or the like stands in psycopg's place, Django's own cursor is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper

from ....core.changes import Change, Record, Wait
from ....models import WorkflowRun
from ..effects import Effects
from ..merging import ORDER, Select, merged
from ..own import reset
from ..portable import SELECT_WAITS, Portable
from ..tables import NOT_PAUSED, RUN, Lease, Locked
from . import libpq, opening, resetting
from .batch import Batch, as_json, iso, json_of
from .statements import (
    FORGET,
    FURTHER,
    IS_READY,
    ONE_SKIPPING,
    ONE_WAITING,
    PLAIN,
    PLAIN_AND_TELL,
    READ,
    RECORDS,
    TIMERS,
    these,
)

Parameters = Sequence[Any] | Mapping[str, Any]

_CODE = "workflow = code.workflow AND version = code.version"

#: `None` forbids psycopg to prepare; that each of our statements is prepared at once is said with it.
_ANY_THRESHOLD = 5
_IDLE_OR_UNKNOWN = (0, 4)  # libpq's words for a session outside any transaction, and for one that is lost


class PostgreSQL(Portable):
    """A session of PostgreSQL, by psycopg."""

    true, false = "true", "false"
    is_ready = IS_READY
    lock_free_rows = " FOR NO KEY UPDATE SKIP LOCKED"
    lock_rows = " FOR NO KEY UPDATE"
    time = "extract(epoch FROM clock_timestamp())"
    # A plan that sorts all the same seems so dear then that it would be compiled, which takes longer than to run it.
    by_order = ", set_config('enable_sort', 'off', true), set_config('jit', 'off', true)"
    notifies = True
    indexes_json = True
    keeps_dead_entries = True
    writes_at_once = True
    effects = Effects(
        r";|\$\w*\$|/\*|\*/|\b[eE]\0", harmless=re.compile(r"\s*SET\s+LOCAL\s.*", re.IGNORECASE | re.DOTALL)
    )

    def __init__(self, connection: BaseDatabaseWrapper, *, is_own: bool = False) -> None:
        super().__init__(connection, is_own=is_own)
        #: What is known of the connection that psycopg has open at present.
        self._wire: libpq.Wire | None = None

    # -- an engine connection is opened ------------------------------------------------------------

    @classmethod
    def options(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return a project's options as the engine needs them."""
        return opening.options(given)

    def set_up(self) -> None:
        """Set the engine's own settings; none where the project says that other clients may use this session next."""
        if self.keeps_its_session:
            opening.set_up(self.connection)

    @property
    def keeps_its_session(self) -> bool:
        """Whether anything may be set, or prepared, that outlives a transaction: not behind a transaction pooler."""
        return not self.connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")

    def begin(self) -> None:
        """Begin a transaction of the engine's own, whatever level the project's sessions have."""
        with self.connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")

    @contextmanager
    def read_committed(self) -> Iterator[None]:
        """Open a transaction, whose level is its own first statement's to set."""
        with super().read_committed():
            with self.connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            yield

    # -- a project's session is lent ---------------------------------------------------------------

    def taken_back_by(self) -> str:
        """Return the statements that take the session back to what it is now; none without autocommit."""
        return resetting.statements(self.connection.connection) if self.connection.get_autocommit() else ""

    def is_in_transaction(self) -> bool:
        """Return whether libpq knows the session in a transaction."""
        try:
            return self.connection.connection.info.transaction_status not in _IDLE_OR_UNKNOWN
        except AttributeError:  # Another driver.
            return False

    # -- values ------------------------------------------------------------------------------------

    def uuid(self, value: UUID | str) -> UUID:
        """Return a UUID."""
        return value if isinstance(value, UUID) else UUID(value)

    def moment(self, moment: datetime | None) -> Any:
        """Return a moment as psycopg takes it: as it is."""
        return moment

    def in_order(self, *columns: str, null: str) -> tuple[str, ...]:
        """Name it, too: to the planner, IS NULL is no constant, and it would sort."""
        return null, *columns

    # -- statements --------------------------------------------------------------------------------

    def prepared(self, statement: str, parameters: Parameters, *, large: bool = False) -> list[Any]:
        """Run a statement on psycopg's own cursor, prepared: Django's never prepares. Return its rows.

        `large`: the answer may be, and must not be kept until the next statement.
        """
        try:
            return self._prepared(statement, parameters, large)
        except NotSupportedError:  # "cached plan must not change result type": the schema has changed since.
            if self.connection.in_atomic_block:
                raise
        if not self.is_own:
            return super().prepared(statement, parameters)
        reset(self.connection)
        return self._prepared(statement, parameters, large)

    def _prepared(self, statement: str, parameters: Parameters, large: bool) -> list[Any]:
        wire = self._connected()
        if wire.cursor is None:
            return super().prepared(statement, parameters)
        with self.connection.wrap_database_errors:
            cursor = wire.new_cursor() if large else wire.cursor
            raw = wire.raw
            if not wire.prepares:
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

    def ask(self, statement: libpq.Statement, parameters: Sequence[str | None]) -> list[Any]:
        """Run a statement whose parameters and rows are texts: in one call of libpq where that commits by itself."""
        connection = self.connection
        if connection.in_atomic_block or not self.is_own:
            return self.prepared(statement.text, parameters)
        wire = self._connected()
        if wire.cursor is None:
            return self.prepared(statement.text, parameters)
        with connection.wrap_database_errors:
            return libpq.fetch(wire, statement, parameters)

    def _connected(self) -> libpq.Wire:
        """Connect, if need be; return what is known of the connection that psycopg has open now."""
        self.connection.ensure_connection()
        wire = self._wire
        if wire is None or wire.raw is not self.connection.connection:
            wire = self._wire = libpq.Wire(self.connection.connection, prepares=self.keeps_its_session)
            if wire.cursor is not None and self.is_own and wire.raw.prepare_threshold is None:
                wire.raw.prepare_threshold = _ANY_THRESHOLD
        return wire

    def first_by(self, order: str) -> str:
        """Name the order: without statistics, or with a plan older than the rows, the whole table would be read."""
        return f"ORDER BY {order} LIMIT 1"

    def of_each_code(self, codes: Sequence[tuple[str, str]], parts: Sequence[Select], most: int) -> Select:
        """Return a SELECT for any number of workflows: to plan one for each would take longer than to run them.

        Of those that are paused nothing is read.
        """
        text, values = merged([(text.replace("{code}", _CODE), values) for text, values in parts], most)
        workflows, versions = zip(*codes, strict=True)
        codes_of = f"(SELECT * FROM unnest(%s::text[], %s::text[]) code (workflow, version) WHERE {NOT_PAUSED}) code"
        return f"SELECT head.* FROM {codes_of}, LATERAL ({text}) head {ORDER} LIMIT {most}", [
            list(workflows), list(versions), *values,
        ]  # fmt: skip

    def fetch_of(self, statement: str, values: Sequence[Any], rest: str = "", *, large: bool = False) -> list[Any]:
        """Return the rows of a SELECT that ends in a column: one statement to prepare, however many values."""
        return self.prepared(f"{statement} = ANY(%s){rest}", [values], large=large)

    def execute_of(self, statement: str, parameters: Sequence[Any], values: Sequence[Any]) -> None:
        """Run a statement that ends in a column, prepared once for any number of values."""
        self.prepared(f"{statement} = ANY(%s)", [*parameters, values])

    # -- a run begins ------------------------------------------------------------------------------

    def insert_runs(self, pattern: WorkflowRun, ids: Sequence[UUID], arguments: Sequence[str]) -> None:
        """Insert many runs by one statement, which takes ids and arguments as one JSON object."""
        same = self._same(pattern)
        columns = ", ".join(["id", "arguments", *(self.connection.ops.quote_name(column) for column, _, _ in same)])
        values = ", ".join(f"%s::{kind}" for _column, kind, _value in same)
        statement = f"INSERT INTO {RUN} ({columns}) SELECT key::uuid, value, {values} FROM json_each_text(%s::json)"
        texts = json.dumps({run_id.hex: text for run_id, text in zip(ids, arguments, strict=True)})
        with self.connection.cursor() as cursor:
            cursor.execute(statement, [*(value for _column, _kind, value in same), texts])

    # -- its owner writes --------------------------------------------------------------------------

    def write_single(self, owner: UUID, change: Change) -> str | None:
        """Write one new record by one statement that commits itself, unless another transaction has locked the run."""
        return self._write_one(ONE_SKIPPING, owner, change)

    def write_one(self, owner: UUID, change: Change) -> str | None:
        """Write one new record in the caller's transaction, waiting for its run's row."""
        return self._write_one(ONE_WAITING, owner, change)

    def _write_one(self, statement: libpq.Statement, owner: UUID, change: Change) -> str | None:
        (r,) = change.inserts
        event_id = None if r.event_id is None else str(r.event_id)
        parameters = [
            str(change.run_id), str(owner), str(change.epoch), str(r.seq), r.name, r.kind, r.state, str(r.attempts),
            r.result, r.errors, event_id, iso(r.started_at), iso(r.finished_at),
        ]  # fmt: skip
        rows = self.ask(statement, parameters)
        return rows[0][0] if rows else None

    def write_plain(
        self,
        owner: UUID,
        changes: Sequence[Change],
        locked: dict[Lease, Locked],  # noqa: ARG002 - for the others
    ) -> dict[Lease, Locked]:
        """Fence and write many runs' records and completions by one statement, which locks rows and tells parents."""
        batch = Batch(changes)
        rows = self.ask(PLAIN_AND_TELL if batch.tells else PLAIN, batch.parameters(owner))
        return batch.read(rows)

    def insert_records(self, rows: Sequence[tuple[UUID, Record]]) -> None:
        """Insert new records, each with its run's id."""
        if rows:
            records = [as_json(r, run_id=str(run_id), epoch=r.epoch) for run_id, r in rows]
            self.prepared(RECORDS, [json_of(records)])

    def update_records(self, rows: Sequence[tuple[UUID, Record]]) -> int:
        """Take records that are stored already further, by one statement; return how many those were."""
        records = [as_json(r, run_id=str(run_id), epoch=r.epoch) for run_id, r in rows]
        return len(self.prepared(FURTHER, [json_of(records)]))

    def read_events(self, reads: Sequence[tuple[int, str]], now: datetime) -> int:
        """Mark events as read by one statement; return how many were not."""
        ids = [event_id for event_id, _step in reads]
        return len(self.prepared(READ, [[step for _event_id, step in reads], ids, now, ids]))

    def insert_timers(self, rows: Sequence[tuple[UUID, Wait, bool]]) -> None:
        """Insert new timers, each with its run's id and whether it is held."""
        if rows:
            timers = [
                {"run_id": str(run_id), "step": wait.step, "kind": wait.kind, "due_at": iso(wait.due_at), "held": held,
                 "event": wait.event, "key": wait.key} for run_id, wait, held in rows
            ]  # fmt: skip
            self.prepared(TIMERS, [json_of(timers)])

    # -- others look at it, or delete it -----------------------------------------------------------

    def _select_waits(self, cursor: Any, run_ids: Sequence[Any]) -> None:
        cursor.execute(f"{SELECT_WAITS} WHERE {these('run_id', '%s', '%s', '%s')}", _range(run_ids))

    def _delete(
        self, cursor: Any, table: str, column: str, values: Sequence[Any], rest: str, parameters: Sequence[Any]
    ) -> None:
        statement = f"DELETE FROM {table} WHERE {these(column, '%s', '%s', '%s')}{rest}"
        cursor.execute(statement, [*_range(values), *parameters])

    def forget(self, run_ids: Sequence[UUID]) -> None:
        """Delete these runs, whose rows are locked, with all that is theirs, by one statement."""
        self.prepared(FORGET, dict(zip(("ids", "first", "last"), _range(run_ids), strict=True)))


def _range(ids: Sequence[Any]) -> tuple[list[Any], Any, Any]:
    return list(ids), min(ids), max(ids)
