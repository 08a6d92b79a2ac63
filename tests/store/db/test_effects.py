"""What a statement may do to its session: whatever is not known to do nothing may do something."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models import Count, Q, Value
from django.db.models.functions import Coalesce, Lower, Now, TruncDay

from canx_flow.models import WorkflowRun
from canx_flow.store.db.databases import session_of
from canx_flow.store.db.effects import CLOSE, NOTHING, RESET
from canx_flow.store.db.mysql import MySQL
from canx_flow.store.db.postgresql.session import PostgreSQL
from canx_flow.store.db.session import Session
from canx_flow.store.db.sqlite import SQLite

from ...models import Effect

once = pytest.mark.once


@once
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "SELECT 1;",
        "(SELECT 1) UNION (SELECT 2)",
        'INSERT INTO "t" ("a", "b") VALUES (%s, %s) RETURNING "t"."id"',
        'INSERT INTO "public"."t" (a) VALUES (1) ON CONFLICT("id") DO UPDATE SET "x" = EXCLUDED."x"',
        'SELECT COUNT(*) AS "__count" FROM "t" WHERE ("t"."a" = %s AND NOT ("t"."b" IN (%s, %s)))',
        'UPDATE "t" SET "a" = (COALESCE("t"."a", %s) + 1)',
        'SAVEPOINT "s1_x1"',
        'ROLLBACK TO SAVEPOINT "s1_x1"',
        "SELECT ';', 'set_config(' FROM t /* traceparent=(1) */",
        "SELECT a::numeric(10, 2) FROM t WHERE a @> %s",
        "SET LOCAL app.tenant = 5",
    ],
)
def test_what_is_known_to_change_nothing(statement: str) -> None:
    """Plain queries and changes of rows, with functions that are part of the database."""
    assert PostgreSQL.effects(statement) == NOTHING


@once
@pytest.mark.parametrize(
    "statement",
    [
        "SET search_path TO x",
        "SELECT set_config('a', 'b', false)",
        "SELECT set_config/**/('a', 'b', false)",
        "SELECT pg_catalog.set_config('a', 'b', false)",
        """SELECT "set_config"('a', 'b', false)""",
        "SELECT E'\\'', set_config('a', 'b', false), '",
        "SELECT /* a /* b */ */ 1",
        "INSERT INTO t SELECT set_config('a', 'b', false)",
        """INSERT INTO "t" SELECT "set_config"('a', 'b', false)""",
        "SELECT a_function_of_the_projects(1)",
        "SELECT * INTO TEMP y FROM x",
        "SELECT 1; SET x = 1",
        "DO $$ begin end $$",
        "CALL f()",
        "BEGIN",
        "LISTEN x",
        "SELECT pg_advisory_lock(1)",
        "CREATE TEMP TABLE x ()",
    ],
)
def test_whatever_else_may_change_a_session(statement: str) -> None:
    """Wherever a function's name is hidden."""
    assert PostgreSQL.effects(statement) == RESET


@once
@pytest.mark.parametrize("statement", ["BEGIN", "BEGIN IMMEDIATE", "BEGIN DEFERRED"])
def test_an_atomic_block_ends_no_session_of_sqlite(statement: str) -> None:
    """Django begins it by a statement there, and a session that was changed is closed: every atomic step would pay."""
    assert SQLite.effects(statement) == NOTHING


@once
def test_what_a_reset_does_not_undo() -> None:
    """Statements that were prepared by name are undone by a new session only."""
    assert PostgreSQL.effects("PREPARE x AS SELECT 1") == CLOSE


@once
@pytest.mark.parametrize(
    ("database", "statement"),
    [
        (MySQL, "SELECT @x := 1"),
        (MySQL, "SET LOCAL x = 1"),
        (MySQL, "SELECT GET_LOCK('x', 1)"),
        (MySQL, "/*! SET x = 1 */"),
        (MySQL, "SELECT '\\', GET_LOCK('x', 1), '"),
        (MySQL, "USE x"),
        (SQLite, "PRAGMA foreign_keys = OFF"),
        (SQLite, "ATTACH 'x' AS y"),
    ],
)
def test_each_database_has_its_own_ways(database: type[Session], statement: str) -> None:
    """In MySQL SET LOCAL means the session, and a backslash ends no text."""
    assert database.effects(statement) == RESET


@once
def test_what_is_no_text_may_change_a_session() -> None:
    """Such as what psycopg composes."""
    assert PostgreSQL.effects(object()) == RESET


@pytest.mark.django_db
def test_the_orms_statements_are_known_to_change_nothing() -> None:
    """Else each step would pay for a reset, or a new connection."""
    effect = session_of(connection).effects
    seen: list[str] = []

    def see(execute: object, statement: str, *rest: object) -> object:
        seen.append(statement)
        return execute(statement, *rest)  # type: ignore[operator]

    with connection.execute_wrapper(see):
        row = Effect.objects.create(name="a")
        Effect.objects.bulk_create([Effect(name="b"), Effect(name="c")])
        Effect.objects.update_or_create(name="a", defaults={"value": "x"})
        Effect.objects.filter(Q(name__in=["a", "b"]) | Q(value__icontains="%")).annotate(
            small=Lower("name"), given=Coalesce("once", Value("none")), now=Now()
        ).values_list("small", "given").first()
        list(Effect.objects.values("name").annotate(count=Count("id")).order_by("-count"))
        list(Effect.objects.filter(id=1).union(Effect.objects.filter(id=2)))
        list(WorkflowRun.objects.annotate(day=TruncDay("created_at")).with_attributes(customer="x"))
        list(WorkflowRun.objects.select_for_update().filter(created_at__year=2026))
        Effect.objects.filter(pk=row.pk).delete()
    assert len(seen) > 9
    assert {statement for statement in seen if effect(statement) != NOTHING} == set()
