"""The engine's own statements as any database takes them. Each database's own class begins with these.

Called by the verbs of `store`. Every write of an owner is fenced on its run's row, which is locked in the same
transaction: id, owner and epoch match, and the state is owned. What is written by one statement elsewhere is a few
statements of a short transaction here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ...core import arrows, clock
from ...core.changes import Change, Record, Wait
from ...models import WorkflowRun
from ...states import OWNED, RUNNING, Kind, RecordState
from .assignments import assignments
from .session import Session
from .tables import (
    ATTRIBUTE,
    DELEGATION,
    EVENT,
    HISTORY,
    KEY,
    RECORD_COLUMNS,
    RUN,
    STEP,
    TIMER,
    Lease,
    Locked,
    OpenWait,
    placeholders,
)

#: Ids in one statement, where there may be any number: SQLite takes 32,766 parameters.
_AT_ONCE = 5_000

SELECT_WAITS = f"SELECT id, run_id, kind, held, due_at FROM {TIMER}"


class Portable(Session):
    """A session with the statements that need nothing but SQL and, where there are row locks, SKIP LOCKED."""

    # -- a run begins ------------------------------------------------------------------------------

    def insert_runs(self, pattern: WorkflowRun, ids: Sequence[UUID], arguments: Sequence[str]) -> None:
        """Insert many runs that differ in nothing but their ids and arguments."""
        same = self._same(pattern)
        columns = ", ".join(["id", "arguments", *(self.connection.ops.quote_name(column) for column, _, _ in same)])
        statement = f"INSERT INTO {RUN} ({columns}) VALUES (%s, %s, {placeholders(same)})"
        values = [value for _column, _type, value in same]
        runs = [(self.uuid(run_id), text, *values) for run_id, text in zip(ids, arguments, strict=True)]
        with self.connection.cursor() as cursor:
            cursor.executemany(statement, runs)

    def _same(self, pattern: WorkflowRun) -> list[tuple[str, str | None, Any]]:
        """Return what all of these runs have in common: each column with its type and value."""
        connection = self.connection
        return [
            (
                str(field.column),
                field.db_type(connection),
                field.get_db_prep_save(field.pre_save(pattern, add=True), connection),
            )
            for field in WorkflowRun._meta.concrete_fields
            if field.column not in ("id", "arguments")
        ]

    # -- its owner writes --------------------------------------------------------------------------

    def lock(self, owner: UUID, changes: Sequence[Change]) -> dict[Lease, Locked]:
        """Lock the rows of their runs that are still this owner's, but for those that another transaction has locked.

        In the order of their ids.
        """
        if not changes:
            return {}
        ids = {self.uuid(change.run_id): change.run_id.int for change in changes}
        leases = {change.lease for change in changes}
        mine = self.uuid(owner)
        found = {}
        statement = f"SELECT id, owner_id, epoch, state FROM {RUN} WHERE id"
        for run_id, owner_id, epoch, state in self.fetch_of(
            statement, sorted(ids), f" ORDER BY id{self.lock_free_rows}"
        ):
            lease = ids[run_id], epoch
            if owner_id == mine and lease in leases and state in OWNED:
                found[lease] = Locked(state)
        return found

    def write_single(self, owner: UUID, change: Change) -> str | None:  # noqa: ARG002 - for the others
        """Write one new record by one statement that commits itself; return the run's state.

        `None`: nothing was written. Here that is always so: there is no such statement.
        """
        return None

    def write_plain(
        self,
        owner: UUID,  # noqa: ARG002 - for PostgreSQL, which needs no locked rows
        changes: Sequence[Change],
        locked: dict[Lease, Locked],
    ) -> dict[Lease, Locked]:
        """Write new records and completions of many runs at once; return the rows that were the owner's.

        `locked`: the rows as this transaction has locked them. `ended` is set where the completion was written: a run
        that is paused or stopping keeps its state.
        """
        ours = [change for change in changes if change.lease in locked]
        self.insert_records([(change.run_id, record) for change in ours for record in change.inserts])
        ends = [c for c in ours if c.settle is not None and locked[c.lease].state == RUNNING]
        if ends:
            moment = self.moment(clock.now())
            self.execute_many(
                f"UPDATE {RUN} SET {assignments(arrows.COMPLETE)} WHERE id = %s",
                [(c.settle and c.settle.result, moment, self.uuid(c.run_id)) for c in ends],
            )
            for change in ends:
                locked[change.lease].ended = True
        return locked

    def write_one(self, owner: UUID, change: Change) -> str | None:
        """Write one new record in the caller's transaction, waiting for its run's row.

        Returns the run's state, `None` if it is not this owner's.
        """
        statement = f"SELECT owner_id, epoch, state FROM {RUN} WHERE id = %s{self.lock_rows}"
        rows = self.fetch(statement, [self.uuid(change.run_id)])
        if not rows or tuple(rows[0][:2]) != (self.uuid(owner), change.epoch) or rows[0][2] not in OWNED:
            return None
        self.insert_records([(change.run_id, record) for record in change.inserts])
        state: str = rows[0][2]
        return state

    def insert_records(self, rows: Sequence[tuple[UUID, Record]]) -> None:
        """Insert new records, each with its run's id."""
        if rows:
            values = [(self.uuid(run_id), r.epoch, *self._values(r)) for run_id, r in rows]
            self.execute_many(f"INSERT INTO {STEP} ({RECORD_COLUMNS}) VALUES ({placeholders(values[0])})", values)

    def insert_timers(self, rows: Sequence[tuple[UUID, Wait, bool]]) -> None:
        """Insert new timers, each with its run's id and whether it is held."""
        if rows:
            values = [
                (self.uuid(run_id), wait.step, wait.kind, self.moment(wait.due_at), held, wait.event, wait.key)
                for run_id, wait, held in rows
            ]
            key = self.connection.ops.quote_name("key")  # To MySQL this is a word of its own.
            columns = f"run_id, step, kind, due_at, held, event, {key}"
            self.execute_many(f"INSERT INTO {TIMER} ({columns}) VALUES ({placeholders(values[0])})", values)

    def update_records(self, rows: Sequence[tuple[UUID, Record]]) -> int:
        """Take records that are stored already further, each with its run's id; return how many those were.

        Not one that is finished, but for a sleep that is closed: it may have fallen due before its run has heard of
        that. A call that has begun may be taken back; else an attempt is never overwritten by an earlier one.
        """
        return self.execute_many(
            f"UPDATE {STEP} SET seq = %s, state = %s, attempts = %s, epoch = %s, result = %s, errors = %s, "
            "event_id = %s, finished_at = %s WHERE run_id = %s AND name = %s "
            f"AND (state NOT IN ('{RecordState.COMPLETED}', '{RecordState.FAILED}') "
            f"OR (kind = '{Kind.SLEEP}' AND %s = '{RecordState.CLOSED}')) "
            f"AND (attempts <= %s OR state = '{RecordState.STARTED}')",
            [
                (r.seq, r.state, r.attempts, r.epoch, r.result, r.errors, r.event_id, self.moment(r.finished_at),
                 self.uuid(run_id), r.name, r.state, r.attempts) for run_id, r in rows
            ],
        )  # fmt: skip

    def read_events(self, reads: Sequence[tuple[int, str]], now: datetime) -> int:
        """Mark events as read, each by the step of a wait, if they were not; return how many were not."""
        moment = self.moment(now)
        return self.execute_many(
            f"UPDATE {EVENT} SET consumed_by = %s, consumed_at = %s, delivered = {self.true} "
            "WHERE id = %s AND consumed_at IS NULL",
            [(step, moment, event_id) for event_id, step in reads],
        )

    def suspend(self, run_ids: Sequence[UUID], state: str, reason: str) -> None:
        """Suspend these runs, whose rows are locked: they have no owner from now on."""
        statement = f"UPDATE {RUN} SET {assignments(arrows.SUSPEND)} WHERE id"
        self.execute_of(statement, [state, reason], [self.uuid(run_id) for run_id in run_ids])

    def _values(self, r: Record) -> tuple[Any, ...]:
        return (
            r.seq, r.name, r.kind, r.state, r.attempts, r.result, r.errors, r.event_id,
            self.moment(r.started_at), self.moment(r.finished_at),
        )  # fmt: skip

    # -- others look at it, or delete it -----------------------------------------------------------

    def waits_of(self, run_ids: Sequence[UUID]) -> list[OpenWait]:
        """Return the timers of runs whose rows are locked, as they are now."""
        if not run_ids:
            return []
        with self.connection.cursor() as cursor:
            self._select_waits(cursor, [self.uuid(run_id) for run_id in run_ids])
            rows = cursor.fetchall()
        return [
            OpenWait(key, run if isinstance(run, UUID) else UUID(run), kind, bool(held), due_at)
            for key, run, kind, held, due_at in rows
        ]

    def _select_waits(self, cursor: Any, run_ids: Sequence[Any]) -> None:
        cursor.execute(f"{SELECT_WAITS} WHERE run_id IN ({placeholders(run_ids)})", run_ids)

    def delete(
        self, table: str, column: str, values: Sequence[Any], rest: str = "", parameters: Sequence[Any] = ()
    ) -> int:
        """Delete the rows for which `id` or `run_id` has one of these values, and (` AND …`) the rest holds.

        Returns how many that was.
        """
        if not values:
            return 0
        if isinstance(values[0], UUID):
            values = [self.uuid(value) for value in values]
        with self.connection.cursor() as cursor:
            self._delete(cursor, table, column, values, rest, parameters)
            return int(cursor.rowcount)

    def forget(self, run_ids: Sequence[UUID]) -> None:
        """Delete these runs, whose rows are locked, with all that is theirs."""
        # No index has the events that were read, but the records of the waits that have read them name them, and so do
        # the delegations of those that have told of failed attempts.
        ids = [self.uuid(run_id) for run_id in run_ids]
        found = [
            row
            for table in (STEP, DELEGATION)
            for row in self.fetch_of(f"SELECT event_id FROM {table} WHERE event_id IS NOT NULL AND run_id", ids)
        ]
        self.delete(EVENT, "run_id", ids, " AND consumed_at IS NULL")
        for begin in range(0, len(found), _AT_ONCE):
            # Not the broadcasts, which others may read, nor what was sent to the run that one of these was forked from.
            read = [event_id for (event_id,) in found[begin : begin + _AT_ONCE]]
            self.delete(EVENT, "id", read, f" AND run_id IN ({placeholders(ids)})", ids)
        for table in (TIMER, STEP, KEY, ATTRIBUTE, HISTORY, DELEGATION):
            self.delete(table, "run_id", ids)
        self.delete(RUN, "id", ids)

    def _delete(
        self, cursor: Any, table: str, column: str, values: Sequence[Any], rest: str, parameters: Sequence[Any]
    ) -> None:
        statement = f"DELETE FROM {table} WHERE {column} IN ({placeholders(values)}){rest}"
        cursor.execute(statement, [*values, *parameters])
