"""Histories as JSON: what an export holds, that it replays as the run does, and what `REDACT` makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import override_settings
from freezegun import freeze_time

from canx_flow import Context, Retry, RunNotFound, StepFailed, workflow
from canx_flow.core import registry
from canx_flow.histories.exporting import export, written
from canx_flow.histories.history import NotAnExport
from canx_flow.testing import advance, replay, run_until_idle

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECRET = "4111-1111"
RUN_KEYS = [
    "id", "workflow", "version", "state", "reason", "generation", "seed", "scheduled_for", "fingerprint",
    "code_changed", "queue", "priority", "key", "attributes", "created_at", "started_at", "finished_at", "arguments",
    "result", "error",
]  # fmt: skip
RECORD_KEYS = ["seq", "name", "kind", "state", "attempts", "epoch", "started_at", "finished_at", "result", "errors"]


def declined(card: str) -> None:
    """Fail, and say too much."""
    raise ConnectionError(f"card {card} was declined")


@workflow("exported.order")
def order(ctx: Context, card: str, *, total: Decimal = Decimal("7.50")) -> dict[str, Any]:
    """Values of many types, a failure, and a wait."""
    due = ctx.step("due", date, 2026, 3, 1)
    items = ctx.step("items", tuple, ("tea", b"\x00", {1, 2}))
    try:
        ctx.step("charge", declined, card, retry=Retry(max_attempts=1))
    except StepFailed:
        ctx.patched("x")
    begun = ctx.now()
    approved = ctx.wait_for("approved", "approved")
    return {"due": due, "items": items, "total": total, "card": card, "approved": approved, "begun": begun}


def shortened(ctx: Context, card: str, *, total: Decimal) -> None:
    """Another code of that name, which also returns something else."""
    ctx.step("due", str, (card, total))


@pytest.fixture
def run_id() -> Iterator[UUID]:
    """A completed run."""
    with freeze_time(START):
        run_id = order.using(key="k", attributes={"plan": "pro"}).start(SECRET, total=Decimal("1.10"))
        run_until_idle()
        order.send(run_id, "approved", {"by": "ada", "card": SECRET})
        advance(HOUR)
        yield run_id


def hide(value: Any, **names: Any) -> Any:
    """Hide the card, wherever it stands."""
    if isinstance(value, dict):
        return {key: hide(each, **names) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide(each, **names) for each in value]
    return value.replace(SECRET, "****") if isinstance(value, str) else value


def break_down(value: Any, **names: Any) -> Any:
    """Hide nothing, because it does not come to that."""
    raise RuntimeError(names, value)


def test_an_export_holds_the_run_and_its_records_in_order(run_id: UUID) -> None:
    """With keys in a fixed order, values as they are stored, and the number of its form."""
    found = export(run_id)
    assert list(found) == ["schema", "run", "records"]
    assert found["schema"] == 1
    assert list(found["run"]) == RUN_KEYS
    assert {tuple(record) for record in found["records"]} == {tuple(RECORD_KEYS)}
    assert [record["name"] for record in found["records"]] == [
        "due", "items", "charge", "#patch:x", "#now", "approved",
    ]  # fmt: skip
    assert [record["seq"] for record in found["records"]] == [1, 2, 3, 4, 5, 6]
    assert found["run"]["arguments"] == [[SECRET], {"total": {"$decimal": "1.10"}}]
    assert found["run"]["attributes"] == {"plan": "pro"}
    assert found["records"][2]["errors"][0]["message"] == f"card {SECRET} was declined"


def test_a_second_export_of_an_ended_run_is_the_same_text(run_id: UUID) -> None:
    """So it may be compared with a file that is kept; it is ASCII, and ends with a newline."""
    with freeze_time(START + 9 * HOUR):
        text = written(export(run_id))
    assert text == written(export(run_id))
    assert text.isascii()
    assert text.endswith("}\n")


def test_an_export_replays_as_the_run_does(run_id: UUID, tmp_path: Path) -> None:
    """From a file, its path as text, or what it says; the database may be another one by then."""
    path = tmp_path / "order.json"
    path.write_text(written(export(run_id)))
    order.runs.all().delete()
    assert replay(path) == replay(str(path)) == replay(json.loads(path.read_text())) == []
    registry.forget("exported.order")
    try:
        workflow("exported.order", shortened)
        assert [(mismatch.why, mismatch.step) for mismatch in replay(path)] == [
            ("missing", "items"), ("missing", "charge"), ("missing", "approved"), ("result", ""),
        ]  # fmt: skip
    finally:
        registry.forget("exported.order")
        registry.add(order)


def test_redact_is_asked_for_everything_that_is_the_project_s(run_id: UUID) -> None:
    """What it makes of arguments, results, payloads and errors is exported; such a history still replays."""
    with override_settings(CANX_FLOW={"REDACT": f"{__name__}.hide"}):
        found = export(run_id)
    assert SECRET not in written(found)
    assert found["run"]["arguments"][0] == ["****"]
    assert found["records"][2]["errors"][0]["message"] == "card **** was declined"
    assert [record["result"] for record in found["records"]][3] is True
    assert replay(found) == []


def test_what_redact_cannot_look_at_is_hidden(run_id: UUID) -> None:
    """Nothing slips through because a function of the project's raises."""
    with override_settings(CANX_FLOW={"REDACT": f"{__name__}.break_down"}):
        found = export(run_id)
    assert SECRET not in written(found)
    assert found["run"]["arguments"] == found["records"][0]["result"] == "(hidden)"


def test_there_is_none_of_a_run_that_does_not_exist() -> None:
    """RunNotFound, as everywhere."""
    with pytest.raises(RunNotFound):
        export(uuid4())


@pytest.mark.once
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, 'has no "schema"'),
        ({"schema": 2}, "its schema is 2"),
        ({"schema": 1}, "KeyError"),
        ({"schema": 1, "run": [], "records": []}, "TypeError"),
        ({"schema": 1, "run": {"id": "x"}, "records": []}, "no export"),
    ],
)
def test_what_is_no_export_is_refused(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    """ValueError, with what is wrong; so is a file that is no JSON, or holds a list."""
    with pytest.raises(NotAnExport, match=said):
        replay(given)
    for text in ("", "{", "[1]", "7"):
        (tmp_path / "it.json").write_text(text)
        with pytest.raises(ValueError, match=r"no JSON|no export"):
            replay(tmp_path / "it.json")
