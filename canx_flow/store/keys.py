"""Idempotency keys: which run has which key of its workflow. Called by `starts`; `pruning` deletes a key with its run.

The names of singletons are taken in the same way, in a table of their own: see `singletons`.

A key is stored before its run, in the same transaction. So rivals for one key meet at this small row only: the second
waits here until the first has committed or rolled back, and stores no run of its own if it committed. A key that can
be seen always has its run, unless that was deleted by SQL; then the key is free.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from uuid import UUID

from django.db import connections

from ..states import PENDING
from .db.databases import session_of
from .db.portable import Portable
from .db.tables import KEY, RUN, SINGLETON, placeholders

#: The run that has a key, and its state.
Holder = tuple[UUID, str]
#: The unique index of each of the two tables, by workflow and key.
_UNIQUE = {KEY: "canx_key_workflow_key", SINGLETON: "canx_singleton_workflow_key"}


def take(
    alias: str, workflow: str, wanted: Mapping[str, UUID], contest: str, *, table: str = KEY, newest: bool = False
) -> dict[str, Holder]:
    """Give each of these keys to its run, unless another run has it; return the run that has each key now.

    To be called in a transaction that stores the runs that got their keys. `contest` names what rivals call this for.
    A rival's key is a conflict that is ignored, not an error. One exception: on PostgreSQL, in a transaction that is
    REPEATABLE READ or SERIALIZABLE, a rival's key may be newer than all that this transaction may see. That is a
    serialization failure, after which only the whole of it can be repeated.

    `newest`: what this transaction has seen before is known to be old. On MySQL the rows are then read as they are now,
    which takes shared locks.
    """
    session = session_of(connections[alias])
    holders: dict[str, Holder] = {}
    for last in (False, False, False, True):
        with session.one_by_one(contest):
            if session.locks_what_it_meets:  # It locks the gap around the row, too: a row that can be read is not met.
                read = _read_newest if newest else _read
                holders |= read(session, table, workflow, wanted, wanted)
            free = {key: wanted[key] for key in wanted if key not in holders}
            # After three rivals that have gone it is no rival that keeps them out: the database says what does.
            stored = _insert(session, table, workflow, free, ignore=not last)
        if stored == len(free):
            break
        holders |= _read(session, table, workflow, wanted, free)
        if session.locks_what_it_meets:
            holders |= _read_newest(session, table, workflow, wanted, free.keys() - holders.keys())
        if len(holders) == len(wanted):
            break
        # A rival has gone with its key, rolled back or pruned: there is room for ours.
    return {key: (run_id, PENDING) for key, run_id in wanted.items()} | holders


def _insert(session: Portable, table: str, workflow: str, keys: Mapping[str, UUID], *, ignore: bool) -> int:
    """Store these keys, with `ignore` only those that no run has; return how many."""
    if not keys:
        return 0
    insert, unless = session.insert_unless_taken if ignore else ("INSERT", "")
    # In the order of keys, as every rival does: two that want the same keys do not wait for each other.
    rows = [(session.uuid(keys[key]), workflow, key) for key in sorted(keys)]
    columns = f"run_id, workflow, {session.connection.ops.quote_name('key')}"
    values = ", ".join(["(%s, %s, %s)"] * len(rows))
    conflict = unless.format(columns="workflow, key")
    with session.connection.cursor() as cursor:
        cursor.execute(f"{insert} INTO {table} ({columns}) VALUES {values}{conflict}", [*chain(*rows)])
        return int(cursor.rowcount)


def _read(
    session: Portable, table: str, workflow: str, wanted: Mapping[str, UUID], keys: Collection[str]
) -> dict[str, Holder]:
    """Return the runs that have these keys, as far as this transaction sees them; a key whose run is gone is freed."""
    key = session.connection.ops.quote_name("key")
    with session.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT k.{key}, k.run_id, r.state FROM {table} k LEFT JOIN {RUN} r ON r.id = k.run_id"
            f" WHERE k.workflow = %s AND k.{key} IN ({placeholders(keys)})",
            [workflow, *keys],
        )
        found = {name: (_uuid(run_id), state) for name, run_id, state in cursor.fetchall()}
    # Ours may be among them, whose run is yet to be stored.
    gone = [run_id for name, (run_id, state) in found.items() if state is None and run_id != wanted[name]]
    session.delete(table, "run_id", gone)
    return {name: (run_id, state or PENDING) for name, (run_id, state) in found.items() if run_id not in gone}


def _read_newest(
    session: Portable, table: str, workflow: str, _wanted: Mapping[str, UUID], keys: Collection[str]
) -> dict[str, Holder]:
    """Return the runs that have these keys on MySQL though this transaction's snapshot is older: they have just begun.

    That takes a shared lock, which the INSERT before it has taken already; of this table only, so no worker waits.
    """
    if not keys:
        return {}
    key = session.connection.ops.quote_name("key")
    with session.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {key}, run_id FROM {table} FORCE INDEX ({_UNIQUE[table]})"
            f" WHERE workflow = %s AND {key} IN ({placeholders(keys)}) LOCK IN SHARE MODE",
            [workflow, *keys],
        )
        return {name: (_uuid(run_id), PENDING) for name, run_id in cursor.fetchall()}


def _uuid(value: UUID | str) -> UUID:
    """Return a UUID as Python has it."""
    return value if isinstance(value, UUID) else UUID(value)
