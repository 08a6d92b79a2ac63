"""Empty the tables after a test that has committed. It leaves what Django's `flush` leaves, and takes far less time.

`flush` makes a new file for each table and index on PostgreSQL, and everywhere it makes content types and permissions
anew. Here those two stay as they are, and PostgreSQL deletes rows where there are few of them. Called by conftest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from django.core.management.color import no_style
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TransactionTestCase

#: Tables whose rows come with the migrations, not with a test.
KEPT = ("django_content_type", "auth_permission")
#: Bytes of all tables from which on new files are made faster than rows are deleted.
_LARGE = 1_000_000


@contextmanager
def emptied_after_tests() -> Iterator[None]:
    """Have `TransactionTestCase` empty its databases so, which is what pytest-django makes of such tests."""
    flush = TransactionTestCase._fixture_teardown
    kept: dict[str, list[tuple[str, int]]] = {}

    def tear_down(case: TransactionTestCase) -> None:
        aliases = case._databases_names(include_mirrors=False)
        if all(kept.get(alias) == _rows_kept(connections[alias]) for alias in aliases):
            for alias in aliases:
                empty(connections[alias])
        else:  # The first test; and one that gave or took permissions: the next finds those of the migrations.
            flush(case)
            kept.update({alias: _rows_kept(connections[alias]) for alias in aliases})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", tear_down)
        yield


def empty(connection: BaseDatabaseWrapper) -> None:
    """Delete every row of every table but KEPT. Waits for transactions that have touched one, where `flush` does."""
    there = connection.introspection.django_table_names(only_existing=True, include_views=False)
    tables = [table for table in there if table not in KEPT]
    if connection.vendor == "postgresql" and not _needs_new_files(connection, tables):
        names = [connection.ops.quote_name(table) for table in tables]
        locked = f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE"
        statements = [locked, *(f"DELETE FROM {name}" for name in names)]
    else:
        statements = connection.ops.sql_flush(no_style(), tables)
    connection.ops.execute_sql_flush(statements)


def _rows_kept(connection: BaseDatabaseWrapper) -> list[tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT '{table}', COUNT(*) FROM {table}" for table in KEPT))
        return sorted(cursor.fetchall())


def _needs_new_files(connection: BaseDatabaseWrapper, tables: Sequence[str]) -> bool:
    """Whether there is much to delete, or PostgreSQL knows how much there was: the next test's plans must not."""
    question = "SELECT SUM(pg_relation_size(oid)), MAX(reltuples) FROM pg_class WHERE relname = ANY(%s)"
    with connection.cursor() as cursor:
        cursor.execute(question, [list(tables)])
        size, rows_known = cursor.fetchone()
        return bool(size > _LARGE or rows_known >= 0)
