"""Runs that are under way when another code is deployed: what is logged, published and waited for then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from canx_flow import Context, Retry, WaitTimeout, get_run, send_event, workflow
from canx_flow.core import registry
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle
from canx_flow.workflows import Workflow

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
Body = Callable[[Context], Any]


def deploy(name: str, body: Body) -> Workflow[[]]:
    """Today's code of this name, whatever was there before."""
    registry.forget(name)
    return workflow(name, body)


def take_up(flow: Workflow[[]], run_id: UUID) -> None:
    """Have a suspended run replay with today's code, though nothing that it waits for has come."""
    flow.pause(run_id)
    flow.resume(run_id)
    run_until_idle()


# -- is_replaying, and what hangs on it --------------------------------------------------------------


@pytest.mark.once
def test_replay_does_not_begin_again_after_what_is_new(caplog: pytest.LogCaptureFixture) -> None:
    """Once a body has come to something new, `is_replaying` stays False, though stored records follow."""
    seen: list[bool] = []

    def before(ctx: Context) -> None:
        ctx.step("a", int)
        ctx.step("removed", int)
        ctx.wait_for("w", "go")

    def after(ctx: Context) -> None:
        ctx.step("a", int)
        ctx.step("new", int)
        seen.append(ctx.is_replaying)
        ctx.wait_for("w", "go")
        seen.append(ctx.is_replaying)
        ctx.log.info("the event came")

    flow = deploy("changed.again", before)
    run_id = flow.start()
    run_until_idle()
    flow = deploy("changed.again", after)
    flow.send(run_id, "go")
    with caplog.at_level(logging.INFO, "canx_flow.workflow.changed.again"):
        run_until_idle()
    assert seen == [False, False]
    assert [r.message for r in caplog.records if r.name.endswith("changed.again")] == ["the event came"]


@pytest.mark.once
def test_a_removed_step_does_not_make_replay_last_longer() -> None:
    """Replay is over with the last stored record, whether or not all before it were met."""
    seen: list[bool] = []

    def before(ctx: Context) -> None:
        ctx.step("removed", int)
        ctx.sleep("nap", HOUR)

    def after(ctx: Context) -> None:
        seen.append(ctx.is_replaying)
        ctx.sleep("nap", HOUR)
        seen.append(ctx.is_replaying)

    run_id = deploy("changed.removed", before).start()
    run_until_idle()
    deploy("changed.removed", after)
    advance(HOUR)
    assert seen == [True, False]
    assert get_run(run_id).state == "completed"


def test_the_next_replay_ends_where_this_one_did() -> None:
    """A run that blocks again, behind a step that is new, has logged what lies between them once and for all."""
    seen: list[list[bool]] = []

    def before(ctx: Context) -> None:
        ctx.step("a", int)
        ctx.wait_for("w", "go")

    def after(ctx: Context) -> None:
        ctx.step("new", int)
        mine = [ctx.is_replaying]
        seen.append(mine)
        ctx.step("a", int)
        mine.append(ctx.is_replaying)
        ctx.wait_for("w", "go")
        mine.append(ctx.is_replaying)

    run_id = deploy("changed.between", before).start()
    run_until_idle()
    flow = deploy("changed.between", after)
    take_up(flow, run_id)
    flow.send(run_id, "go")
    run_until_idle()
    assert seen == [[False, False], [True, True, False]]
    names = StepRecord.objects.filter(run_id=run_id).order_by("seq").values_list("name", flat=True)
    assert list(names) == ["a", "new", "w"]


def test_attributes_set_behind_a_new_step_are_published() -> None:
    """What the body has set when it suspends is what the run shows, though stored records follow the new step."""

    def before(ctx: Context) -> None:
        ctx.step("a", int)
        ctx.set_attributes(phase="waiting")
        ctx.wait_for("w", "go")

    def after(ctx: Context) -> None:
        ctx.set_attributes(phase="begun")
        ctx.step("new", int)
        ctx.step("a", int)
        ctx.set_attributes(phase="still waiting")
        ctx.wait_for("w", "go")

    run_id = deploy("changed.attributes", before).start()
    run_until_idle()
    take_up(deploy("changed.attributes", after), run_id)
    assert get_run(run_id).attributes == {"phase": "still waiting"}


# -- the same, of any code and any change ------------------------------------------------------------

KINDS = ("step", "flaky", "sleep", "wait")
Operation = tuple[str, str]  # its kind, its name


@dataclass
class Journey:
    """One run through several deployments, and what its bodies have seen of themselves."""

    program: list[Operation]
    #: Of each operation: the line at which it was first and last told to be over, of all lines there were.
    passed: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    lines: int = 0
    logged: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    published: str = ""

    def body(self, ctx: Context) -> None:
        """Perform the program of today, with a line and an attribute after each operation."""
        for number, (kind, name) in enumerate(self.program):
            self.perform(ctx, kind, name)
            self.line(ctx, name, {earlier for _kind, earlier in self.program[:number]})

    def line(self, ctx: Context, name: str, earlier: set[str]) -> None:
        """Log that an operation is over, and keep what is wrong with that."""
        before, self.lines = len(self.logged), self.lines + 1
        ctx.log.info(name)
        silent = len(self.logged) == before
        new_before_it = any(self.passed[other] > self.told.get(name, 0) for other in earlier)
        if silent and name not in self.passed:
            self.lost.append(name)
        if not silent and name in self.told and not new_before_it:
            self.doubled.append(name)
        self.passed.setdefault(name, self.lines)
        if not silent:
            self.told[name] = self.lines
        ctx.set_attributes(last=name)
        self.published = name

    def perform(self, ctx: Context, kind: str, name: str) -> None:
        """One operation of the program."""
        match kind:
            case "step":
                ctx.step(name, self.calls.append, name)
            case "flaky":
                ctx.step(name, self.flaky, name, retry=Retry(initial=1))
            case "sleep":
                ctx.sleep(name, 60)
            case "wait":
                ctx.wait_for(name, name)

    def flaky(self, name: str) -> None:
        """Fail once, so that the run suspends in the midst of a step."""
        self.calls.append(name)
        if self.calls.count(name) == 1:
            raise ConnectionError(name)

    def go_on(self, flow: Workflow[[]], run_id: UUID) -> None:
        """Let what the run waits for come."""
        status = flow.status(run_id)
        if status.state == "waiting":
            assert status.step is not None
            flow.send(run_id, status.step)
            run_until_idle()
        else:
            advance(60)

    def look(self, run_id: UUID) -> None:
        """What must be true whenever the run is at rest."""
        assert self.lost == []
        assert self.doubled == []
        run = WorkflowRun.objects.get(id=run_id)
        assert run.state in ("sleeping", "waiting", "retrying", "completed")
        assert run.attributes.get("last", "") == self.published


@pytest.fixture
def lines() -> Iterator[list[Journey]]:
    """The journey whose workflow logs now."""
    journeys: list[Journey] = []
    handler = logging.Handler()
    handler.emit = lambda record: journeys[-1].logged.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("canx_flow.workflow.changed.any")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield journeys
    logger.removeHandler(handler)
    logger.setLevel(before)


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[list[Operation], int, bool]]:
    """Programs, each a change of the one before: for how long each is deployed, and whether it is taken up at once."""
    numbers = iter(range(1000))

    def operation() -> Operation:
        return draw(st.sampled_from(KINDS)), f"op {next(numbers)}"

    program = [operation() for _ in range(draw(st.integers(1, 5)))]
    deployed = []
    for _ in range(draw(st.integers(2, 3))):
        deployed.append((program, draw(st.integers(0, 3)), draw(st.booleans())))
        changed: list[Operation] = []
        for kept in program:
            match draw(st.sampled_from(("keep", "keep", "remove", "rename", "add"))):
                case "keep":
                    changed.append(kept)
                case "rename":
                    changed.append((kept[0], operation()[1]))
                case "add":
                    changed += [operation(), kept]
        program = [*changed, operation()] if draw(st.booleans()) else changed
    return deployed


@pytest.mark.once
@hypothesis_settings(
    max_examples=40,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(deployed=changes())
def test_first_lines_are_never_lost_nor_doubled(
    lines: list[Journey], deployed: list[tuple[list[Operation], int, bool]]
) -> None:
    """Whatever steps are added, removed and renamed: each line of the body comes when it is first reached, and then
    once more behind what is new; attributes are what the body has set; no step that succeeded is called again.
    """
    journey = Journey(deployed[0][0])
    lines.append(journey)
    run_id = deploy("changed.any", journey.body).start()
    for program, times, at_once in deployed:
        journey.program = program
        flow = deploy("changed.any", journey.body)
        if at_once and not flow.status(run_id).ended:
            take_up(flow, run_id)
            journey.look(run_id)
        run_until_idle()
        for _ in range(times):
            if flow.status(run_id).ended:
                break
            journey.go_on(flow, run_id)
            journey.look(run_id)
    for _ in range(50):
        if flow.status(run_id).ended:
            break
        journey.go_on(flow, run_id)
        journey.look(run_id)
    assert flow.status(run_id).state == "completed"
    kinds = {name: kind for program, *_ in deployed for kind, name in program}
    assert all(journey.calls.count(name) <= (2 if kinds[name] == "flaky" else 1) for name in journey.calls)


# -- an open wait follows the code -------------------------------------------------------------------


def waiting(event: str, **options: Any) -> Body:
    """A body that waits once, for what is said."""
    return lambda ctx: ctx.wait_for("answer", event, **options)


def timer(run_id: UUID) -> Timer:
    """The one that is open."""
    return Timer.objects.get(run_id=run_id)


@pytest.mark.parametrize("broadcast", [False, True])
def test_a_renamed_event_is_waited_for(broadcast: bool) -> None:
    """A run that blocks again with another event, or another key of it, is woken by that one."""
    run_id = deploy("changed.event", waiting("approved", key="7")).start()
    run_until_idle()
    flow = deploy("changed.event", waiting("order-approved", key="8"))
    take_up(flow, run_id)
    assert [(wait.event, wait.key) for wait in flow.status(run_id).waits] == [("order-approved", "8")]
    if broadcast:
        send_event("order-approved", 2, key="8")
    else:
        flow.send(run_id, "order-approved", 2)
    run_until_idle()
    assert (flow.status(run_id).state, flow.status(run_id).result) == ("completed", 2)


def test_the_old_event_has_it_look_for_the_new_one() -> None:
    """Sent under the old name, an event wakes the run once, which then waits for the new name and finds what came."""
    run_id = deploy("changed.old-event", waiting("approved")).start()
    run_until_idle()
    flow = deploy("changed.old-event", waiting("order-approved"))
    flow.send(run_id, "order-approved", "early")
    run_until_idle()
    assert flow.status(run_id).state == "waiting"
    flow.send(run_id, "approved", "old")
    run_until_idle()
    assert flow.status(run_id).result == "early"


@pytest.mark.parametrize(("first", "then"), [(HOUR, 2 * HOUR), (2 * HOUR, HOUR)])
def test_a_changed_timeout_keeps_its_first_moment(first: timedelta, then: timedelta) -> None:
    """An open wait that has a limit ends when it would have ended, however often it blocks again."""
    with freeze_time(START):
        run_id = deploy("changed.timeout", waiting("approved", timeout=first, default="late")).start()
        run_until_idle()
        flow = deploy("changed.timeout", waiting("approved", timeout=then, default="late"))
        take_up(flow, run_id)
        assert timer(run_id).due_at == START + first
        advance(first)
        assert flow.status(run_id).result == "late"


def test_a_timeout_that_is_new_counts_from_the_next_replay() -> None:
    """A wait without a limit gets the one that the code has now, once, when the run is taken up."""
    with freeze_time(START):
        run_id = deploy("changed.limited", waiting("approved")).start()
        run_until_idle()
        flow = deploy("changed.limited", waiting("approved", timeout=HOUR, default="late"))
        advance(HOUR)
        assert flow.status(run_id).state == "waiting"
        take_up(flow, run_id)
        advance(HOUR / 2)
        take_up(flow, run_id)
        assert timer(run_id).due_at == START + 2 * HOUR
        advance(HOUR / 2)
        assert flow.status(run_id).result == "late"


@pytest.mark.parametrize("taken_up", [True, False])
def test_a_timeout_that_is_gone_ends_no_wait(taken_up: bool) -> None:
    """Code that gives no limit waits on, whether its run was taken up before the old limit or is woken by it."""
    with freeze_time(START):
        run_id = deploy("changed.unlimited", waiting("approved", timeout=HOUR)).start()
        run_until_idle()
        flow = deploy("changed.unlimited", waiting("approved"))
        if taken_up:
            take_up(flow, run_id)
        advance(2 * HOUR)
        assert flow.status(run_id).state == "waiting"
        assert timer(run_id).due_at is None
        flow.send(run_id, "approved", "at last")
        run_until_idle()
        assert flow.status(run_id).result == "at last"


def test_a_timeout_on_record_stays_what_it_was() -> None:
    """An outcome that is stored replays, whatever the code waits for now."""

    def caught(event: str) -> Body:
        def body(ctx: Context) -> str:
            try:
                ctx.wait_for("answer", event, timeout=0)
            except WaitTimeout:
                ctx.sleep("nap", HOUR)
                return "late"
            return "in time"

        return body

    run_id = deploy("changed.recorded", caught("approved")).start()
    run_until_idle()
    flow = deploy("changed.recorded", caught("order-approved"))
    flow.send(run_id, "order-approved")
    advance(HOUR)
    assert flow.status(run_id).result == "late"


@pytest.mark.parametrize("what", ["sleep", "sleep_until", "retry"])
def test_open_sleeps_and_retries_keep_their_moment(what: str) -> None:
    """Another duration, moment or policy counts from the next one: what is open already is due when it was due."""

    def body(delay: timedelta) -> Body:
        def flow(ctx: Context) -> None:
            if what == "sleep":
                ctx.sleep("nap", delay)
            elif what == "sleep_until":
                ctx.sleep_until("nap", START + delay)
            else:
                ctx.step("flaky", fail, retry=Retry(initial=delay.total_seconds(), jitter=0, max_delay=10_000))

        return flow

    def fail() -> None:
        raise ConnectionError("away")

    with freeze_time(START):
        run_id = deploy("changed.moment", body(HOUR)).start()
        run_until_idle()
        flow = deploy("changed.moment", body(HOUR / 2))
        take_up(flow, run_id)
        assert timer(run_id).due_at == START + HOUR


# -- what the code does not come to any more ---------------------------------------------------------


def sleeping(*names: str) -> Body:
    """A body that sleeps an hour, and one more with each further name."""

    def body(ctx: Context) -> None:
        for number, name in enumerate(names, 1):
            ctx.sleep(name, number * HOUR)

    return body


def test_a_wait_that_is_gone_is_not_shown_and_wakes_nobody() -> None:
    """A sleep under another name is the one that is shown, woken and due; the old one is none of the run's any more."""
    with freeze_time(START):
        run_id = deploy("changed.gone", sleeping("old")).start()
        run_until_idle()
        flow = deploy("changed.gone", lambda ctx: ctx.sleep("new", 5 * HOUR))
        take_up(flow, run_id)
        status = flow.status(run_id)
        assert (status.step, status.resume_at, len(status.waits)) == ("new", START + 5 * HOUR, 1)
        epoch = WorkflowRun.objects.get(id=run_id).epoch
        advance(2 * HOUR)
        assert WorkflowRun.objects.get(id=run_id).epoch == epoch
        assert flow.wake(run_id)
        run_until_idle()
        assert flow.status(run_id).state == "completed"
    assert not Timer.objects.filter(run_id=run_id).exists()


def test_a_wait_whose_code_comes_back_keeps_its_moment() -> None:
    """Held while a deployment lasted that did not know it, it goes on when the deployment is taken back."""
    with freeze_time(START):
        run_id = deploy("changed.back", sleeping("old")).start()
        run_until_idle()
        take_up(deploy("changed.back", lambda ctx: ctx.wait_for("other", "never")), run_id)
        flow = deploy("changed.back", sleeping("old"))
        flow.send(run_id, "never")
        run_until_idle()
        assert (flow.status(run_id).step, flow.status(run_id).resume_at) == ("old", START + HOUR)
        advance(HOUR)
        assert flow.status(run_id).state == "completed"
