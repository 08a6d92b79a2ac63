"""What ends waits of runs under way is found among any number of events for others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from canx_flow import Context, send_event, workflow
from canx_flow.core import clock
from canx_flow.core.changes import Wait
from canx_flow.models import Event
from canx_flow.states import Kind
from canx_flow.store import wait_ends

pytestmark = pytest.mark.django_db

_MANY = 1100


@workflow("wait-ends.reads")
def reads(ctx: Context) -> Any:
    """Wait for news."""
    return ctx.wait_for("read", "news")


def _wait(step: str, key: str | None = None) -> Wait:
    return Wait(step, Kind.WAIT, event="news", key=key)


def _told(waits: dict[UUID, Sequence[Wait]]) -> dict[UUID, list[str]]:
    """The steps whose waits have ended, of each run."""
    found = wait_ends.ended("default", waits)
    return {run_id: sorted({end.wait.step for end in ends}) for run_id, ends in found.items()}


def _crowd(key: str | None = None, run_id: UUID | None = None) -> None:
    Event.objects.bulk_create([Event(run_id=run_id, name="news", key=key, payload="null") for _ in range(_MANY)])


@pytest.mark.parametrize("key", ["mine", None])
def test_broadcasts_of_other_keys_hide_none(key: str | None) -> None:
    """Whatever was sent before it, with a key that nobody waits for, or that another branch waits for."""
    run_id, other = reads.start(), reads.start()
    Event.objects.bulk_create([Event(name="news", key=f"other {number}", payload="null") for number in range(_MANY)])
    _crowd("loud")
    send_event("news", key=key)
    assert _told({run_id: [_wait("a", key)], other: [_wait("b", "loud"), _wait("c", "silent")]}) == {
        run_id: ["a"], other: ["b"],
    }  # fmt: skip


def test_of_broadcasts_that_are_alike_the_last_is_among_those_that_are_found() -> None:
    """The run may have read those before it."""
    run_id = reads.start()
    _crowd("loud")
    send_event("news", key="loud")
    last = Event.objects.order_by("-id")[0].id
    assert last in [end.event_id for end in wait_ends.ended("default", {run_id: [_wait("a", "loud")]})[run_id]]


def test_unread_events_of_one_run_hide_none_of_another() -> None:
    """Nor what was sent under another name; of those that are alike the first is found, which ends the wait."""
    full, run_id = reads.start(), reads.start()
    _crowd(run_id=full)
    Event.objects.bulk_create([Event(run_id=run_id, name="other", payload="null") for _ in range(_MANY)])
    reads.send(run_id, "news")
    first = Event.objects.order_by("id")[0].id
    ends = wait_ends.ended("default", {full: [_wait("a")], run_id: [_wait("b"), Wait("c", Kind.WAIT, event="other")]})
    assert first in [end.event_id for end in ends[full]]
    assert {end.wait.step for end in ends[run_id]} == {"b", "c"}


def test_a_broadcast_of_some_time_ago_is_not_told_of() -> None:
    """Whoever waits has looked for it himself."""
    run_id = reads.start()
    send_event("news")
    Event.objects.update(created_at=clock.now() - timedelta(hours=1))
    assert _told({run_id: [_wait("a")]}) == {}
