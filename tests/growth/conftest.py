"""A database that has stored much, made once for all of these tests: what they change stays changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, connections, transaction

from canx_flow.core import clock
from canx_flow.core.changes import Record, Wait
from canx_flow.core.identity import first_id_at
from canx_flow.models import Event, WorkflowRun
from canx_flow.states import COMPLETED, SLEEPING, Kind, RecordState
from canx_flow.store.db.databases import session_of

MANY = 20_000
POSTGRESQL = {"postgresql"}


@pytest.fixture(scope="package")
def _stored(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        _flush()
        on_each(POSTGRESQL, "ALTER TABLE {table} SET (autovacuum_enabled = false)")
        with transaction.atomic():
            _fill()
        yield
        on_each(POSTGRESQL, "ALTER TABLE {table} RESET (autovacuum_enabled)")
        _flush()


@pytest.fixture(scope="package", params=["fresh", "analysed"])
def statistics(request: pytest.FixtureRequest, _stored: None) -> str:
    """Whether the planner knows anything of these tables: `fresh` or `analysed`."""
    if request.param == "analysed":
        on_each(POSTGRESQL, "VACUUM ANALYZE {table}")
        on_each({"mysql"}, "ANALYZE TABLE {table}")
        on_each({"sqlite"}, "ANALYZE {table}")
    else:
        # Those of a test before, of the same table, tell PostgreSQL of what is no longer there.
        on_each(POSTGRESQL, "DELETE FROM pg_statistic WHERE starelid = '{table}'::regclass")
    connections["default"].close()  # PostgreSQL may have plans that it made when the tables were empty.
    return str(request.param)


@pytest.fixture(autouse=True, scope="package")
def db(statistics: str) -> None:
    """In the place of pytest-django's: many rows, committed."""


@pytest.fixture(autouse=True)
def _vacuumed(statistics: str) -> None:
    # A test before may have rolled back very many rows. Autovacuum is off, so that it is here, not at any time, that
    # PostgreSQL forgets them: with them it reads more, and takes other plans.
    on_each(POSTGRESQL, "VACUUM {table}")
    _make_indexes_small()
    if statistics == "fresh":  # Which is all that VACUUM has told the planner.
        on_each(
            POSTGRESQL,
            "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = '{table}'::regclass "
            "OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '{table}'::regclass)",
        )


@pytest.fixture
def taken_back() -> Iterator[None]:
    """Leaves nothing of what a test writes."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def _make_indexes_small() -> None:
    """Make the indexes anew of tables in which a test has had very many rows: VACUUM leaves them as large as they were.

    The planner then takes whole tables for cheaper than these.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for table in _tables():
                cursor.execute(f"SELECT pg_indexes_size('{table}') > 2 * pg_table_size('{table}') + 1000000")
                if cursor.fetchone() == (True,):
                    cursor.execute(f"REINDEX TABLE {table}")


def _flush() -> None:
    call_command("flush", verbosity=0, interactive=False)


def on_each(vendors: set[str], statement: str) -> None:
    """Run it for each of canx_flow's tables, if the database is one of these."""
    if connection.vendor in vendors:
        with connection.cursor() as cursor:
            for table in _tables():
                cursor.execute(statement.format(table=table))


def _tables() -> list[str]:
    return [model._meta.db_table for model in apps.get_app_config("canx_flow").get_models()]


def _fill() -> None:
    """Store runs of a step that have ended or sleep, one in ten ready in one of seven queues, and delivered events."""
    session = session_of(connections["default"])
    now = clock.now()
    # One a minute until an hour ago.
    ids = [UUID(int=first_id_at(now - timedelta(minutes=60 + MANY - number)).int + number) for number in range(MANY)]
    kinds = [WorkflowRun(state=state, ready=False) for state in (COMPLETED, SLEEPING) * 5]
    for place in range(7):
        kinds[0] = WorkflowRun(ready=True, queue=f"a{place}")
        for offset, kind in enumerate(kinds):
            kind.workflow = "order"
            some = ids[place * 10 + offset :: 70]
            session.insert_runs(kind, some, ["[[],{}]"] * len(some))
    later = now + timedelta(days=1)
    wait = [(run_id, Wait("s", Kind.SLEEP, later), False) for run_id in ids[1::2]]
    session.insert_timers(wait)
    session.insert_records([(run_id, _record(now)) for run_id in ids])
    Event.objects.bulk_create([Event(name="paid", key=str(number), delivered=True) for number in range(MANY)], 1000)


def _record(now: datetime) -> Record:
    return Record(1, "first", Kind.STEP, RecordState.COMPLETED, 1, result="null", started_at=now, finished_at=now)
