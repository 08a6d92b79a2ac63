"""Runs that have failed alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from canx_flow import Context, Retry, workflow
from canx_flow.insight import alike
from canx_flow.insight.alike import Group
from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def fail(kind: str, said: str) -> None:
    """A step that never succeeds."""
    raise {"value": ValueError, "key": KeyError, "type": TypeError}[kind](said)


@workflow("alike.fails")
def fails(ctx: Context, kind: str, said: str) -> None:
    """Fails in a step."""
    ctx.step("charge", fail, kind, said, retry=Retry(max_attempts=1))


@workflow("alike.also-fails")
def also_fails(_ctx: Context, kind: str, said: str) -> None:
    """Fails in its body."""
    fail(kind, said)


def failed(kind: str, said: str, flow: object = fails) -> UUID:
    """A run that has failed so."""
    run_id: UUID = flow.start(kind, said)  # type: ignore[attr-defined]
    run_until_idle()
    return run_id


def groups(*, by_type: bool = False, concealed: bool = False, most: int = 10) -> list[Group]:
    """What there is now."""
    return alike.groups("default", alike.newest("default"), most, by_type=by_type, concealed=concealed)


def test_those_that_differ_in_numbers_and_quoted_text_failed_alike() -> None:
    """The largest group first; each has what its messages have in common, and the newest of its runs as an example."""
    first, other, last = failed("value", "card 17 of 'ada'"), failed("key", "x"), failed("value", "card 18 of 'bob'")
    found = groups()
    assert [(group.type, group.pattern, group.number) for group in found] == [
        ("ValueError", "card … of …", 2), ("KeyError", "…", 1),
    ]  # fmt: skip
    assert [run.id for run in found[0].runs] == [last, first]
    assert found[0].example.id == last
    assert found[1].example.id == other


def test_a_group_says_when_and_where() -> None:
    """The first and the last failure; the workflows, the most frequent first; the step of its example."""
    with freeze_time(START) as clock:
        failed("value", "no", also_fails)
        clock.tick(timedelta(hours=1))
        failed("value", "no"), failed("value", "no")
    [group] = groups()
    assert (group.moments[0], group.moments[-1]) == (START, START + timedelta(hours=1))
    assert group.workflows == ["alike.fails", "alike.also-fails"]
    assert group.error is not None
    assert group.error.step == "charge"


def test_by_type_it_does_not_matter_what_they_say() -> None:
    """And nothing of it is told."""
    failed("value", "one"), failed("value", "two")
    [group] = groups(by_type=True, concealed=True)
    assert (group.type, group.fingerprint, group.number, group.pattern) == ("ValueError", None, 2, "")
    assert group.error is not None
    assert "two" not in group.error.message


def test_all_that_failed_alike_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that were not looked at, up to a limit; of a group that is not whole the first is not known."""
    for _ in range(4):
        failed("value", "no")
    monkeypatch.setattr(alike, "MOST_RUNS", 2)
    [group] = groups()
    assert (group.number, len(group.runs), group.is_whole) == (4, 2, False)
    monkeypatch.setattr(alike, "MOST_COUNTED", 2)
    assert [group.number for group in groups()] == [3]


def test_those_that_are_failed_no_longer_are_not_counted() -> None:
    """One that was retried goes on; one that waits for a retry has not failed."""
    run_id = failed("value", "no")
    failed("value", "no")
    fails.retry(run_id)
    [group] = groups()
    assert group.number == 1


def test_what_was_damaged_is_a_group_of_its_own() -> None:
    """Nothing is known of it, and nothing breaks."""
    run_id = failed("value", "no")
    WorkflowRun.objects.filter(id=run_id).update(error="{", error_type=None, error_print=None)
    [group] = groups()
    assert (group.type, group.number, group.example.id) == (None, 1, run_id)


def test_the_number_of_queries_does_not_grow() -> None:
    """With the runs or the groups."""
    counts = []
    for kinds in (("value",), ("value", "key", "type")):
        for kind in kinds:
            failed(kind, "no"), failed(kind, "no")
        with CaptureQueriesContext(connection) as captured:
            groups()
        counts.append(len(captured))
    assert counts == [3, 3]


def test_the_smallest_groups_are_left_out() -> None:
    """Of more than are asked for, which can be counted."""
    failed("value", "no"), failed("value", "no"), failed("key", "no")
    assert [group.type for group in groups(most=1)] == ["ValueError"]
    assert alike.kinds(alike.newest("default"), by_type=False) == 2
