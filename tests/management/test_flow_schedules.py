"""`flow schedules` and `flow schedule`: what they print, what they do, and their exit statuses."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from canx_flow import Context, schedule, schedules, workflow
from canx_flow.core import clock
from canx_flow.core import schedules as declarations
from canx_flow.insight.health import Limits, examine
from canx_flow.models import Schedule, WorkflowRun
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db

BEGIN = datetime(2026, 3, 28, 12, tzinfo=UTC)


@workflow("flowschedules.note")
def note(ctx: Context, label: str) -> str:
    """Return what it was given."""
    return label


@workflow("flowschedules.long")
def long(ctx: Context) -> None:
    """Wait until it is told to end."""
    ctx.wait_for("end", "end")


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    clock.shift(BEGIN - clock.now())
    schedule("nightly", note, cron="30 2 * * *", tz="Europe/Berlin", args=("all",))
    schedule("poll", long, every=timedelta(hours=1))
    yield
    for name in ("nightly", "poll"):
        declarations.forget(name)


def _flow(*arguments: str) -> str:
    out = io.StringIO()
    call_command("flow", *arguments, stdout=out)
    return out.getvalue()


def _json(*arguments: str) -> Any:
    return json.loads(_flow(*arguments, "--json"))


def test_the_list_says_when_each_ticks_next_and_what_was_skipped() -> None:
    """Also before any worker has seen them; what was skipped is said below, with the run in the way."""
    assert "every 1 h" in _flow("schedules")
    run_until_idle()
    advance(timedelta(hours=3))
    row = Schedule.objects.get(name="poll")
    text = _flow("schedules")
    assert f"2 ticks were skipped: run {row.last_run_id} has not ended" in text
    schedules.pause("poll", "no", by="ann")
    assert "paused by ann" in _flow("schedules")
    found = {each["name"]: each for each in _json("schedules")}
    assert found["nightly"]["cron"] == "30 2 * * *"
    assert (found["poll"]["state"], found["poll"]["skipped"]) == ("paused", 2)
    assert (found["poll"]["skip_reason"], found["poll"]["skip_holder"]) == ("overlap", str(row.last_run_id))


def test_flowhealth_says_which_schedule_skips_and_why() -> None:
    """A warning, for a person to look at."""
    run_until_idle()
    assert not examine(Limits(min_workers=0), confirm=False).skipping
    advance(timedelta(hours=2))
    (said,) = [line for line in examine(Limits(min_workers=0), confirm=False).warnings if "schedule" in line]
    assert said.startswith("schedule 'poll': 1 tick was skipped: run ")


def test_show_says_what_the_clocks_do() -> None:
    """The next ten moments, in the schedule's zone, with notes where its clocks change."""
    text = _flow("schedule", "show", "nightly")
    assert "2026-03-29 03:00:00 CEST (The clocks skip the time right before this.)" in text
    assert "2026-03-30 02:30:00 CEST\n" in text
    assert 'flowschedules.note("all")' in text
    found = _json("schedule", "show", "nightly")
    assert len(found["upcoming"]) == 10
    assert found["upcoming"][0]["nominal"] == "2026-03-29T03:00:00+02:00"
    clock.shift(timedelta(days=210))
    assert "02:30:00 CEST (The clocks show this time twice: this is the first time.)" in _flow(
        "schedule", "show", "nightly"
    )


def test_pause_resume_and_trigger() -> None:
    """Each says what it did, and who did it is stored."""
    assert _flow("schedule", "pause", "nightly", "--reason", "audit") == "nightly  paused\n"
    assert _flow("schedule", "pause", "nightly") == "nightly  was paused before\n"
    row = Schedule.objects.get(name="nightly")
    assert row.note == "audit"
    assert row.paused_by.startswith("terminal:")
    assert "audit" in _flow("schedule", "show", "nightly")
    assert _json("schedule", "resume", "nightly") == {"schedule": "nightly", "changed": True}
    assert _flow("schedule", "resume", "nightly") == "nightly  was not paused\n"
    run_id = _json("schedule", "trigger", "nightly")["id"]
    run_until_idle()
    assert note.result(run_id) == "all"
    assert "started by schedule 'nightly'" in _flow("schedule", "trigger", "nightly")


def test_backfill_counts_first() -> None:
    """With --dry-run nothing is started; then the missing ticks are, once."""
    span = ("--from", "2026-03-20T00:00+00:00", "--to", "2026-03-25T00:00+00:00")
    assert _flow("schedule", "backfill", "nightly", *span, "--dry-run") == "nightly  5 ticks have no run\n"
    assert not WorkflowRun.objects.exists()
    assert len(_json("schedule", "backfill", "nightly", *span, "--priority", "-3")["ids"]) == 5
    assert set(WorkflowRun.objects.values_list("priority", flat=True)) == {-3}
    assert _flow("schedule", "backfill", "nightly", *span) == "nightly  0 runs started\n"


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (("show", "none"), "There is no schedule 'none'", 1),
        (("backfill", "nightly"), "backfill needs --from and --to", 2),
        (("backfill", "nightly", "--from", "soon", "--to", "later"), "--from must be a moment", 2),
        (("backfill", "nightly", "--from", "2026-03-20", "--to", "2027-03-20"), "End must not be in the future", 2),
        (("pause", "nightly", "--from", "2026-03-20"), "--from and --to are for backfill", 2),
        (
            ("backfill", "nightly", "--from", "2026-03-20", "--to", "2026-03-21", "--priority", "900"),
            "Priority must be",
            2,
        ),
    ],
)
def test_wrong_input_is_named(arguments: tuple[str, ...], said: str, status: int) -> None:
    """Exit status 2 for wrong arguments, 1 for a schedule that there is not."""
    with pytest.raises(CommandError, match=said) as refused:
        _flow("schedule", *arguments)
    assert refused.value.returncode == status
