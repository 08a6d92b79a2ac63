"""The table of idempotency keys: what a start with a key costs, what is in it, and what many rivals leave there."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.test.utils import CaptureQueriesContext

from canx_flow import Context, workflow
from canx_flow.core.identity import uuid7
from canx_flow.models import RunKey, Timer, WorkflowRun
from canx_flow.store import keys, starts
from canx_flow.store.db.databases import session_for
from canx_flow.store.db.tables import KEY, RUN, TIMER
from canx_flow.testing import run_until_idle

from ..elsewhere import elsewhere
from ..models import Effect

pytestmark = pytest.mark.django_db

#: Statements that are no work on rows: of transactions, and of the lock by which rivals on MySQL go one by one.
AROUND = ("BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SELECT GET_LOCK", "SELECT RELEASE_LOCK")


@workflow("keys.any")
def anything(ctx: Context, *_: Any) -> None:
    """Ends at once."""


@contextmanager
def statements(expected: list[str]) -> Iterator[None]:
    """What is done in the block sends these statements to the database, told by their first words."""
    with CaptureQueriesContext(connection) as captured:
        yield
    sent = [query["sql"] for query in captured if not query["sql"].startswith(AROUND)]
    tables = {KEY: "key", RUN: "run", TIMER: "timer"}
    table = [min(tables, key=lambda name, sql=sql: sql.find(name) + 1 or 10**6) for sql in sent]
    assert [f"{sql.split()[0]} {tables[name]}" for sql, name in zip(sent, table, strict=True)] == expected


def table() -> dict[str, UUID]:
    """The keys and the runs that have them."""
    return dict(RunKey.objects.values_list("key", "run_id"))


# -- what a start costs ----------------------------------------------------------------------------


def test_a_start_without_a_key_touches_no_key(tier: str) -> None:
    """It is one INSERT, of the run."""
    with statements(["INSERT run"]):
        anything.start()
    assert table() == {}


def test_a_start_with_a_new_key_is_two_inserts(tier: str) -> None:
    """First the key, then the run; on MySQL the key is read before, so that the INSERT meets no row."""
    with statements([*(["SELECT key"] if tier == "mysql" else []), "INSERT key", "INSERT run"]):
        run_id = anything.using(key="a").start()
    with statements([*(["SELECT key"] if tier == "mysql" else []), "INSERT key", "INSERT run", "INSERT timer"]):
        delayed = anything.using(key="b", delay=60).start()
    assert table() == {"a": run_id, "b": delayed}
    assert Timer.objects.get().run_id == delayed


def test_a_start_with_a_taken_key_reads_who_has_it(tier: str) -> None:
    """The run's id and state come with one SELECT, and no row of a run is stored."""
    run_id = anything.using(key="a").start()
    with statements(["SELECT key"] if tier == "mysql" else ["INSERT key", "SELECT key"]):
        assert anything.using(key="a").start() == run_id


def test_the_table_of_runs_has_no_unique_value_but_the_id() -> None:
    """So that a project can partition it by time: a unique value would have to be unique over all partitions."""
    meta = WorkflowRun._meta
    assert [field.name for field in meta.fields if field.unique] == ["id"]
    assert not any(isinstance(constraint, models.UniqueConstraint) for constraint in meta.constraints)
    assert not meta.unique_together
    with connection.cursor() as cursor:
        there = connection.introspection.get_constraints(cursor, RUN)
    assert not [name for name, its in there.items() if its["unique"] and not its["primary_key"]]


# -- what is in it ---------------------------------------------------------------------------------


def test_a_key_is_the_run_s_from_its_start_until_it_is_deleted() -> None:
    """It stays when the run ends, and goes with the run."""
    run_id = anything.using(key="a").start()
    run_until_idle()
    assert anything.status(run_id).state == "completed"
    assert table() == {"a": run_id}
    assert anything.runs.get(key="a").id == run_id
    WorkflowRun.objects.all().delete()
    assert table() == {}


def test_keys_compare_byte_by_byte() -> None:
    """Letter case, accents and the way an accent is written tell keys apart on every database."""
    names = ["a", "A", "á", "a\u0301", "ß", "ss"]
    ids = [anything.using(key=name).start() for name in names]
    assert table() == dict(zip(names, ids, strict=True))


@pytest.mark.parametrize("reject", [True, False])
def test_a_key_whose_run_was_deleted_by_sql_is_free(reject: bool) -> None:
    """A partition of runs may be dropped, and its keys left behind: a start takes them over."""
    first = [anything.using(key=key).start() for key in "abc"]
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {RUN} WHERE id = %s", [session_for("default").uuid(first[0])])
    second = anything.using(key="a", on_conflict="reject" if reject else "existing").start()
    assert second != first[0]
    assert table() == {"a": second, "b": first[1], "c": first[2]}


def test_a_run_that_cannot_be_stored_leaves_no_key() -> None:
    """Key and run are stored together or not at all, and the caller's transaction goes on."""
    taken = anything.start()
    with transaction.atomic():
        run = WorkflowRun(id=taken, workflow="keys.any", key="a")
        with pytest.raises(IntegrityError):
            starts.insert_keyed("default", run, None)
        Effect.objects.create(name="after")
    assert table() == {}
    assert Effect.objects.get().name == "after"


def test_only_a_taken_key_is_ignored() -> None:
    """Any other reason why a key cannot be stored is raised: here its run has another key already."""
    run_id = anything.using(key="a").start()
    with pytest.raises(IntegrityError), transaction.atomic():
        keys.take("default", "keys.any", {"b": run_id}, "b")
    assert table() == {"a": run_id}


def test_of_many_keys_some_may_be_taken() -> None:
    """Each key that is free goes to the run named for it, and the others stay with the runs that have them."""
    there = {key: anything.using(key=key).start() for key in "bd"}
    wanted = {key: uuid7() for key in "edcba"}
    with transaction.atomic():
        holders = keys.take("default", "keys.any", wanted, "several")
        assert {key: run_id for key, (run_id, _) in holders.items()} == wanted | there
        assert table() == wanted | there
        transaction.set_rollback(True)
    assert table() == there


# -- rivals ----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_rivals_for_neighbouring_keys_get_one_run_each() -> None:
    """Many callers at few keys that lie beside each other: each key has one run at the end, each caller got its id, and
    no caller's transaction was broken."""
    callers, rounds, names = 12, 6, [f"order-{number}" for number in range(4)]
    barrier = threading.Barrier(callers, timeout=60)
    chance = random.Random(7)
    plans = [[chance.choice(names) for _ in range(rounds)] for _ in range(callers)]

    def call(plan: list[str]) -> dict[str, UUID]:
        barrier.wait()
        got: dict[str, UUID] = {}
        for name in plan:
            with transaction.atomic():
                Effect.objects.create(name="before")
                run_id = anything.using(key=name).start()
                Effect.objects.create(name="after")
            assert got.setdefault(name, run_id) == run_id
        return got

    answers = [answer.result(120) for answer in [elsewhere(partial(call, plan)) for plan in plans]]
    assert all(got.items() <= table().items() for got in answers)
    assert sorted(table()) == names
    assert set(table().values()) == set(WorkflowRun.objects.values_list("id", flat=True))
    assert Effect.objects.count() == 2 * callers * rounds
