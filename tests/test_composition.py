"""The three things that an engine is chosen by, in the words in which users write them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from itertools import count
from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow import AsyncContext, Context, MapFailed, Retry, StepFailed, workflow
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db(transaction=True)

ONCE = Retry(max_attempts=1)


# -- a fan-out over a file --------------------------------------------------------------------------------


def customers(rows: int, bad: set[int]) -> str:
    """A CSV file of customers, some of them without an amount."""
    lines = [f"{number},{'' if number in bad else number * 10}" for number in range(rows)]
    return "\n".join(["customer,amount", *lines])


class Ledger:
    """Books amounts, and counts how often it is asked to."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self._dies_at = dies_at

    def book(self, row: dict[str, str]) -> int:
        if len(self.calls) == self._dies_at:
            self._dies_at = None
            raise KeyboardInterrupt  # What ends the process, too.
        self.calls[row["customer"]] += 1
        return int(row["amount"])


def an_import(file: str, ledger: Ledger, tolerate: float = 10) -> Any:
    """A workflow that books a file of customers."""

    def read() -> list[dict[str, str]]:
        return list(csv.DictReader(StringIO(file)))

    @workflow(f"import-{next(_numbers)}")
    def import_customers(ctx: Context) -> tuple[int, list[str]]:
        rows = ctx.step("read", read)
        amounts = ctx.map("book", ledger.book, rows, concurrency=32, tolerate=tolerate, retry=ONCE)
        bad = [row["customer"] for row, amount in zip(rows, amounts, strict=True) if isinstance(amount, StepFailed)]
        return sum(amount for amount in amounts if not isinstance(amount, StepFailed)), bad

    return import_customers


_numbers = count()


@pytest.mark.once
def test_a_fan_out_over_a_file_tolerates_bad_rows() -> None:
    """Of 10,000 rows ten are bad: the others are booked, the bad ones are named."""
    bad = {7 + 1000 * place for place in range(10)}
    ledger = Ledger()
    flow = an_import(customers(10_000, bad), ledger)
    run_id = flow.start()
    run_until_idle()
    total = sum(number * 10 for number in range(10_000) if number not in bad)
    assert flow.status(run_id).result == (total, [str(number) for number in sorted(bad)])
    assert set(ledger.calls.values()) == {1}


def test_a_fan_out_that_was_killed_goes_on_where_it_was() -> None:
    """What was stored is not booked again."""
    ledger = Ledger(dies_at=1_000)
    flow = an_import(customers(2_000, {5}), ledger)
    run_id = flow.start()
    with pytest.raises(KeyboardInterrupt):
        run_until_idle()
    stored = flow.runs.get(id=run_id).records.filter(state="completed").count()
    assert stored > 900
    run_until_idle()
    assert flow.status(run_id).result == (sum(number * 10 for number in range(2_000) if number != 5), ["5"])
    assert sum(ledger.calls.values()) - 2_000 <= 1_000 - (stored - 1)


def test_one_bad_row_too_many_fails_the_fan_out() -> None:
    """With what the others have brought."""
    flow = an_import(customers(100, {1, 2}), Ledger(), tolerate=1)
    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert status.state == "failed"
    assert status.error is not None
    assert status.error["type"].endswith(MapFailed.__name__)


# -- a person, or a timeout -------------------------------------------------------------------------------


def decided_first(ctx: Context, order: int) -> str:
    """Ask for an approval; after two days go on without."""
    first, answer = ctx.race(
        manager=lambda own: own.wait_for("approval", "approval"),
        timeout=lambda own: own.sleep("two-days", timedelta(days=2)),
    )
    granted = first == "timeout" or answer == "yes"
    return ctx.step("settle", lambda: f"order {order} {'confirmed' if granted else 'rejected'} by {first}")


async def adecided_first(ctx: AsyncContext, order: int) -> str:
    """Do the same as an async workflow."""

    async def approval(own: AsyncContext) -> Any:
        return await own.wait_for("approval", "approval")

    async def two_days(own: AsyncContext) -> None:
        await own.sleep("two-days", timedelta(days=2))

    first, answer = await ctx.race(manager=approval, timeout=two_days)
    granted = first == "timeout" or answer == "yes"
    return await ctx.step("settle", lambda: f"order {order} {'confirmed' if granted else 'rejected'} by {first}")


@pytest.mark.parametrize("function", [decided_first, adecided_first])
def test_an_approval_races_a_timeout(function: Callable[..., Any]) -> None:
    """Who comes first decides, and what comes later changes nothing."""
    flow: Any = workflow(f"approval-{next(_numbers)}", function)
    answered, refused, silent = (flow.start(number) for number in range(3))
    advance(timedelta(days=1))
    flow.send(answered, "approval", "yes")
    flow.send(refused, "approval", "no")
    advance(timedelta(days=2))
    results = [flow.status(run_id).result for run_id in (answered, refused, silent)]
    assert results == [
        "order 0 confirmed by manager", "order 1 rejected by manager", "order 2 confirmed by timeout",
    ]  # fmt: skip
    assert not flow.runs.filter(timers__isnull=False).exists()


# -- many, and deep ---------------------------------------------------------------------------------------


@freeze_time("2026-03-01 12:00")
def test_a_thousand_branches_end_together() -> None:
    """Each sleeps and then does a step: those due at one moment go on in one activation, not in one for each."""

    @workflow(f"thousand-{next(_numbers)}")
    def thousand(ctx: Context) -> int:
        def branch(own: Context, number: int) -> int:
            own.sleep("nap", 60)
            return own.step("double", lambda: number * 2)

        branches = {f"b{number}": lambda own, number=number: branch(own, number) for number in range(1000)}
        return sum(ctx.gather(**branches).values())

    run_id = thousand.start()
    assert run_until_idle() == 1
    assert len(thousand.status(run_id).waits) == 1000
    assert advance(61) == 1
    assert thousand.status(run_id).result == 999_000


def test_branches_nest() -> None:
    """A gather of maps in a race: keys tell where each step was, and the loser's work stops nobody."""

    @workflow(f"nested-{next(_numbers)}")
    def nested(ctx: Context) -> Any:
        def both(own: Context) -> Any:
            return own.gather(
                small=lambda inner: inner.map("square", lambda n: n * n, [1, 2, 3]),
                large=lambda inner: inner.map("square", lambda n: n * n, [10, 20]),
            )

        return ctx.race(quick=both, slow=lambda own: own.sleep("hour", 3600))

    run_id = nested.start()
    run_until_idle()
    status = nested.status(run_id)
    assert status.result == ("quick", {"small": [1, 4, 9], "large": [100, 400]})
    names = set(nested.runs.get(id=run_id).records.filter(kind="step").values_list("name", flat=True))
    assert names == {f"quick/small/square[{i}]" for i in range(3)} | {f"quick/large/square[{i}]" for i in range(2)}
    assert not nested.runs.filter(id=run_id, timers__isnull=False).exists()
