"""How many of a pool's connections a worker needs: measured with a pool of exactly that size."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from canx_flow import AsyncContext, Context, workflow
from canx_flow.core import registry
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.store.db import pool
from tests.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

SLOTS = 3


def count(_number: int) -> int:
    """A step that uses the ORM."""
    return Effect.objects.count()


@pytest.fixture
def flows() -> Iterator[None]:
    """Workflows for this module alone, plain and async, with a timeout and without."""

    @workflow("pool.plain")
    def plain(ctx: Context, number: int) -> None:
        for place in range(5):
            ctx.step(f"count-{place}", count, number)

    @workflow("pool.limited")
    def limited(ctx: Context, number: int) -> None:
        ctx.step("count", count, number)
        for place in range(5):
            ctx.step(f"count-{place}", count, number, timeout=60)

    @workflow("pool.async")
    async def asynchronous(ctx: AsyncContext, number: int) -> None:
        for place in range(5):
            await ctx.step(f"count-{place}", count, number)

    @workflow("pool.async-orm")
    async def awaiting(ctx: AsyncContext, number: int) -> None:
        for place in range(5):
            await ctx.step(f"count-{place}", Effect.objects.acount)

    yield
    for name in ("plain", "limited", "async", "async-orm"):
        registry.forget(f"pool.{name}")


@pytest.fixture
def pooled(tier: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Options of a connection pool for the database under test, to be filled in."""
    if tier != "postgresql":
        pytest.skip("Django has pools for PostgreSQL only")
    connection: Any = connections["default"]
    connection.close()
    options: dict[str, Any] = {"min_size": 1, "timeout": 2}
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "pool", options)
    yield options
    connection.close()
    connection.close_pool()


def _failed_attempts() -> int:
    return sum(record.attempts - 1 for record in StepRecord.objects.filter(kind="step"))


def _work(*names: str) -> None:
    for name in names:
        found = registry.get(name)
        assert found is not None
        found.start_many((number,) for number in range(20))
    connections["default"].close()
    call_command("runflowworker", "--burst", "--concurrency", str(SLOTS))
    assert set(WorkflowRun.objects.values_list("state", flat=True)) == {"completed"}


def test_the_least_will_do_for_plain_steps(pooled: dict[str, Any], flows: None) -> None:
    """With one connection per slot no step of a `def` workflow waits in vain."""
    pooled["max_size"] = pool.needed(SLOTS)
    _work("pool.plain")
    assert _failed_attempts() == 0


def test_the_least_will_do_for_the_async_orm(pooled: dict[str, Any], flows: None) -> None:
    """Each async run has a thread of its own for it, and so a connection, in place of a slot's."""
    pooled["max_size"] = pool.needed(SLOTS)
    _work("pool.async-orm")
    assert _failed_attempts() == 0


def test_twice_the_slots_is_always_enough(pooled: dict[str, Any], flows: None) -> None:
    """Timeouts and async workflows use threads beside the slots: then it takes as many again."""
    pooled["max_size"] = pool.enough(SLOTS)
    _work("pool.plain", "pool.limited", "pool.async", "pool.async-orm")
    assert _failed_attempts() == 0


def test_a_worker_warns_of_its_own_pool_at_its_start(
    pooled: dict[str, Any], flows: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Measured by its real --concurrency, not by the default one: three slots are content with what four are not."""
    pooled["max_size"] = pool.needed(SLOTS)
    with caplog.at_level(logging.WARNING, "canx_flow.worker"):
        _work("pool.plain")
        assert caplog.text == ""
        call_command("runflowworker", "--burst", "--concurrency", str(SLOTS + 1))
    assert "connection pool" in caplog.text
    assert f"--concurrency {SLOTS + 1} needs {SLOTS + 1}" in caplog.text
