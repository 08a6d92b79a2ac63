"""What users choose an engine by, written as they would write it: an order that is undone, a file of ten thousand rows
with ten bad ones, an approval that comes in time or does not. Each as a `def` and as an `async def` workflow.
"""

from __future__ import annotations

import csv
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from canx_flow import AsyncContext, Context, GiveUp, MapFailed, Retry, RunFailed, StepFailed, workflow
from canx_flow.models import StepRecord, WorkflowRun
from canx_flow.testing import advance, run_until_idle
from canx_flow.workflows import Workflow

pytestmark = pytest.mark.django_db

ONCE = Retry(max_attempts=1)

#: What the companies outside were asked for, in order.
asked: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    asked.clear()


# -- an order that is undone -----------------------------------------------------------------------


def reserve(order_id: int) -> str:
    """Set the order's things aside."""
    asked.append("reserve")
    return f"shelf of {order_id}"


def authorise(order_id: int) -> str:
    """Ask the bank."""
    asked.append("authorise")
    return f"authorisation of {order_id}"


def charge(order_id: int) -> str:
    """Take the money."""
    asked.append("charge")
    return f"receipt of {order_id}"


def undo(what: str) -> None:
    """Give back what a step returned; the first time the card's company is asked, it does not answer."""
    asked.append(f"undo {what}")
    if what.startswith("receipt") and asked.count(asked[-1]) == 1:
        raise ConnectionError("the line is dead")


def hand_over(order_id: int) -> str:
    """Give the parcel to the carrier, who does not know every address."""
    if order_id == 13:
        raise GiveUp("there is no such address")
    return f"parcel of {order_id}"


@workflow("like-users.shipment")
def ship(ctx: Context, order_id: int) -> str:
    """Send one parcel."""
    return ctx.step("hand-over", hand_over, order_id)


@workflow("like-users.shipment-async")
async def ship_async(ctx: AsyncContext, order_id: int) -> str:
    """Send one parcel."""
    return await ctx.step("hand-over", hand_over, order_id)


@workflow("like-users.order")
def order(ctx: Context, order_id: int) -> str:
    """Do two things at once, then two in turn, the last one as a run of its own."""
    ctx.gather(
        stock=lambda own: own.step("reserve", reserve, order_id, compensate=undo),
        card=lambda own: own.step("authorise", authorise, order_id, compensate=undo),
    )
    ctx.step("charge", charge, order_id, compensate=undo)
    return ctx.call("shipment", ship, order_id)


@workflow("like-users.order-async")
async def order_async(ctx: AsyncContext, order_id: int) -> str:
    """Do the same in an `async def`."""
    await ctx.gather(
        stock=lambda own: own.step("reserve", reserve, order_id, compensate=undo),
        card=lambda own: own.step("authorise", authorise, order_id, compensate=undo),
    )
    await ctx.step("charge", charge, order_id, compensate=undo)
    return await ctx.call("shipment", ship_async, order_id)


@pytest.mark.parametrize("flow", [order, order_async], ids=["sync", "async"])
def test_an_order_that_cannot_be_shipped_is_undone_newest_first(flow: Workflow[[int], str]) -> None:
    """Each is done once; what is undone is what was done, once, though the first undo needs a second attempt."""
    good = flow.start(7)
    run_until_idle()
    assert flow.result(good) == "parcel of 7"
    assert Counter(asked) == {"reserve": 1, "authorise": 1, "charge": 1}

    asked.clear()
    bad = flow.start(13)
    advance(timedelta(minutes=1))

    assert Counter(asked[:2]) == {"reserve": 1, "authorise": 1}
    assert asked[2:5] == ["charge", "undo receipt of 13", "undo receipt of 13"]
    assert asked[5:] == [f"undo {result}" for result in in_reverse(bad)]
    with pytest.raises(RunFailed, match="there is no such address") as failed:
        flow.result(bad)
    assert failed.value.is_a(RunFailed)
    assert flow.status(bad).reason == "RunFailed"
    assert WorkflowRun.objects.filter(parent_id=bad).count() == 1


def in_reverse(run_id: Any) -> list[str]:
    """Return the results of the two branches, the one stored last first."""
    names = StepRecord.objects.filter(run_id=run_id, kind="step", name__contains="/").order_by("-seq")
    results = {"stock/reserve": "shelf of 13", "card/authorise": "authorisation of 13"}
    return [results[name] for name in names.values_list("name", flat=True)]


# -- ten thousand rows, ten bad ones ---------------------------------------------------------------


def read(path: str) -> list[dict[str, str]]:
    """Read the file once: every replay sees the same rows."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def import_row(row: dict[str, str]) -> int:
    """Import one row, if it has an address."""
    if not row["mail"]:
        raise ValueError(f"line {row['line']} has no address")
    asked.append(row["mail"])
    memory.append(held())
    return len(row["mail"])


#: Bytes that the process held at each row.
memory: list[int] = []


def held() -> int:
    """Return how much memory this process holds; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def told(results: list[Any]) -> dict[str, Any]:
    """Say what became of the rows."""
    bad = [result.errors[-1]["message"] for result in results if isinstance(result, StepFailed)]
    return {"imported": len(results) - len(bad), "bad": bad}


@workflow("like-users.import")
def import_all(ctx: Context, path: str, tolerate: int) -> dict[str, Any]:
    """Import all rows, whatever is wrong with a few."""
    rows = ctx.step("read", read, path)
    return told(ctx.map("row", import_row, rows, concurrency=32, tolerate=tolerate, retry=ONCE))


@workflow("like-users.import-async")
async def import_all_async(ctx: AsyncContext, path: str, tolerate: int) -> dict[str, Any]:
    """Do the same in an `async def`."""
    rows = await ctx.step("read", read, path)
    return told(await ctx.map("row", import_row, rows, concurrency=32, tolerate=tolerate, retry=ONCE))


def written(path: Path, rows: int, bad: int) -> list[str]:
    """Write a file of so many rows, so many of them bad; return what is wrong with these."""
    every = rows // bad
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["line", "mail"])
        writer.writerows((line, "" if line % every == 7 else f"{line}@example.org") for line in range(rows))
    return [f"line {line} has no address" for line in range(7, rows, every)]


@pytest.mark.parametrize(
    ("flow", "rows"),
    [
        pytest.param(import_all, 10_000, id="sync", marks=pytest.mark.once),
        pytest.param(import_all, 500, id="sync-every-database"),
        pytest.param(import_all_async, 500, id="async-every-database"),
    ],
)
def test_a_file_of_ten_thousand_rows_is_imported_but_for_the_ten_bad_ones(
    flow: Workflow[[str, int], Any], rows: int, tmp_path: Path
) -> None:
    """The bad rows are told, each by its line; the others are imported once each; memory does not grow with them."""
    memory[:] = [held()]
    bad = written(tmp_path / "guests.csv", rows, 10)

    run_id = flow.start(str(tmp_path / "guests.csv"), 10)
    run_until_idle()

    assert flow.result(run_id) == {"imported": rows - 10, "bad": bad}
    assert len(asked) == len(set(asked)) == rows - 10
    assert StepRecord.objects.count() == rows + 2
    assert max(memory) - memory[0] < 40_000_000


@pytest.mark.parametrize("flow", [import_all, import_all_async], ids=["sync", "async"])
def test_one_bad_row_too_many_ends_the_import_and_a_retry_imports_the_rest(
    flow: Workflow[[str, int], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`MapFailed` names what was tolerated; once the rows are mended, only those are called that were not stored."""
    written(tmp_path / "guests.csv", 100, 10)
    run_id = flow.start(str(tmp_path / "guests.csv"), 9)
    run_until_idle()
    assert flow.status(run_id).reason == MapFailed.__name__

    monkeypatch.setitem(globals(), "import_row", lambda row: asked.append(row["line"]))
    assert flow.retry(run_id)
    run_until_idle()

    assert flow.result(run_id) == {"imported": 100, "bad": []}
    assert len(asked) == len(set(asked)) == 100


# -- a person against the clock --------------------------------------------------------------------


def tell(decision: str) -> None:
    """Send a mail."""
    asked.append(decision)


@workflow("like-users.approval")
def approval(ctx: Context, order_id: int) -> str:
    """Wait for the answer, a day at most."""
    ctx.step("ask", tell, f"please decide on {order_id}")
    first, answer = ctx.race(
        answered=lambda own: own.wait_for("answer", "approval"),
        late=lambda own: own.sleep("limit", timedelta(hours=24)),
    )
    decision = str(answer) if first == "answered" else "refused: nobody answered"
    ctx.step("tell", tell, decision)
    ctx.sleep("archive", timedelta(days=30))
    return decision


@workflow("like-users.approval-async")
async def approval_async(ctx: AsyncContext, order_id: int) -> str:
    """Do the same in an `async def`."""
    await ctx.step("ask", tell, f"please decide on {order_id}")
    first, answer = await ctx.race(
        answered=lambda own: own.wait_for("answer", "approval"),
        late=lambda own: own.sleep("limit", timedelta(hours=24)),
    )
    decision = str(answer) if first == "answered" else "refused: nobody answered"
    await ctx.step("tell", tell, decision)
    await ctx.sleep("archive", timedelta(days=30))
    return decision


@pytest.mark.parametrize("answer", ["approved", None], ids=["answered", "silent"])
@pytest.mark.parametrize("flow", [approval, approval_async], ids=["sync", "async"])
def test_an_approval_races_the_clock(flow: Workflow[[int], str], answer: str | None) -> None:
    """Whichever is first decides, once and for all: an answer that comes later changes nothing on any replay."""
    run_id = flow.start(7)
    advance(timedelta(hours=23))
    assert asked == ["please decide on 7"]
    if answer is not None:
        flow.send(run_id, "approval", answer)
    advance(timedelta(hours=2))
    flow.send(run_id, "approval", "too late")
    advance(timedelta(days=30))

    decision = answer or "refused: nobody answered"
    assert flow.result(run_id) == decision
    assert asked == ["please decide on 7", decision]
