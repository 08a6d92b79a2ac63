"""What user code leaves behind in a slot's thread and connections reaches no other run, and no other step.

One real worker with one slot, in a thread of the test's process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.local import Local
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.utils import timezone, translation

from canx_flow import AsyncContext, Context, Retry, signals, workflow
from canx_flow.client import get_run
from canx_flow.store.db import lending
from canx_flow.store.db.foreign import drop, has_come
from canx_flow.worker.loop import WorkerLoop
from canx_flow.worker.options import Options

from ...models import Effect
from ...waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

Deed = Callable[[], Any]

ONCE = Retry(max_attempts=1)
VARIABLE: ContextVar[str] = ContextVar("tests_lending", default="untouched")
LOCAL = Local()
#: What the steps of the next run do, by step; and what its body does before and after them.
deeds: dict[str, Deed] = {}


def _do(name: str) -> Any:
    return deeds.get(name, lambda: None)()


@workflow("lending.plain", retry=ONCE)
def plain(ctx: Context) -> Any:
    """Two steps, and the body before, between and after them."""
    _do("before")
    ctx.step("first", _do, "first")
    _do("between")
    value = ctx.step("second", _do, "second")
    return [value, _do("after")]


@workflow("lending.limited", retry=ONCE)
def limited(ctx: Context) -> Any:
    """The same with a timeout: in a thread of the step's own."""
    ctx.step("first", _do, "first", timeout=timedelta(seconds=20))
    return [ctx.step("second", _do, "second", timeout=timedelta(seconds=20)), None]


@workflow("lending.atomic", retry=ONCE)
def atomic(ctx: Context) -> Any:
    """The same in transactions."""
    ctx.step("first", _do, "first", atomic=True)
    return [ctx.step("second", _do, "second", atomic=True), None]


@workflow("lending.async", retry=ONCE)
async def asynchronous(ctx: AsyncContext) -> Any:
    """Plain steps of an `async def` workflow."""
    await ctx.step("first", _do, "first")
    return [await ctx.step("second", _do, "second"), None]


async def _ado(name: str) -> Any:
    return await sync_to_async(_do)(name)


@workflow("lending.async-steps", retry=ONCE)
async def async_steps(ctx: AsyncContext) -> Any:
    """Async steps, whose sync code the run's one thread does; and the body's."""
    await sync_to_async(_do)("before")
    await ctx.step("first", _ado, "first")
    value = await ctx.step("second", _ado, "second", timeout=timedelta(seconds=20))
    return [value, await sync_to_async(_do)("after")]


@workflow("lending.async-in-plain", retry=ONCE)
def async_in_plain(ctx: Context) -> Any:
    """Async steps of a plain workflow: with a timeout, and without."""
    ctx.step("first", _ado, "first", timeout=timedelta(seconds=20))
    return [ctx.step("second", _ado, "second"), None]


@pytest.fixture
def slot() -> Iterator[None]:
    """A worker with one slot."""
    deeds.clear()
    loop = WorkerLoop(Options(concurrency=1, poll_seconds=0.2, shutdown_timeout=5.0))
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    yield
    loop.stop()
    thread.join(20)
    assert not thread.is_alive()


def _run(flow: Any = plain, **wanted: Deed) -> Any:
    """Run it to its end; its status."""
    deeds.clear()
    deeds.update(wanted)
    run_id = flow.start()
    return wait_until(lambda: _ended(run_id))


def _ended(run_id: UUID) -> Any:
    status = get_run(run_id)
    return status if status.ended else None


def _result(flow: Any = plain, **wanted: Deed) -> Any:
    status = _run(flow, **wanted)
    assert status.state == "completed", status.error
    return status.result


# -- Python's own ----------------------------------------------------------------------------------


def _change_python() -> None:
    translation.activate("fr")
    timezone.activate("Asia/Tokyo")
    VARIABLE.set("changed")
    LOCAL.tenant = "changed"


def _python() -> list[str]:
    zone = timezone.get_current_timezone_name()
    return [translation.get_language(), zone, VARIABLE.get(), getattr(LOCAL, "tenant", "untouched")]


IN_STEPS = [plain, limited, asynchronous, async_steps, async_in_plain]
FLOWS = pytest.mark.parametrize("flow", [*IN_STEPS, atomic], ids=lambda flow: flow.name)


@FLOWS
def test_c148_what_a_step_sets_for_python_ends_with_it(slot: None, flow: Any) -> None:
    """Neither the next step nor the next run sees its language, time zone, context variables and locals."""
    untouched = _result(flow, second=_python)
    assert _result(flow, first=_change_python, second=_python) == untouched
    assert _result(flow, second=_python) == untouched


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_c148_what_a_body_sets_for_python_ends_with_its_run(slot: None, where: str) -> None:
    """Its own steps see it, the next run does not."""
    untouched = _result(second=_python, after=_python)
    _result(**{where: _change_python})
    assert _result(second=_python, after=_python) == untouched
    changed = _result(before=_change_python, second=_python, after=_python)
    assert changed[0] == changed[1] != untouched[0]


def test_c148_a_body_does_not_see_what_its_step_has_set_for_python(slot: None) -> None:
    """On replay the step is not called, and the body must be the same."""
    untouched = _result(after=_python)
    assert _result(first=_change_python, after=_python) == untouched


def test_c148_what_a_receiver_sets_for_python_ends_with_it(slot: None) -> None:
    """A receiver of a step's signal is called between two steps of a body, which sees nothing of it."""
    untouched = _result(second=_python, after=_python)

    def hear(**_kwargs: Any) -> None:
        _change_python()

    signals.step_completed.connect(hear)
    try:
        assert _result(second=_python, after=_python) == untouched
    finally:
        signals.step_completed.disconnect(hear)


# -- the database's --------------------------------------------------------------------------------


def _sql(*statements: str) -> Any:
    """The first column of the last one, if it gives rows."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return None if cursor.description is None else [row[0] for row in cursor.fetchall()]


#: By database: how a session is changed, and how that is seen.
CHANGES = {
    "postgresql": {
        "search_path": ("SET search_path = pg_catalog", "SHOW search_path"),
        "tenant": (
            "SELECT set_config('app.tenant', '5', false)",
            "SELECT coalesce(current_setting('app.tenant', true), '') <> ''",
        ),
        "role": ("SET ROLE pg_read_all_data", "SELECT current_user = session_user"),
        "authorization": ("SET SESSION AUTHORIZATION pg_read_all_data", "SELECT current_user = session_user"),
        "temporary": ("CREATE TEMP TABLE left_behind (a int)", "SELECT to_regclass('left_behind') IS NULL"),
        "lock": (
            "SELECT pg_advisory_lock(4711)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        ),
        "listen": ("LISTEN left_behind", "SELECT count(*) FROM pg_listening_channels()"),
        "prepared": ("PREPARE left_behind AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql"),
        "time zone": ("SET TIME ZONE 'Asia/Tokyo'", "SHOW TimeZone"),
        "several": ("SELECT 1; SET work_mem = '64MB'", "SHOW work_mem"),
    },
    "mysql": {
        "variable": ("SET @tenant = 5", "SELECT @tenant IS NULL"),
        "sql_mode": ("SET sql_mode = 'ANSI'", "SELECT @@sql_mode"),
        "assigned": ("SELECT @tenant := 5", "SELECT @tenant IS NULL"),
        "temporary": (
            "CREATE TEMPORARY TABLE left_behind AS SELECT 5 AS a",
            "SHOW TABLES LIKE 'left_behind'",
        ),
        "lock": ("SELECT GET_LOCK('left_behind', 1)", "SELECT IS_USED_LOCK('left_behind') IS NULL"),
        "isolation": ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT @@tx_isolation"),
    },
    "sqlite": {
        "pragma": ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys"),
        "temporary": (
            "CREATE TEMP TABLE left_behind (a int)",
            "SELECT count(*) FROM sqlite_temp_master",
        ),
        "attached": ("ATTACH ':memory:' AS left_behind", "SELECT count(*) FROM pragma_database_list"),
    },
}
EVERY_CHANGE = sorted({name for changes in CHANGES.values() for name in changes})


@pytest.fixture(params=EVERY_CHANGE)
def change(request: pytest.FixtureRequest, tier: str) -> tuple[Deed, Deed]:
    """Two deeds: one that changes its session, and one that looks."""
    if request.param not in CHANGES[tier]:
        pytest.skip(f"{tier} has no such thing, or another way to it")
    statement, look = CHANGES[tier][request.param]
    if "transaction_isolation" not in look and "tx_isolation" in look and not connection.mysql_is_mariadb:
        look = look.replace("tx_", "transaction_")
    if request.param in ("role", "authorization") and tier == "postgresql":
        _sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO pg_read_all_data")
    return lambda: _sql(statement) and None, lambda: _sql(look)


@pytest.mark.parametrize("flow", IN_STEPS, ids=lambda flow: flow.name)
def test_c148_what_a_step_tells_its_session_ends_with_it(slot: None, change: tuple[Deed, Deed], flow: Any) -> None:
    """Neither the next step nor the next run sees it."""
    tell, look = change
    untouched = _result(flow, second=look)
    assert _result(flow, first=tell, second=look) == untouched
    assert _result(flow, second=tell)
    assert _result(flow, second=look) == untouched


@pytest.mark.parametrize("where", ["before", "after"])
def test_c148_what_a_body_tells_its_session_reaches_no_step_and_no_other_run(
    slot: None, change: tuple[Deed, Deed], where: str
) -> None:
    """A step with a timeout has another session, so none may count on the body's."""
    tell, look = change
    untouched = _result(second=look)
    assert _result(second=look, **{where: tell})[0] == untouched[0]
    assert _result(second=look) == untouched


def test_c148_what_an_atomic_step_tells_its_session_ends_with_it(slot: None, tier: str) -> None:
    """Its transaction is committed, and with it what outlives a transaction: until the step is over."""
    if tier != "postgresql":
        pytest.skip("shown with a setting of PostgreSQL's")
    tell, look = CHANGES[tier]["tenant"]
    untouched = _result(atomic, second=lambda: _sql(look))
    assert _result(atomic, first=lambda: _sql(tell) and None, second=lambda: _sql(look)) == untouched


def test_c148_what_the_drivers_own_cursor_tells_the_session_ends_with_the_run(slot: None, tier: str) -> None:
    """Django does not see it; between two runs a session is made as new whether it seems changed or not."""
    if tier != "postgresql":
        pytest.skip("elsewhere only what Django's cursor is given is seen, as the page says")

    def tell() -> None:
        connection.ensure_connection()
        connection.connection.execute("SET search_path = pg_catalog")

    untouched = _result(second=lambda: _sql("SHOW search_path"))
    _result(second=tell)
    assert _result(second=lambda: _sql("SHOW search_path")) == untouched


def test_c148_a_session_keeps_what_the_project_sets_when_it_is_opened(slot: None, tier: str) -> None:
    """What a receiver of `connection_created` and Django itself have set is there again after a reset."""
    if tier != "postgresql":
        pytest.skip("elsewhere a changed session is ended, and the next one opened as the first was")

    def set_up(connection: Any, **_kwargs: Any) -> None:
        if connection.alias == "default" and threading.current_thread().name == "canx_flow slot":
            with connection.cursor() as cursor:
                cursor.execute("SET app.tenant = 'the project''s'")
                cursor.execute("SET work_mem = '5MB'")

    look = "SELECT current_setting('app.tenant') || current_setting('work_mem') || current_setting('TimeZone')"
    connection_created.connect(set_up)
    try:
        untouched = _result(second=lambda: _sql(look))
        found = _result(
            first=lambda: _sql("SET app.tenant = '5'", "SET work_mem = '9MB'", "SET TimeZone = 'Asia/Tokyo'")
        )
        assert found == [None, None]
        assert _result(second=lambda: _sql(look)) == untouched == [["the project's5MBUTC"], None]
        found = _result(first=lambda: _sql("SET app.tenant = '5'", "RESET ALL"), second=lambda: _sql(look))
        assert found == untouched
    finally:
        connection_created.disconnect(set_up)


def test_what_the_project_sets_is_remembered_for_one_session_only(slot: None, tier: str) -> None:
    """Steps that close their connection, as long-lived processes were once told to, make no list longer and longer."""

    def set_up(connection: Any, **_kwargs: Any) -> None:
        if connection.alias == "default" and threading.current_thread().name == "canx_flow slot":
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")

    def close() -> int:
        for _ in range(5):
            connection.close()
            Effect.objects.exists()
        return len(lending.this_thread().lent["default"].opening._told)

    connection_created.connect(set_up)
    try:
        # Django itself sets one thing where it opens a connection to MySQL.
        assert _result(second=close) == _result(second=close) == [2 if tier == "mysql" else 1, None]
    finally:
        connection_created.disconnect(set_up)


def test_c148_the_same_session_serves_run_after_run(slot: None, tier: str) -> None:
    """A reset is cheaper than a new connection, and plain statements cost not even that within a run."""
    if tier != "postgresql":
        pytest.skip("asked of PostgreSQL's process ids")
    pid = "SELECT pg_backend_pid()"
    first = _result(first=lambda: _sql("SET work_mem = '9MB'"), second=lambda: _sql(pid))
    assert _result(second=lambda: _sql(pid)) == first


def test_c148_a_body_may_read_from_a_cursor_while_its_steps_are_called(slot: None) -> None:
    """A reset between two steps closes no cursor of the body's."""
    Effect.objects.bulk_create(Effect(name=str(number)) for number in range(50))

    def body() -> Any:
        rows = Effect.objects.order_by("id").iterator(chunk_size=10)
        return [next(rows), rows]

    kept: list[Any] = []
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL's are the session's")
    _result(
        before=lambda: kept.append(body()),
        first=lambda: _sql("SET work_mem = '9MB'"),
        after=lambda: kept.append(len(list(kept[0][1]))),
    )
    assert kept[1] == 49


# -- transactions ----------------------------------------------------------------------------------


def _enter_by_hand() -> None:
    transaction.atomic().__enter__()
    Effect.objects.create(name="lost")


def _autocommit_off() -> None:
    transaction.set_autocommit(False)
    Effect.objects.create(name="lost")


def _begin_by_hand() -> None:
    _sql("BEGIN")
    Effect.objects.create(name="lost")


LEFT_OPEN = pytest.mark.parametrize(
    "leave", [_enter_by_hand, _autocommit_off, _begin_by_hand], ids=lambda deed: deed.__name__.strip("_")
)


@LEFT_OPEN
@pytest.mark.parametrize("flow", IN_STEPS, ids=lambda flow: flow.name)
def test_a_step_that_leaves_a_transaction_open_fails(slot: None, flow: Any, leave: Deed) -> None:
    """It is never recorded as completed, what it wrote is rolled back, and the next run finds a sound connection."""
    status = _run(flow, first=leave)
    assert status.state == "failed"
    assert "InsideTransaction" in status.error["message"]
    assert not Effect.objects.exists()
    _result(flow, first=lambda: Effect.objects.create(name="kept").pk)
    assert Effect.objects.filter(name="kept").exists()


def test_an_atomic_step_that_leaves_a_block_open_is_not_stored(slot: None) -> None:
    """Its outer block would only release a savepoint: nothing would be committed."""
    status = _run(atomic, first=_enter_by_hand)
    assert status.state == "failed"
    assert "InsideTransaction" in status.error["message"]
    assert not Effect.objects.exists()
    _result(atomic, first=lambda: Effect.objects.create(name="kept").pk)
    assert Effect.objects.filter(name="kept").exists()


def test_an_atomic_step_that_rolls_back_by_hand_is_not_stored(slot: None) -> None:
    """Its record would be stored without its writes."""

    def undo() -> None:
        Effect.objects.create(name="lost")
        _sql("ROLLBACK")

    status = _run(atomic, first=undo)
    assert status.state == "failed"
    assert not Effect.objects.exists()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_transaction_left_open_on_another_database_fails_the_step(slot: None) -> None:
    """Whichever of the thread's connections it is, and be the step atomic: it is not stored."""
    status = _run(atomic, first=lambda: transaction.atomic(using="other").__enter__())
    assert status.state == "failed"
    assert "'other'" in status.error["message"]
    _result(atomic)


def test_a_steps_own_error_is_told_though_it_left_a_transaction_open(slot: None) -> None:
    """It is one failed attempt for its own reason; the connection is made sound all the same."""

    def fail() -> None:
        _enter_by_hand()
        raise LookupError("no such book")

    for flow in (plain, atomic):
        status = _run(flow, first=fail)
        assert "LookupError" in status.error["message"]
        assert not Effect.objects.exists()
    _result(first=lambda: Effect.objects.create(name="kept").pk)
    assert Effect.objects.filter(name="kept").exists()


@LEFT_OPEN
@pytest.mark.parametrize("where", ["before", "after"])
def test_an_async_body_that_leaves_a_transaction_open_fails(slot: None, leave: Deed, where: str) -> None:
    """In the thread of its run: at its next context call, or when it returns; no step is blamed for it."""
    status = _run(async_steps, **{where: leave})
    assert status.state == "failed"
    assert status.error["type"] == "canx_flow.exceptions.InsideTransaction"
    assert "the body has left a transaction open" in status.error["message"]
    assert not Effect.objects.exists()
    _result(async_steps, first=lambda: Effect.objects.create(name="kept").pk)
    assert Effect.objects.filter(name="kept").exists()


@LEFT_OPEN
def test_an_async_body_that_raises_and_leaves_a_transaction_open_fails(slot: None, leave: Deed) -> None:
    """For its own reason, and at once: the end of its run does not wait for what it has left open."""

    def leave_and_raise() -> None:
        leave()
        raise LookupError("no such book")

    status = _run(async_steps, before=leave_and_raise)
    assert (status.state, status.error["type"]) == ("failed", "builtins.LookupError")
    assert not Effect.objects.exists()


@LEFT_OPEN
@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_a_body_that_leaves_a_transaction_open_fails(slot: None, leave: Deed, where: str) -> None:
    """At its next context call, or when it returns."""
    status = _run(**{where: leave})
    assert status.state == "failed"
    assert "InsideTransaction" in f"{status.error['type']} {status.error['message']}"
    assert not Effect.objects.exists()
    _result(first=lambda: Effect.objects.create(name="kept").pk)
    assert Effect.objects.filter(name="kept").exists()


def test_a_receiver_that_leaves_a_transaction_open_fails_no_run(slot: None) -> None:
    """It is rolled back and told; the body that it was called in goes on."""

    def hear(**_kwargs: Any) -> None:
        _enter_by_hand()

    signals.step_completed.connect(hear)
    try:
        _result()
    finally:
        signals.step_completed.disconnect(hear)
    assert not Effect.objects.exists()


# -- connections that die, and pools ---------------------------------------------------------------


def _sever() -> None:
    """End the sessions of the slot from outside, as a failover or an idle timeout does."""
    tier = connection.vendor
    mine = "SELECT pg_backend_pid()" if tier == "postgresql" else "SELECT CONNECTION_ID()"
    session = _sql(mine)[0]
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            if tier == "postgresql":
                cursor.execute("SELECT pg_terminate_backend(%s)", [session])
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [session])
            else:
                cursor.execute(f"KILL {session:d}")
    finally:
        other.close()
    lent = lending.this_thread().lent["default"]
    wait_until(lambda: has_come(lent.news))


def test_a_connection_that_has_died_is_replaced_before_the_next_step(slot: None, tier: str) -> None:
    """The step is called with a new one, and fails for nothing."""
    if tier == "sqlite":
        pytest.skip("there is no server")
    _result(first=_sever, second=lambda: Effect.objects.create(name="kept").pk)
    assert Effect.objects.filter(name="kept").exists()


def test_a_connection_is_asked_as_the_project_wants(slot: None, tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CONN_HEALTH_CHECKS each step's first statement is preceded by Django's own question."""
    if tier == "sqlite":
        pytest.skip("there is no server")
    monkeypatch.setitem(connections.settings["default"], "CONN_HEALTH_CHECKS", True)

    def use() -> bool:
        before = connection.health_check_done
        Effect.objects.count()
        return bool(before) or not connection.health_check_done

    assert _result(first=Effect.objects.count, second=use) == [False, None]


def test_a_connection_that_is_old_enough_is_replaced(slot: None, tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONN_MAX_AGE holds between two runs."""
    if tier == "sqlite":
        pytest.skip("there is no server")
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 600)
    mine = "SELECT pg_backend_pid()" if tier == "postgresql" else "SELECT CONNECTION_ID()"

    def age() -> Any:
        session = _sql(mine)
        connection.close_at = 0.0
        return session

    first = _result(second=age)
    second = _result(second=lambda: _sql(mine))
    assert first != second
    assert _result(second=lambda: _sql(mine)) == second


def test_a_pool_gets_back_what_a_failure_has_spoilt(tier: str) -> None:
    """Each place of it counts: one that was closed behind its back would be lent for ever."""
    if tier != "postgresql":
        pytest.skip("Django has a pool for PostgreSQL only")
    given = connections.settings["default"]
    options = {**given["OPTIONS"], "pool": {"min_size": 1, "max_size": 2, "timeout": 3}}
    pooled: Any = type(connections["default"])({**given, "OPTIONS": options, "CONN_MAX_AGE": 0}, "pooled")
    try:
        for _ in range(4):
            with pooled.cursor() as cursor:
                cursor.execute("SET search_path = pg_catalog")
            transaction_of = pooled.connection
            pooled.set_autocommit(False)
            drop(pooled)
            assert transaction_of.closed
        with pooled.cursor() as cursor:
            cursor.execute("SHOW search_path")
            assert cursor.fetchone() != ("pg_catalog",)
    finally:
        pooled.close()
        pooled.close_pool()
