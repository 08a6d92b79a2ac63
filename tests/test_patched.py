"""`ctx.patched`: which runs take the changed code, and that none ever changes its mind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from canx_flow import StepFailed, WrongContext, get_run, workflow
from canx_flow.core import registry
from canx_flow.models import StepRecord
from canx_flow.retry import Retry
from canx_flow.testing import advance, run_until_idle
from canx_flow.workflows import Workflow

from .kinds import Body, each_kind, plain

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
NAME = "patched.deployed"
Kind = Callable[[Body], Callable[..., Any]]


def deploy(kind: Kind, body: Body) -> Workflow[..., Any]:
    """Today's code of this name, whatever was there before."""
    registry.forget(NAME)
    return workflow(NAME, kind(body))


@pytest.fixture(autouse=True)
def _nothing_deployed() -> Iterator[None]:
    """Each test deploys for itself."""
    yield
    registry.forget(NAME)


def records(run_id: UUID) -> list[tuple[str, str]]:
    """What the run has stored, in order: name and kind."""
    return list(StepRecord.objects.filter(run_id=run_id).order_by("seq").values_list("name", "kind"))


async def old(ctx: Any) -> str:
    """The code before the change: two steps around a sleep."""
    await ctx.step("price", str, "old")
    await ctx.sleep("nap", HOUR)
    await ctx.step("pay", str)
    return "old"


async def new(ctx: Any) -> str:
    """The code after it, which gives another price."""
    if ctx.patched("vat"):
        price: str = await ctx.step("price with vat", str, "new")
    else:
        price = await ctx.step("price", str, "called again")
    await ctx.sleep("nap", HOUR)
    await ctx.step("pay", str)
    return price


@each_kind
def test_c128_runs_past_the_point_keep_the_old_code_and_new_ones_take_the_new(kind: Kind) -> None:
    """Each goes on with the branch that it has begun, through every replay; only a True leaves a record."""
    before = deploy(kind, old).start()
    run_until_idle()
    flow = deploy(kind, new)
    after = flow.start()
    for _ in range(3):
        run_until_idle()
        for run_id in (before, after):
            flow.pause(run_id)
            flow.resume(run_id)
    advance(HOUR)
    assert (get_run(before).result, get_run(after).result) == ("old", "new")
    assert records(before) == [("price", "step"), ("nap", "sleep"), ("pay", "step")]
    assert records(after) == [("#patch:vat", "patch"), ("price with vat", "step"), ("nap", "sleep"), ("pay", "step")]


@each_kind
def test_c128_a_run_that_has_not_come_to_the_point_takes_the_new_code(kind: Kind) -> None:
    """What counts is where the run stands, not when it was started; a failed attempt that was stored is past it."""

    async def before(ctx: Any) -> str:
        await ctx.step("first", str)
        await ctx.sleep("nap", HOUR)
        return await later(ctx)

    async def later(ctx: Any) -> str:
        value: str = await ctx.step("charge", charge, retry=Retry(initial=3600, jitter=0))
        return value

    async def after(ctx: Any) -> str:
        await ctx.step("first", str)
        await ctx.sleep("nap", HOUR)
        return "patched" if ctx.patched("x") else await later(ctx)

    tries: list[str] = []

    def charge() -> str:
        tries.append("charge")
        if len(tries) == 1:
            raise ConnectionError("away")
        return "charged"

    flow = deploy(kind, before)
    failing = flow.start()
    advance(HOUR)
    sleeping = flow.start()
    run_until_idle()
    assert (get_run(failing).state, get_run(sleeping).state) == ("retrying", "sleeping")
    deploy(kind, after)
    advance(2 * HOUR)
    assert (get_run(failing).result, get_run(sleeping).result) == ("charged", "patched")


def looping(asked: Callable[[Any, int], bool]) -> Body:
    """A body that works four times, with a sleep after each, as it is told."""

    async def body(ctx: Any) -> list[str]:
        done = []
        for number in range(4):
            done.append(await ctx.step("work", str, "new" if asked(ctx, number) else "old"))
            await ctx.sleep("nap", HOUR)
        return done

    return body


@each_kind
@pytest.mark.parametrize(
    ("asked", "then"),
    [
        (lambda ctx, _: ctx.patched("x"), "old old old old"),
        (lambda ctx, turn: ctx.patched(f"x {turn}"), "old old new new"),
    ],
    ids=["once", "each-turn"],
)
def test_c128_the_first_answer_holds_in_a_loop(kind: Kind, asked: Callable[[Any, int], bool], then: str) -> None:
    """A run that is in its loop goes through all of it as it has begun; a number in the id asks anew in each turn."""
    before = deploy(kind, looping(lambda *_: False)).start()
    run_until_idle()
    advance(HOUR)
    flow = deploy(kind, looping(asked))
    after = flow.start()
    advance(4 * HOUR)
    assert (get_run(before).result, get_run(after).result) == (then.split(), ["new"] * 4)


@each_kind
def test_c128_a_removed_step_behind_the_point_is_a_later_record_too(kind: Kind) -> None:
    """A run that has stored what the code does not come to any more is past the point as before."""

    async def before(ctx: Any) -> None:
        await ctx.step("first", str)
        await ctx.step("removed", str)
        await ctx.wait_for("answer", "never")

    async def after(ctx: Any) -> bool:
        await ctx.step("first", str)
        answer: bool = ctx.patched("x")
        await ctx.sleep("nap", HOUR)
        await ctx.step("last", str)
        return answer

    run_id = deploy(kind, before).start()
    run_until_idle()
    flow = deploy(kind, after)
    flow.pause(run_id)
    flow.resume(run_id)
    advance(HOUR)
    assert get_run(run_id).result is False


@each_kind
def test_c128_a_new_step_in_front_makes_no_run_take_the_new_code(kind: Kind) -> None:
    """What is called anew before the point does not hide that there are records from behind it."""

    async def before(ctx: Any) -> None:
        await ctx.step("first", str)
        await ctx.sleep("nap", HOUR)

    async def after(ctx: Any) -> tuple[bool, bool, bool]:
        await ctx.step("new", str)
        one = ctx.patched("before first")
        await ctx.step("first", str)
        two = ctx.patched("before nap")
        await ctx.sleep("nap", HOUR)
        three = ctx.patched("behind all")
        await ctx.sleep("another nap", HOUR)
        return one, two, three

    run_id = deploy(kind, before).start()
    run_until_idle()
    flow = deploy(kind, after)
    flow.pause(run_id)
    flow.resume(run_id)
    advance(2 * HOUR)
    assert get_run(run_id).result == (False, False, True)


@each_kind
def test_c128_the_call_deleted_its_record_disturbs_nothing(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """The new branch stands alone then: runs that were told True go on in it, and each line is logged once."""

    async def deprecated(ctx: Any) -> str:
        price: str = await ctx.step("price with vat", str, "new")
        ctx.log.info("price")
        await ctx.sleep("nap", HOUR)
        ctx.log.info("slept")
        await ctx.step("pay", str)
        return price

    run_id = deploy(kind, new).start()
    run_until_idle()
    deploy(kind, deprecated)
    with caplog.at_level(logging.INFO, f"canx_flow.workflow.{NAME}"):
        advance(HOUR)
    assert get_run(run_id).result == "new"
    assert [record.message for record in caplog.records if record.name.endswith(NAME)] == ["slept"]
    assert records(run_id)[0] == ("#patch:vat", "patch")


@each_kind
def test_c128_an_answer_that_was_not_stored_is_given_again(kind: Kind) -> None:
    """A run whose worker is cut off between the answer and the next record is told the same when it is asked again."""
    answers: list[bool] = []

    async def body(ctx: Any) -> bool:
        answers.append(ctx.patched("x"))
        if len(answers) == 1:
            raise KeyboardInterrupt
        await ctx.step("work", str)
        await ctx.sleep("nap", HOUR)
        return answers[-1]

    run_id = deploy(kind, body).start()
    with pytest.raises(KeyboardInterrupt):
        run_until_idle()
    assert records(run_id) == []
    advance(HOUR)
    assert get_run(run_id).result is True
    assert answers == [True] * 3


@each_kind
def test_c128_a_false_does_not_end_the_replay(kind: Kind, caplog: pytest.LogCaptureFixture) -> None:
    """What a run that is past the point has logged is logged once and for all, however often it is replayed."""
    seen: list[tuple[bool, bool]] = []

    async def before(ctx: Any) -> None:
        await ctx.step("first", str)
        ctx.log.info("between")
        await ctx.wait_for("answer", "answered")

    async def after(ctx: Any) -> None:
        seen.append((ctx.patched("x"), ctx.is_replaying))
        await before(ctx)

    run_id = deploy(kind, before).start()
    with caplog.at_level(logging.INFO, f"canx_flow.workflow.{NAME}"):
        run_until_idle()
        flow = deploy(kind, after)
        for _ in range(3):
            flow.pause(run_id)
            flow.resume(run_id)
            run_until_idle()
        flow.send(run_id, "answered")
        run_until_idle()
    assert get_run(run_id).state == "completed"
    assert seen == [(False, True)] * 4
    assert [record.message for record in caplog.records if record.name.endswith(NAME)] == ["between"]
    assert records(run_id) == [("first", "step"), ("answer", "wait")]


@each_kind
@pytest.mark.parametrize("what", ["step", "sleep"])
def test_c128_what_is_new_in_front_of_it_makes_no_true_of_a_false(kind: Kind, what: str) -> None:
    """Stored last it is no end of what was stored before, though the run sleeps there, or its worker is killed."""
    answers: list[bool] = []

    async def before(ctx: Any) -> None:
        await ctx.step("first", str)
        await ctx.sleep("nap", HOUR)

    async def after(ctx: Any) -> None:
        if what == "step":
            await ctx.step("new", str)
            await ctx.step("newer", killed)
        else:
            await ctx.sleep("new", HOUR)
        answers.append(ctx.patched("x"))
        await ctx.step("first", str)
        await ctx.sleep("nap", HOUR)
        await ctx.step("last", killed)

    tries: list[str] = []

    def killed() -> None:
        tries.append("killed")
        if len(tries) in (1, 3):
            raise KeyboardInterrupt

    run_id = deploy(kind, before).start()
    run_until_idle()
    deploy(kind, after)
    for _ in range(6):
        with suppress(KeyboardInterrupt):
            advance(HOUR)
    assert get_run(run_id).state == "completed"
    assert set(answers) == {False}
    assert "#patch:x" not in [name for name, _kind in records(run_id)]


@each_kind
def test_c128_a_failed_step_that_was_asked_after_is_the_failure_of_the_run(kind: Kind) -> None:
    """To ask is not to go on: `retry` finds the step whose failure left the body, though an answer was stored later."""

    async def body(ctx: Any) -> str:
        try:
            return str(await ctx.step("charge", charge, retry=Retry(max_attempts=1)))
        except StepFailed:
            ctx.patched("x")
            raise

    tries: list[str] = []

    def charge() -> str:
        tries.append("charge")
        if len(tries) == 1:
            raise ConnectionError("away")
        return "charged"

    flow = deploy(kind, body)
    run_id = flow.start()
    run_until_idle()
    assert get_run(run_id).state == "failed"
    flow.retry(run_id)
    run_until_idle()
    assert get_run(run_id).result == "charged"


@each_kind
def test_an_ill_formed_change_is_refused_by_name(kind: Kind) -> None:
    """As a step's name is, in either kind of workflow; and no step function may ask."""
    raised: list[str] = []

    async def body(ctx: Any) -> None:
        for change_id in ("", " x", "a/b", "x#2", "a" * 300, 7, ["x"]):
            try:
                ctx.patched(change_id)
            except (TypeError, ValueError) as error:
                raised.append(str(error))
        await ctx.step("asks", ctx.patched, "x", retry=Retry(max_attempts=1))

    run_id = deploy(kind, body).start()
    run_until_idle()
    assert len(raised) == 7
    assert all("change_id" in text for text in raised)
    status = get_run(run_id)
    assert status.error is not None
    assert WrongContext.__name__ in status.error["message"]


# -- the same, of any code and any change ------------------------------------------------------------

Operation = tuple[str, str]  # step, sleep or patched; its name


@st.composite
def programs(draw: st.DrawFn) -> list[list[Operation]]:
    """Programs, each a change of the one before: what was there is kept, removed or renamed, new things are added."""
    numbers = iter(range(1000))

    def operation() -> Operation:
        return draw(st.sampled_from(("step", "sleep", "patched"))), f"op {next(numbers)}"

    program = [("sleep" if number % 2 else "step", operation()[1]) for number in range(draw(st.integers(1, 5)))]
    found = [program]
    for _ in range(draw(st.integers(1, 3))):
        changed: list[Operation] = []
        for kept in program:
            match "keep" if kept[0] == "patched" else draw(st.sampled_from(("keep", "keep", "remove", "rename"))):
                case "keep":
                    changed.append(kept)
                case "rename":
                    changed.append((kept[0], operation()[1]))
            changed += [operation() for _ in range(draw(st.integers(0, 1)))]
        program = changed
        found.append(program)
    return found


@pytest.mark.once
@hypothesis_settings(
    max_examples=60, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(deployed=programs(), wakes=st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_c128_no_run_ever_changes_its_mind(deployed: list[list[Operation]], wakes: list[int]) -> None:
    """Whatever is added, removed and renamed around it: each answer of a run is the same on every later replay."""
    answers: dict[str, set[bool]] = {}
    today: list[Operation] = []

    async def body(ctx: Any) -> None:
        for what, name in today:
            if what == "step":
                await ctx.step(name, str)
            elif what == "sleep":
                await ctx.sleep(name, 60)
            else:
                answers.setdefault(name, set()).add(ctx.patched(name))

    flow = deploy(plain, body)
    today = deployed[0]
    run_id = flow.start()
    run_until_idle()
    for program, times in zip(deployed, wakes, strict=False):
        today = program
        for _ in range(times):
            flow.pause(run_id)
            flow.resume(run_id)
            run_until_idle()
            advance(60)
    advance(3600)
    assert flow.status(run_id).state == "completed"
    assert {name: told for name, told in answers.items() if len(told) > 1} == {}


# -- forks and generations ---------------------------------------------------------------------------


@each_kind
def test_c128_a_fork_keeps_the_answers_of_what_it_keeps(kind: Kind) -> None:
    """Forked behind the point it goes on in the same branch; forked before it, it is a run that has not come there."""
    before = deploy(kind, old).start()
    advance(HOUR)
    flow = deploy(kind, new)
    after = flow.start()
    advance(HOUR)
    forks = [flow.fork(before, "pay"), flow.fork(before, "price"), flow.fork(after, "pay")]
    advance(HOUR)
    assert [get_run(run_id).result for run_id in forks] == ["old", "new", "new"]


@each_kind
def test_c128_the_next_generation_takes_the_new_code(kind: Kind) -> None:
    """It has an empty history: a run that goes on for ever takes up each change with its next generation."""

    async def before(ctx: Any, turn: int) -> None:
        await ctx.step("work", str)
        await ctx.sleep("nap", HOUR)
        ctx.continue_as_new(turn + 1)

    async def after(ctx: Any, turn: int) -> None:
        ctx.set_attributes(**{f"turn_{turn}": ctx.patched("x")})
        await ctx.step("work", str)
        await ctx.sleep("nap", HOUR)
        ctx.continue_as_new(turn + 1)

    run_id = deploy(kind, before).start(0)
    run_until_idle()
    deploy(kind, after)
    advance(HOUR)
    advance(HOUR)
    assert get_run(run_id).generation == 2
    assert get_run(run_id).attributes == {"turn_0": False, "turn_1": True, "turn_2": True}
