"""`flowreplay` and `flow export`: what they print, write and exit with."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from freezegun import freeze_time

from canx_flow import Context, workflow
from canx_flow.core import registry
from canx_flow.testing import advance, run_until_idle

from ..processes import manage

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
NAME = "flowreplay.order"


def before(ctx: Context) -> None:
    """The code that has run."""
    ctx.step("charge", str)
    ctx.sleep("nap", HOUR)


def after(ctx: Context) -> None:
    """The code that is to be deployed."""
    ctx.step("charge the card", str)
    ctx.sleep("nap", HOUR)


@pytest.fixture(autouse=True)
def _nothing_deployed() -> Iterator[None]:
    """Each test deploys for itself."""
    yield
    for version in ("", "2"):
        registry.forget(NAME, version)


def deploy(body: Any, version: str = "") -> Any:
    """Today's code of this name."""
    registry.forget(NAME, version)
    return workflow(NAME, body, version=version)


def flowreplay(*words: str) -> tuple[int, str]:
    """The exit status, and what it prints."""
    out, status = io.StringIO(), 0
    try:
        call_command("flowreplay", *words, stdout=out, stderr=out)
    except SystemExit as ended:
        status = int(str(ended.code))
    return status, out.getvalue()


def as_json(*words: str) -> tuple[int, Any]:
    """The same, for programs."""
    status, text = flowreplay(*words, "--json")
    return status, json.loads(text)


def sleeping() -> UUID:
    """A run in its sleep."""
    run_id: UUID = deploy(before).start()
    run_until_idle()
    return run_id


def test_c130_it_exits_with_1_where_a_history_does_not_fit() -> None:
    """And names the run, its workflow, the step, what happened and what to do."""
    assert flowreplay() == (0, "0 runs replayed: all fit today's code.\n")
    run_id = sleeping()
    assert flowreplay() == (0, "1 run replayed: all fit today's code.\n")
    deploy(after)
    status, text = flowreplay()
    assert status == 1
    first, second, *message, last = text.splitlines()
    assert (first, second) == (f"{run_id}  {NAME}", "  new 'charge the card'")
    assert "If it is 'charge' renamed, give it its old name." in " ".join(" ".join(message).split())
    assert last == "1 of 1 run does not fit today's code."


def test_c130_for_programs_it_is_one_object() -> None:
    """With each mismatch, and how many runs were replayed; valid where there is none, too."""
    run_id = sleeping()
    assert as_json() == (0, {"mismatches": [], "histories": 1, "unfit": 0})
    deploy(after).start()
    status, found = as_json()
    [mismatch] = found.pop("mismatches")
    assert (status, found) == (1, {"histories": 2, "unfit": 1})
    assert list(mismatch) == ["run_id", "workflow", "why", "step", "message"]
    assert (mismatch["run_id"], mismatch["why"], mismatch["step"]) == (str(run_id), "new", "charge the card")


def test_the_database_s_histories_are_chosen_as_flow_list_chooses() -> None:
    """By workflow, or one version of it, state, start and number; the newest first."""
    with freeze_time(datetime(2026, 3, 1, 12, tzinfo=UTC)):
        sleeping()
        advance(HOUR)
    second = deploy(before, "2")
    for _ in range(2):
        second.start()
    run_until_idle()
    for words, number in {
        (): 3, ("--workflow", NAME): 3, ("--workflow", f"{NAME}@2"): 2, ("--workflow", f"{NAME}@"): 1,
        ("--workflow", "other"): 0, ("--state", "completed"): 1, ("--state", "completed", "--state", "sleeping"): 3,
        ("--since", "1h"): 2, ("--limit", "2"): 2,
        ("--workflow", f"{NAME}@2", "--state", "sleeping", "--limit", "1"): 1,
        ("--workflow", f"{NAME}@2", "--workflow", f"{NAME}@"): 3,
    }.items():  # fmt: skip
        assert as_json(*words)[1]["histories"] == number


def test_c130_exports_are_replayed_without_the_database_s(tmp_path: Path) -> None:
    """Files that `flow export` has written take the place of what is stored."""
    run_id, path = sleeping(), tmp_path / "order.json"
    out = io.StringIO()
    call_command("flow", "export", str(run_id), "--output", str(path), stdout=out)
    assert out.getvalue() == f"{run_id}  exported to {path}\n"
    out = io.StringIO()
    call_command("flow", "export", str(run_id)[:18], stdout=out)
    assert out.getvalue() == path.read_text()
    flow = deploy(after)
    flow.runs.all().delete()
    flow.start()
    assert flowreplay()[0] == 0
    status, found = as_json(str(path), str(path))
    assert (status, found["histories"], found["unfit"]) == (1, 2, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.json"], "missing.json cannot be read"),
        (["missing.json", "--limit", "7"], "--limit chooses from the database"),
        (["--limit", "0"], "--limit must be from 1"),
        (["--since", "yesterday"], "--since must be a moment"),
        (["--state", "asleep"], "invalid choice"),
    ],
)
def test_wrong_arguments_are_named(words: list[str], said: str) -> None:
    """And nothing is replayed."""
    with pytest.raises(CommandError, match=said):
        call_command("flowreplay", *words)


@pytest.mark.once
def test_a_file_that_is_no_export_exits_with_2(tmp_path: Path) -> None:
    """One line, without a traceback; and one that cannot be written with 1."""
    path = tmp_path / "it.json"
    path.write_text('{"schema": 99}')
    ended = manage("flowreplay", str(path))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "its schema is 99" in ended.stderr
    assert "Traceback" not in ended.stderr
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("flow", "export", str(sleeping()), "--output", str(tmp_path / "no" / "such" / "folder.json"))
