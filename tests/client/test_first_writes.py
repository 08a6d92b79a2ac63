"""Calls that read before they write, on SQLite with transactions that Django begins without a lock, its default."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from canx_flow import schedules
from canx_flow.core import clock
from canx_flow.core.schedules import Scheduled
from canx_flow.models import Schedule, WorkflowRun
from canx_flow.store import schedules as store

from ..models import Effect
from ..policies.shared import work


@pytest.fixture(autouse=True)
def _deferred(tier: str, transactional_db: None) -> Iterator[None]:
    if tier != "sqlite":
        pytest.skip("other databases lock rows")
    connection.ensure_connection()
    before, connection.transaction_mode = connection.transaction_mode, None
    yield
    connection.transaction_mode = before


def _write_elsewhere() -> None:
    """What another process writes now, unless it would have to wait."""
    name = connection.settings_dict["NAME"]
    with closing(sqlite3.connect(name, timeout=0)) as other, suppress(sqlite3.OperationalError):  # It is locked.
        other.execute("INSERT INTO tests_effect (name, value) VALUES ('theirs', '')")
        other.commit()


def _read() -> Iterator[tuple[Any]]:
    for effect in Effect.objects.order_by("id"):
        _write_elsewhere()
        yield (effect.name,)


@pytest.mark.parametrize("inside", [True, False], ids=["in a transaction", "outside"])
@pytest.mark.parametrize("options", [{}, {"singleton": "a"}], ids=["plain", "singleton"])
def test_start_many_takes_arguments_that_are_read_while_others_write(inside: bool, options: Any) -> None:
    """Of what others have written meanwhile, or are kept from writing, nothing is read, and all runs are started."""
    for name in ("a", "b"):
        Effect.objects.create(name=name)
    with transaction.atomic() if inside else nullcontext():
        ids = work.using(**options).start_many(_read())
    assert len(ids) == 2
    assert WorkflowRun.objects.count() == (1 if options else 2)


def test_backfill_looks_for_missing_ticks_while_others_write() -> None:
    """It reads which runs there are, and then stores the others."""
    declared = Scheduled.declared("often", work, every=timedelta(minutes=1))
    store.insert("default", declared, Schedule.ADMIN)
    now = clock.now()

    def see(execute: Any, sql: str, *rest: Any) -> Any:
        found = execute(sql, *rest)
        if sql.startswith("SELECT") and "canx_flow_runkey" in sql:
            _write_elsewhere()
        return found

    with connection.execute_wrapper(see):
        ids = schedules.backfill("often", now - timedelta(minutes=3), now)
    assert len(ids) == 3
