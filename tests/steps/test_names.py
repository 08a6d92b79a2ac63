"""Names and keys of steps, and how many of one name follow each other."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from canx_flow import Context, current_step, send_event, workflow
from canx_flow.models import StepRecord
from canx_flow.testing import advance, run_until_idle

from .shared import HOUR, PlainTopic, Topic

pytestmark = pytest.mark.django_db


def test_c015_a_name_used_again_is_another_step(calls: list[int]) -> None:
    """One name used three times in a loop has three results, in order, also on replay."""
    seen: list[list[int]] = []

    def work(number: int) -> int:
        calls.append(number)
        return number * 10

    @workflow("steps.c015")
    def flow(ctx: Context) -> None:
        seen.append([ctx.step("work", work, number) for number in range(3)])
        ctx.sleep("nap", 60)

    run_id = flow.start()
    advance(60)
    assert seen == [[0, 10, 20], [0, 10, 20]]
    assert calls == [0, 1, 2]
    rows = StepRecord.objects.filter(run_id=run_id, kind="step").order_by("seq")
    assert list(rows.values_list("name", flat=True)) == ["work", "work#2", "work#3"]


def test_uses_of_a_name_are_counted_over_all_kinds() -> None:
    """A step, a sleep, a wait and a uuid of one name are its first, second, third and fourth use."""
    ids: list[UUID] = []

    @workflow("steps.kinds")
    def flow(ctx: Context) -> None:
        ctx.step("x", lambda: None)
        ctx.sleep("x", 60)
        ctx.wait_for("x", "news", timeout=60, default=None)
        ids.append(ctx.uuid("x"))
        ctx.step("x", lambda: None)

    run_id = flow.start()
    advance(200)
    rows = StepRecord.objects.filter(run_id=run_id).order_by("seq")
    assert list(rows.values_list("name", "kind")) == [
        ("x", "step"),
        ("x#2", "sleep"),
        ("x#3", "wait"),
        ("x#5", "step"),
    ]
    assert len(set(ids)) == 1


def test_names_and_keys_may_have_255_characters() -> None:
    """A name of 255 characters is a name on every database; so are event names, event keys, keys and dedup ids."""
    name = "é" * 255

    @workflow("steps.long")
    def flow(ctx: Context) -> Any:
        return ctx.step(name, lambda: current_step().name), ctx.wait_for("w" * 255, name, key=name)

    run_id = flow.using(key=name).start()
    assert flow.using(key=name).start() == run_id
    run_until_idle()
    assert send_event(name, 1, key=name, dedup_id=name)
    assert not send_event(name, 1, key=name, dedup_id=name)
    run_until_idle()
    assert flow.result(run_id) == (name, 1)


@pytest.mark.parametrize("kind", [Topic, PlainTopic])
def test_names_may_be_members_of_a_str_enum(kind: Any) -> None:
    """A member is the text it holds, as name of a step, event, key or dedup id, and as value of an attribute."""

    @workflow(f"steps.{kind.__name__}", queue=kind.PAID)
    def flow(ctx: Context) -> Any:
        ctx.step(kind.PAID, lambda: None)
        return ctx.wait_for("wait", kind.PAID, key=kind.PAID)

    run_id = flow.using(key=kind.PAID, attributes={"topic": kind.PAID}).start()
    run_until_idle()
    assert send_event(kind.PAID, 1, key=kind.PAID, dedup_id=kind.PAID)
    assert not send_event("paid", 1, key="paid", dedup_id="paid")
    assert flow.using(key="paid").start() == run_id
    run_until_idle()
    assert flow.result(run_id) == 1
    assert StepRecord.objects.get(run_id=run_id, kind="step").name == "paid"
    run = flow.runs.with_attributes(topic="paid").get()
    assert (run.id, run.queue) == (run_id, "paid")


def test_a_key_that_grows_too_long_is_refused() -> None:
    """The second use of a name of 254 characters would have a key of 256: ValueError, and nothing is stored of it."""
    name = "n" * 254

    @workflow("steps.too-long")
    def flow(ctx: Context) -> None:
        ctx.step(name, lambda: None)
        ctx.step(name, lambda: None)

    run_id = flow.start()
    run_until_idle()
    status = flow.status(run_id)
    assert (status.state, status.reason) == ("failed", "ValueError")
    assert "has 256 characters, at most 255 are allowed" in status.error["message"]  # type: ignore[index]
    assert StepRecord.objects.filter(run_id=run_id).count() == 1


ALIKE = ["Charge", "charge", "café", "cafe", "cafe\u0301", "ﬁn", "fin", "ß", "ss"]


def test_p14_names_of_steps_compare_byte_by_byte(calls: list[str]) -> None:
    """Names that differ in case, accents or composition are steps of their own on every database."""

    def work(label: str) -> str:
        calls.append(label)
        return label

    @workflow("steps.p14")
    def flow(ctx: Context) -> Any:
        results = [ctx.step(name, work, name) for name in ALIKE]
        ctx.sleep("nap", 60)
        return results

    run_id = flow.start()
    advance(60)
    assert flow.result(run_id) == calls == ALIKE
    rows = StepRecord.objects.filter(run_id=run_id, kind="step").order_by("seq")
    assert list(rows.values_list("name", flat=True)) == ALIKE


def test_p14_keys_of_runs_compare_byte_by_byte() -> None:
    """Each of the keys has a run of its own, found again by exactly that key."""

    @workflow("steps.p14-keys")
    def flow(ctx: Context) -> None:
        pass

    ids = [flow.using(key=key).start() for key in ALIKE]
    assert len(set(ids)) == len(ALIKE)
    assert [flow.using(key=key).start() for key in ALIKE] == ids


def test_p14_events_compare_byte_by_byte() -> None:
    """Names and keys of events, and their dedup ids, match exactly or not at all."""

    @workflow("steps.p14-events")
    def flow(ctx: Context, event: str, key: str | None) -> Any:
        return ctx.wait_for("wait", event, key=key, timeout=HOUR, default="nothing")

    by_name = [flow.start(name, None) for name in ALIKE]
    by_key = [flow.start("news", key) for key in ALIKE]
    directed = [flow.start(name, "key") for name in ALIKE]
    run_until_idle()
    for number, name in enumerate(ALIKE):
        assert send_event(name, number, dedup_id=name)
        assert send_event("news", number, key=name, dedup_id=name)
        assert flow.send(directed[number], ALIKE[number - 1], "wrong")
        assert flow.send(directed[number], name, number, dedup_id=name)
    run_until_idle()
    every = list(range(len(ALIKE)))
    assert [flow.status(run_id).result for run_id in by_name] == every
    assert [flow.status(run_id).result for run_id in by_key] == every
    assert [flow.status(run_id).result for run_id in directed] == every


def test_p14_workflows_compare_byte_by_byte() -> None:
    """Workflows that differ in case only have runs of their own."""
    flows = [workflow(f"steps.{name}", lambda _ctx, name=name: name) for name in ("Order", "order")]
    ids = [flow.start() for flow in flows]
    run_until_idle()
    assert [flow.result(run_id) for flow, run_id in zip(flows, ids, strict=True)] == ["Order", "order"]
    assert [run.id for run in flows[0].runs] == [ids[0]]
