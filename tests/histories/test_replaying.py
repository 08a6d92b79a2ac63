"""Histories replayed against today's code: what fits, what does not, and that nothing else happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.serializers import serialize
from django.db import connection
from django.test.utils import CaptureQueriesContext

from canx_flow import Retry, StepFailed, WaitTimeout, get_run, signals, workflow
from canx_flow.core import registry
from canx_flow.histories import stored
from canx_flow.histories.exporting import export
from canx_flow.models import Event, StepRecord, Timer, Worker, WorkflowRun
from canx_flow.testing import advance, replay, run_until_idle
from canx_flow.workflows import Workflow

from ..kinds import Body, each_kind, plain

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
ONCE = Retry(max_attempts=1)
NAME = "replayed.deployed"
Kind = Callable[[Body], Callable[..., Any]]


def deploy(kind: Kind, body: Body, version: str = "") -> Workflow[..., Any]:
    """Today's code of this name, whatever was there before."""
    registry.forget(NAME, version)
    return workflow(NAME, kind(body), version=version)


@pytest.fixture(autouse=True)
def _nothing_deployed() -> Iterator[None]:
    """Each test deploys for itself."""
    yield
    registry.forget(NAME)


@dataclass
class Parcel:
    """What steps return: a type of the project's own."""

    weight: int


def called(calls: list[str], name: str, value: Any = None) -> Any:
    """What every step here does."""
    calls.append(name)
    return value


def fails() -> None:
    """What a step does that has failed."""
    raise ConnectionError("away")


def part(run_id: UUID) -> list[tuple[str, str]]:
    """Where the run's history and today's code part: why, and at which step."""
    return [(mismatch.why, mismatch.step) for mismatch in replay(export(run_id))]


async def journey(ctx: Any, what: str = "") -> Any:
    """Something of everything, and then to stay in the state that is asked for."""
    parcel = await ctx.step("pack", Parcel, 3)
    for number in range(3):
        await ctx.step("load", str, number)
    ctx.log.info("loaded at %s with %s", ctx.now(), ctx.uuid("it"))
    try:
        await ctx.step("unreachable", fails, retry=ONCE)
    except StepFailed as error:
        ctx.set_attributes(away=error.is_a(ConnectionError))
    note = await ctx.wait_for("note", "note", timeout=0, default="none")
    try:
        await ctx.wait_for("never", "never", timeout=0)
    except WaitTimeout:
        ctx.set_attributes(timed_out=True)
    await ctx.sleep("a moment", 0)
    if ctx.patched("heavier"):
        await ctx.step("weigh", str, parcel.weight)
    match what:
        case "sleeping":
            await ctx.sleep("nap", HOUR)
        case "waiting":
            await ctx.wait_for("answer", "answered")
        case "retrying":
            await ctx.step("again", fails)
        case "failed":
            await ctx.step("once", fails, retry=ONCE)
        case "raised":
            raise ValueError(f"{parcel.weight} is too heavy")
    return {"parcel": parcel, "note": note, "chance": ctx.random.random(), "tags": {"b", "a"}}


@each_kind
@pytest.mark.parametrize("what", ["", "sleeping", "waiting", "retrying", "failed", "raised"])
def test_what_has_not_changed_fits(kind: Kind, what: str) -> None:
    """Whatever state a run is in, and whatever was made of it from outside."""
    flow = deploy(kind, journey)
    run_id = flow.start(what)
    run_until_idle()
    assert get_run(run_id).state == (what.replace("raised", "failed") or "completed")
    assert part(run_id) == []
    if flow.pause(run_id):
        assert part(run_id) == []
        flow.cancel(run_id)
        assert part(run_id) == []


@each_kind
def test_a_run_that_was_never_claimed_fits(kind: Kind) -> None:
    """Its history ends before it begins."""
    assert part(deploy(kind, journey).start()) == []


@each_kind
def test_forks_and_generations_fit(kind: Kind) -> None:
    """A fork replays with the ids and the chance of the run that it is of, a generation with its own."""

    async def body(ctx: Any, turn: int) -> str:
        await ctx.step(f"{ctx.uuid('it')} {ctx.random.random()}", str)
        await ctx.sleep("nap", HOUR)
        await ctx.step(f"{ctx.uuid('it')} {ctx.random.random()}", str)
        if turn:
            ctx.continue_as_new(turn - 1)
        return "done"

    flow = deploy(kind, body)
    run_id = flow.start(1)
    run_until_idle()
    advance(HOUR)
    fork = flow.fork(run_id, "nap")
    run_until_idle()
    for _ in range(3):
        assert [part(run_id), part(fork)] == [[], []]
        advance(HOUR)
    assert [get_run(run_id).state, get_run(fork).state] == ["completed", "completed"]
    assert [get_run(run_id).generation, get_run(fork).generation] == [1, 1]


# -- what does not fit -------------------------------------------------------------------------------


async def old(ctx: Any) -> str:
    """The code that the runs below are of."""
    parcel = await ctx.step("pack", Parcel, 3)
    await ctx.step("weigh", str, parcel.weight)
    await ctx.sleep("nap", HOUR)
    return str(await ctx.step("ship", str, "shipped"))


async def renamed(ctx: Any) -> str:
    """`pack` under another name."""
    await ctx.step("pack it", Parcel, 3)
    await ctx.step("weigh", str, 3)
    await ctx.sleep("nap", HOUR)
    return str(await ctx.step("ship", str, "shipped"))


async def removed(ctx: Any) -> str:
    """Without `weigh`."""
    await ctx.step("pack", Parcel, 3)
    await ctx.sleep("nap", HOUR)
    return str(await ctx.step("ship", str, "shipped"))


async def inserted(ctx: Any) -> str:
    """With a step in the midst."""
    await ctx.step("pack", Parcel, 3)
    await ctx.step("weigh", str, 3)
    await ctx.step("label", str)
    await ctx.sleep("nap", HOUR)
    return str(await ctx.step("ship", str, "shipped"))


async def guarded(ctx: Any) -> str:
    """With the same step behind `patched`."""
    await ctx.step("pack", Parcel, 3)
    await ctx.step("weigh", str, 3)
    if ctx.patched("label"):
        await ctx.step("label", str)
    await ctx.sleep("nap", HOUR)
    return str(await ctx.step("ship", str, "shipped"))


async def appended(ctx: Any) -> str:
    """With a step at its end."""
    shipped = await old(ctx)
    await ctx.step("thank", str)
    return shipped


async def another_kind(ctx: Any) -> str:
    """With a sleep where a step was."""
    await ctx.sleep("pack", 1)
    return await old(ctx)


async def raising(ctx: Any) -> str:
    """With a fault."""
    parcel = await ctx.step("pack", Parcel, 3)
    return str(parcel.size)


async def returning(ctx: Any) -> str:
    """With another result."""
    return f"{await old(ctx)}!"


async def swapped(ctx: Any) -> str:
    """In another order."""
    await ctx.step("weigh", str, 3)
    await ctx.step("pack", Parcel, 3)
    await ctx.sleep("nap", HOUR)
    return str(await ctx.step("ship", str, "shipped"))


async def needing(ctx: Any, order: int) -> str:
    """With an argument more."""
    return f"{order} {await old(ctx)}"


CHANGES = {
    #                 a run that sleeps          one that has completed
    "the same": (old, [], []),
    "renamed": (renamed, [("new", "pack it")], [("new", "pack it")]),
    "removed": (removed, [("missing", "weigh")], [("missing", "weigh")]),
    "inserted": (inserted, [("new", "label")], [("new", "label")]),
    "guarded": (guarded, [], []),
    "appended": (appended, [], [("new", "thank")]),
    "another kind": (another_kind, [("kind", "pack")], [("kind", "pack")]),
    "raising": (raising, [("raised", "")], [("raised", "")]),
    "returning": (returning, [], [("result", "")]),
    "in another order": (swapped, [], []),
    "needing": (needing, [("arguments", "")], [("arguments", "")]),
}


@each_kind
@pytest.mark.parametrize("how", CHANGES)
def test_c130_each_change_is_listed_at_its_step(kind: Kind, how: str) -> None:
    """For a run under way what its worker would do, for one that has completed what would be done that it has not."""
    flow = deploy(kind, old)
    completed = flow.start()
    advance(HOUR)
    sleeping = flow.start()
    run_until_idle()
    changed, of_sleeping, of_completed = CHANGES[how]
    deploy(kind, changed)
    assert part(sleeping) == of_sleeping
    assert part(completed) == of_completed


@each_kind
def test_each_says_what_happened_and_what_to_do(kind: Kind) -> None:
    """With the run's id, the step, and the way out."""
    run_id = deploy(kind, old).start()
    advance(HOUR)
    said = {}
    for how in ("renamed", "removed", "another kind", "raising", "returning", "needing"):
        deploy(kind, CHANGES[how][0])
        [mismatch] = replay(export(run_id))
        assert mismatch.run_id == str(run_id)
        assert str(run_id) in str(mismatch)
        said[how] = mismatch.message
    assert "If it is 'pack' renamed, give it its old name" in said["renamed"]
    assert "ctx.patched" in said["renamed"]
    assert "is ignored" in said["removed"]
    assert "a step recorded under 'pack', but its code now makes a sleep" in said["another kind"]
    assert "AttributeError" in said["raising"]
    assert "'shipped!'" in said["returning"].replace('"', "'")
    assert "order" in said["needing"]


@pytest.mark.once
def test_a_workflow_that_is_gone_is_listed() -> None:
    """Its runs would be parked."""
    run_id = deploy(plain, old).start()
    registry.forget(NAME)
    assert part(run_id) == [("unknown", "")]


@pytest.mark.once
def test_a_value_that_no_longer_decodes_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result whose class is gone, and arguments: where the body reads them."""
    flow = deploy(plain, old)
    run_id = flow.start()
    run_until_idle()
    StepRecord.objects.filter(run_id=run_id, name="pack").update(result='{"$gone":1}')
    assert part(run_id) == [("decoding", "pack")]
    WorkflowRun.objects.filter(id=run_id).update(arguments='[[{"$gone":1}],{}]')
    assert part(run_id) == [("decoding", "")]


@each_kind
def test_a_failure_that_is_mended_fits_and_another_one_does_not(kind: Kind) -> None:
    """A failed run whose code now goes on may be retried; one that fails with another error is listed."""
    fault: list[type[Exception]] = [ValueError]

    async def body(ctx: Any) -> None:
        await ctx.step("first", str)
        if fault:
            raise fault[0]
        await ctx.step("second", str)

    run_id = deploy(kind, body).start()
    run_until_idle()
    assert part(run_id) == []
    fault[0] = KeyError
    assert part(run_id) == [("raised", "")]
    fault.clear()
    assert part(run_id) == []


# -- and nothing else ---------------------------------------------------------------------------------


def everything() -> str:
    """All that is stored."""
    models = (WorkflowRun, StepRecord, Timer, Event, Worker)
    return "\n".join(serialize("json", model.objects.order_by("pk")) for model in models)


@each_kind
def test_c130_a_replay_has_no_side_effects(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """No step is called, nothing is read or written, no signal is sent, and the body's log is silent: behind the end
    of the history, too, and whatever does not fit."""
    calls: list[str] = []
    heard: list[Any] = []

    async def body(ctx: Any) -> None:
        await ctx.step("first", called, calls, "first")
        await ctx.step("atomic", called, calls, "atomic", atomic=True)
        await ctx.step("flaky", fails, retry=Retry(initial=3600))

    async def after(ctx: Any) -> None:
        await ctx.step("first", called, calls, "first")
        ctx.log.info("first")
        ctx.progress(1)
        ctx.set_attributes(new=True)
        ctx.now()
        for how in changed:
            ctx.log.info("then %s", how)
            await ctx.step(how, called, calls, how, **changed[how])

    flow = deploy(kind, body)
    run_id = flow.start()
    run_until_idle()
    history, before = export(run_id), everything()
    calls.clear()
    caplog.clear()

    def hear(**kwargs: Any) -> None:
        heard.append(kwargs)

    changed: dict[str, dict[str, Any]] = {}
    deploy(kind, after)
    for signal in signals.ALL:
        signal.connect(hear, weak=False)
    try:
        with caplog.at_level(logging.DEBUG), CaptureQueriesContext(connection) as queries:
            for options in ({}, {"atomic": True}, {"at_most_once": True}, {"timeout": 1}):
                changed = {"atomic": {}, "new": options}
                assert [mismatch.why for mismatch in replay(history)] == ["new"]
    finally:
        for signal in signals.ALL:
            signal.disconnect(hear)
    assert (calls, heard, list(queries)) == ([], [], [])
    assert [record.name for record in caplog.records if record.name.startswith("canx_flow")] == []
    assert everything() == before


@each_kind
def test_c130_a_hundred_histories_are_checked_against_changed_code(kind: Kind) -> None:
    """Of all that is stored, those are listed that the change does not fit."""
    flow = deploy(kind, old)
    flow.start_many([()] * 60)
    advance(HOUR)
    flow.start_many([()] * 40)
    run_until_idle()
    deploy(kind, appended)
    found = {history.run_id: part(history.run_id) for history in stored.histories("default", [flow.runs])}
    assert len(found) == 100
    unfit = {run_id for run_id, parted in found.items() if parted}
    assert unfit == set(flow.runs.states("completed").values_list("id", flat=True))
    assert len(unfit) == 60


def test_histories_are_read_a_few_at_a_time() -> None:
    """However many there are: the first is there after three queries more than the ids take."""
    flow = deploy(plain, old)
    flow.start_many([()] * 300)
    with CaptureQueriesContext(connection) as queries:
        histories = stored.histories("default", [flow.runs])
        first = next(histories)
        assert len(queries) == 4
        assert len([first, *histories]) == 300
    assert len(queries) <= 2 + 3 * 6
    newest = list(flow.runs.order_by("-id").values_list("id", flat=True)[:7])
    assert [history.run_id for history in stored.histories("default", [flow.runs], 7)] == newest


def test_long_histories_are_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many records are in memory at a time, or those of one run."""
    monkeypatch.setattr(stored, "_RECORDS", 5)
    flow = deploy(plain, journey)
    ids = [flow.start(), *(flow.start("sleeping") for _ in range(4))]
    run_until_idle()
    batches = list(stored._batches("default", iter(ids)))
    assert batches == [[run_id] for run_id in ids]
    monkeypatch.setattr(stored, "_RECORDS", 30)
    assert [len(batch) for batch in stored._batches("default", iter(ids))] == [2, 2, 1]
    found = stored.histories("default", [flow.runs])
    assert {history.run_id: len(history.records) for history in found} == {
        run_id: StepRecord.objects.filter(run_id=run_id).count() for run_id in ids
    }
