"""What users choose an engine by, written as they would write it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from canx_flow import Context, Retry, StepFailed, workflow
from canx_flow.core import registry
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db


@pytest.mark.once
def test_a_fan_out_over_a_csv_of_ten_thousand_rows_with_ten_bad_ones() -> None:
    """The bad rows are told, each by its line; the others are imported once each."""
    rows = [{"line": line, "mail": "" if line % 1000 == 7 else f"{line}@example.org"} for line in range(10_000)]
    imported: list[str] = []

    def read() -> list[dict[str, str]]:
        file = io.StringIO()
        writer = csv.DictWriter(file, ["line", "mail"])
        writer.writeheader()
        writer.writerows(rows)
        return list(csv.DictReader(io.StringIO(file.getvalue())))

    def import_row(row: dict[str, str]) -> int:
        if not row["mail"]:
            raise ValueError(f"line {row['line']} has no address")
        imported.append(row["mail"])
        return len(row["mail"])

    @workflow("like-users.import")
    def import_all(ctx: Context) -> dict[str, Any]:
        found = ctx.step("read", read)
        results = ctx.map("row", import_row, found, concurrency=32, tolerate=10, retry=Retry(max_attempts=1))
        bad = [result.errors[-1]["message"] for result in results if isinstance(result, StepFailed)]
        return {"imported": len(results) - len(bad), "bad": bad}

    run_id = import_all.start()
    run_until_idle()
    assert import_all.result(run_id) == {
        "imported": 9_990, "bad": [f"line {line} has no address" for line in range(7, 10_000, 1000)],
    }  # fmt: skip
    assert len(imported) == len(set(imported)) == 9_990
    assert StepRecord.objects.count() == 10_002
    registry.forget("like-users.import")


@pytest.mark.parametrize("answer", ["approved", None])
def test_a_human_approval_races_a_timeout(answer: str | None) -> None:
    """Whichever is first decides, once and for all."""

    @workflow("like-users.approval")
    def approval(ctx: Context, order_id: int) -> str:
        ctx.step("ask", str, order_id)
        first, value = ctx.race(
            answered=lambda own: own.wait_for("answer", "approval"),
            late=lambda own: own.sleep("limit", timedelta(hours=24)),
        )
        decision = str(value) if first == "answered" else "refused: nobody answered"
        ctx.step("tell", str, decision)
        ctx.sleep("archive", timedelta(days=30))
        return decision

    run_id = approval.start(7)
    advance(timedelta(hours=23))
    if answer is not None:
        approval.send(run_id, "approval", answer)
    advance(timedelta(hours=2))
    approval.send(run_id, "approval", "too late")
    advance(timedelta(days=30))
    assert approval.result(run_id) == (answer or "refused: nobody answered")
    registry.forget("like-users.approval")
