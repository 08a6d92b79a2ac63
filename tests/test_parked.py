"""Parked runs: what code that changed, or is gone, does to the runs in flight, and how they go on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from canx_flow import Context, InvalidState, conf, get_run, workflow
from canx_flow.core import clock, registry
from canx_flow.models import StepRecord, Timer, WorkflowRun
from canx_flow.store import claims, leases, unparking
from canx_flow.store.unparking import Unparking
from canx_flow.testing import advance, run_until_idle
from canx_flow.worker.chores.park import Park
from canx_flow.workflows import Workflow

from .children.shared import pack
from .kinds import Body, each_kind

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
NAME = "parked.deployed"
Kind = Callable[[Body], Callable[..., Any]]


def deploy(body: Callable[..., Any], version: str = "") -> Workflow[..., Any]:
    """Start to know the workflow under test as this code, whatever it was before."""
    undeploy(version)
    return workflow(NAME, body, version=version)


def undeploy(version: str = "") -> None:
    """Stop to know it."""
    registry.forget(NAME, version)


@pytest.fixture(autouse=True)
def _nothing_deployed() -> Iterator[None]:
    """Each test deploys for itself."""
    yield
    for version in ("", "1", "2"):
        undeploy(version)


@pytest.fixture
def calls() -> list[str]:
    """What the steps of a test did."""
    return []


def sleeping(ctx: Context) -> str:
    """A plain body to be deployed."""
    ctx.sleep("nap", HOUR)
    return "done"


async def asleep(ctx: Any) -> None:
    """The same for both kinds of workflow."""
    await ctx.sleep("nap", HOUR)


@workflow("parked.neighbour")
def neighbour(ctx: Context) -> str:
    """A run of another workflow, which everybody knows."""
    return ctx.step("work", str, 7)


def assert_parked(run_id: UUID, reason: str, *said: str) -> None:
    """The run is parked, for this reason, which names all of these."""
    status = get_run(run_id)
    assert status.state == "parked"
    assert status.reason.startswith(f"{reason}: ")
    for text in said:
        assert text in status.reason
    assert not WorkflowRun.objects.filter(id=run_id, ready=True).exists()
    assert WorkflowRun.objects.get(id=run_id).owner_id is None


# -- unknown workflows -----------------------------------------------------------------------------------------


def test_c009_an_unknown_workflow_parks_its_run_and_blocks_nobody() -> None:
    """It is parked with its name as the reason, never failed; the runs behind it, of lower priority, are done."""
    deployed = deploy(sleeping)
    lost = deployed.using(priority=100).start()
    undeploy()
    found = neighbour.using(priority=-100).start()
    run_until_idle()
    assert_parked(lost, "UnknownWorkflow", repr(NAME))
    assert neighbour.status(found).result == "7"
    assert deployed.status(lost).started_at is None


def test_c009_it_goes_on_when_a_worker_knows_the_name() -> None:
    """Whatever that worker's version of the code does."""
    lost = deploy(sleeping).start()
    undeploy()
    for _ in range(3):
        run_until_idle()
        assert_parked(lost, "UnknownWorkflow")
    deployed = deploy(sleeping)
    run_until_idle()
    status = deployed.status(lost)
    assert (status.state, status.reason) == ("sleeping", "")
    advance(HOUR)
    assert deployed.status(lost).result == "done"


def test_c009_a_run_that_is_under_way_is_parked_when_it_wakes(calls: list[str]) -> None:
    """While it sleeps nothing is amiss; when its time comes it is parked, and keeps its steps."""

    def body(ctx: Context) -> None:
        ctx.step("before", calls.append, "before")
        ctx.sleep("nap", HOUR)
        ctx.step("after", calls.append, "after")

    run_id = deploy(body).start()
    run_until_idle()
    undeploy()
    run_until_idle()
    assert get_run(run_id).state == "sleeping"
    advance(2 * HOUR)
    assert_parked(run_id, "UnknownWorkflow", repr(NAME))
    deploy(body)
    run_until_idle()
    assert (get_run(run_id).state, calls) == ("completed", ["before", "after"])


def test_c009_a_version_that_nobody_knows_parks_its_run() -> None:
    """Its name at another version is another workflow: the reason names the version."""
    first = deploy(sleeping, "1")
    deploy(sleeping, "2")
    run_id = first.start()
    undeploy("1")
    run_until_idle()
    assert_parked(run_id, "UnknownWorkflow", f"'{NAME}@1'")
    deploy(sleeping, "1")
    run_until_idle()
    assert get_run(run_id).state == "sleeping"


def test_c009_a_workflow_that_another_live_worker_knows_is_left_to_it() -> None:
    """Only what no live worker knows is parked."""
    run_id = deploy(sleeping).start()
    undeploy()
    other = leases.register(host="elsewhere", pid=1, workflows=[(NAME, "")])
    run_until_idle()
    assert get_run(run_id).state == "pending"
    leases.say_goodbye(other.id)
    run_until_idle()
    assert_parked(run_id, "UnknownWorkflow")


def test_c009_however_many_there_are(caplog: pytest.LogCaptureFixture) -> None:
    """More than one batch of unknown runs is parked by one worker, and released by the next."""
    caplog.set_level(logging.CRITICAL, "canx_flow.run")
    deployed = deploy(sleeping)
    deployed.start_many([()] * 1_100)
    undeploy()
    run_until_idle()
    assert deployed.runs.states("parked").count() == 1_100
    deploy(sleeping)
    Unparking("default", registry.identities()).all()
    assert deployed.runs.states("pending").count() == 1_100


# -- code that was edited ----------------------------------------------------------------------------------------


@each_kind
def test_c125_a_step_that_was_inserted_runs_when_it_is_reached(kind: Kind, calls: list[str]) -> None:
    """Before or behind what is recorded: the new step is called once, the old results are used again."""

    async def old(ctx: Any) -> None:
        await ctx.step("one", calls.append, "one")
        await ctx.sleep("nap", HOUR)
        await ctx.step("two", calls.append, "two")

    async def new(ctx: Any) -> None:
        await ctx.step("zero", calls.append, "zero")
        await ctx.step("one", calls.append, "one again")
        await ctx.sleep("nap", HOUR)
        await ctx.step("one and a half", calls.append, "one and a half")
        await ctx.step("two", calls.append, "two")

    run_id = deploy(kind(old)).start()
    run_until_idle()
    deploy(kind(new))
    advance(HOUR)
    assert get_run(run_id).state == "completed"
    assert calls == ["one", "zero", "one and a half", "two"]
    names = StepRecord.objects.filter(run_id=run_id).order_by("seq").values_list("name", flat=True)
    assert list(names) == ["one", "nap", "zero", "one and a half", "two"]


@each_kind
def test_c126_the_result_of_a_step_that_was_removed_is_ignored(kind: Kind, calls: list[str]) -> None:
    """Its record stays where it is and troubles nobody."""

    async def old(ctx: Any) -> None:
        await ctx.step("gone", calls.append, "gone")
        await ctx.sleep("nap", HOUR)

    async def new(ctx: Any) -> str:
        await ctx.sleep("nap", HOUR)
        return "done"

    run_id = deploy(kind(old)).start()
    run_until_idle()
    deploy(kind(new))
    advance(HOUR)
    assert (get_run(run_id).result, calls) == ("done", ["gone"])


@each_kind
def test_c126_a_renamed_step_runs_as_a_new_one(kind: Kind, calls: list[str]) -> None:
    """A name is a step's identity: under another name it has no result yet."""

    async def old(ctx: Any) -> None:
        await ctx.step("charge", calls.append, "charged")
        await ctx.sleep("nap", HOUR)

    async def new(ctx: Any) -> None:
        await ctx.step("charge the card", calls.append, "charged again")
        await ctx.sleep("nap", HOUR)

    run_id = deploy(kind(old)).start()
    run_until_idle()
    deploy(kind(new))
    advance(HOUR)
    assert (get_run(run_id).state, calls) == ("completed", ["charged", "charged again"])


@pytest.mark.once
def test_p9_a_sleep_that_was_removed_does_not_hold_the_run(calls: list[str]) -> None:
    """A run edited under its sleep goes on at the sleep's end, visibly, by the new code."""

    def new(ctx: Context) -> str:
        ctx.step("instead", calls.append, "instead")
        return "no nap"

    run_id = deploy(sleeping).start()
    run_until_idle()
    deploy(new)
    run_until_idle()
    assert get_run(run_id).state == "sleeping"
    advance(HOUR)
    assert (get_run(run_id).result, calls) == ("no nap", ["instead"])


KINDS: dict[str, Callable[[Any], Any]] = {
    "step": lambda ctx: ctx.step("it", str),
    "sleep": lambda ctx: ctx.sleep("it", 0),
    "wait": lambda ctx: ctx.wait_for("it", "event", timeout=0, default=None),
    "map": lambda ctx: ctx.map("it", str, [1]),
    "call": lambda ctx: ctx.call("it", pack, "tea"),
}


@each_kind
@pytest.mark.parametrize(("was", "now"), [(was, now) for was in KINDS for now in KINDS if was != now])
def test_c127_a_name_recorded_as_another_kind_parks_the_run_naming_both(kind: Kind, was: str, now: str) -> None:
    """Neither result is used for the other: HistoryMismatch, with the name and both kinds; the old code goes on."""
    called: list[str] = []

    async def old(ctx: Any) -> str:
        await KINDS[was](ctx)
        await ctx.sleep("nap", HOUR)
        return "as it was"

    async def new(ctx: Any) -> None:
        await KINDS[now](ctx)
        await ctx.step("after", called.append, "after")

    run_id = deploy(kind(old)).start()
    run_until_idle()
    deploy(kind(new))
    advance(HOUR)
    assert_parked(run_id, "HistoryMismatch", "'it'", f"a {was} ", f"a {now} ")
    status = get_run(run_id)
    assert status.error is not None
    assert (status.error["type"], called) == ("canx_flow.exceptions.HistoryMismatch", [])
    deploy(kind(old))
    run_until_idle()
    status = get_run(run_id)
    assert (status.state, status.result, status.error, status.reason) == ("completed", "as it was", None, "")


@each_kind
def test_c127_an_open_record_of_another_kind_parks_the_run_too(kind: Kind) -> None:
    """A sleep under way is none for a step: woken, the run is parked."""

    async def stepping(ctx: Any) -> None:
        await ctx.step("nap", str)

    deployed = deploy(kind(asleep))
    run_id = deployed.start()
    run_until_idle()
    deploy(kind(stepping))
    deployed.wake(run_id)
    run_until_idle()
    assert_parked(run_id, "HistoryMismatch", "'nap'", "a sleep ", "a step ")


@pytest.mark.once
def test_p9_a_mismatch_parks_whatever_the_body_catches() -> None:
    """Neither `except Exception` nor a bare `except:` turns it into anything else."""

    def new(ctx: Context) -> str:
        try:
            ctx.step("nap", str)
        except:  # noqa: E722 - the worst that users do
            return "swallowed"
        return "done"

    deployed = deploy(sleeping)
    run_id = deployed.start()
    advance(0)
    deploy(new)
    advance(HOUR)
    assert_parked(run_id, "HistoryMismatch")


# -- results that no longer decode -----------------------------------------------------------------------------


@pytest.fixture
def shapes() -> Iterator[ModuleType]:
    """A module with a dataclass, which a test may lose."""
    module = ModuleType("tests.shapes")

    @dataclass
    class Square:
        side: int

    Square.__module__, Square.__qualname__ = module.__name__, "Square"
    module.Square = Square  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


@pytest.mark.parametrize("by", ["step", "event"])
def test_a_stored_value_that_no_longer_decodes_parks_the_run(shapes: ModuleType, by: str) -> None:
    """A class that is gone: parked, naming the step; when it is back, the run goes on with the value."""

    def body(ctx: Context) -> int:
        square = ctx.wait_for("made", "made") if by == "event" else ctx.step("made", lambda: shapes.Square(3))
        ctx.sleep("nap", HOUR)
        side: int = square.side
        return side

    deployed = deploy(body)
    run_id = deployed.start()
    if by == "event":
        deployed.send(run_id, "made", shapes.Square(3))
    run_until_idle()
    square = vars(shapes).pop("Square")
    advance(HOUR)
    assert_parked(run_id, "NotDecodable", "'made'", "Square")
    vars(shapes)["Square"] = square
    run_until_idle()
    assert get_run(run_id).result == 3


# -- what may be done to a parked run --------------------------------------------------------------------------


def mismatched() -> UUID:
    """A run that is parked until `sleeping` is deployed again."""
    deployed = deploy(sleeping)
    run_id = deployed.start()
    run_until_idle()
    deploy(lambda ctx: ctx.step("nap", str))
    deployed.wake(run_id)
    run_until_idle()
    assert_parked(run_id, "HistoryMismatch")
    return run_id


def test_a_parked_run_can_be_cancelled() -> None:
    """It ends at once, and is not looked at again."""
    run_id = mismatched()
    deployed = registry.get(NAME)
    assert deployed is not None
    assert deployed.cancel(run_id, "not worth it") is True
    status = deployed.status(run_id)
    assert (status.state, status.reason) == ("cancelled", "not worth it")
    assert run_until_idle() == 0


def test_a_parked_run_that_is_retried_goes_on() -> None:
    """Without a new worker: at once, by the code that is there now; if that is still wrong, it is parked again."""
    run_id = mismatched()
    deployed = registry.get(NAME)
    assert deployed is not None
    assert deployed.retry(run_id) is True
    status = deployed.status(run_id)
    assert (status.state, status.reason, status.error) == ("pending", "", None)
    with pytest.raises(InvalidState, match="pending"):
        deployed.retry(run_id)
    run_until_idle()
    assert_parked(run_id, "HistoryMismatch")
    deployed.retry(run_id)
    deploy(sleeping)
    run_until_idle()
    assert get_run(run_id).result == "done"


def test_a_parked_run_that_is_paused_is_looked_at_again_on_resume() -> None:
    """Paused, no worker looks at it; resumed, it goes on if it can."""
    run_id = mismatched()
    deployed = deploy(sleeping)
    assert deployed.pause(run_id) is True
    assert run_until_idle() == 0
    assert deployed.status(run_id).state == "paused"
    assert deployed.resume(run_id) is True
    status = deployed.status(run_id)
    assert (status.state, status.reason, status.error) == ("pending", "", None)
    run_until_idle()
    assert deployed.status(run_id).result == "done"


def test_a_timer_that_falls_due_while_parked_acts_when_the_run_goes_on() -> None:
    """It keeps its time, wakes nobody while the run is parked, and is over when it goes on."""

    def old(ctx: Context) -> Any:
        ctx.step("it", str)
        return ctx.wait_for("answer", "answered", timeout=2 * HOUR, default="nobody")

    def new(ctx: Context) -> None:
        ctx.sleep("it", 0)

    deployed = deploy(old)
    run_id = deployed.start()
    run_until_idle()
    due_at = Timer.objects.get(run_id=run_id).due_at
    deploy(new)
    deployed.send(run_id, "gossip")
    deployed.pause(run_id)
    deployed.resume(run_id)
    run_until_idle()
    assert_parked(run_id, "HistoryMismatch")
    assert deployed.status(run_id).resume_at == due_at
    advance(3 * HOUR)
    assert_parked(run_id, "HistoryMismatch")
    deploy(old)
    run_until_idle()
    assert deployed.status(run_id).result == "nobody"


def test_an_event_sent_to_a_parked_run_is_read_when_it_goes_on() -> None:
    """It is stored, and wakes nobody before."""

    def body(ctx: Context) -> Any:
        return ctx.wait_for("answer", "answered")

    deployed = deploy(body)
    run_id = deployed.start()
    undeploy()
    run_until_idle()
    assert deployed.send(run_id, "answered", "here") is True
    run_until_idle()
    assert_parked(run_id, "UnknownWorkflow")
    deploy(body)
    run_until_idle()
    assert deployed.status(run_id).result == "here"


def test_c102_a_run_that_killed_too_many_workers_waits_for_retry() -> None:
    """No worker's start lets it go on, though its workflow is known; retry does, and its count begins anew."""
    deployed = deploy(sleeping)
    run_id = deployed.start()
    most = conf.get().max_recoveries
    for crash in range(3 + most):
        assert deployed.status(run_id).state == "pending", crash
        worker = leases.register(host="elsewhere", pid=1)
        alone = crash >= 3
        connection, known = connections["default"], registry.identities()
        assert claims.claim(connection, worker.id, 1, known, alone=not alone) == []
        assert len(claims.claim(connection, worker.id, 1, known, alone=alone)) == 1
        leases.declare_dead(worker.id)
        leases.recover(worker.id)
    assert_parked(run_id, "TooManyRecoveries", str(3 + most))
    assert run_until_idle() == 0
    assert_parked(run_id, "TooManyRecoveries")
    assert deployed.retry(run_id) is True
    assert WorkflowRun.objects.get(id=run_id).recoveries == 0
    run_until_idle()
    assert deployed.status(run_id).state == "sleeping"
    clock.shift(HOUR)
    run_until_idle()
    assert deployed.status(run_id).result == "done"


# -- arguments that do not fit ---------------------------------------------------------------------------------


def takes_one(ctx: Context, customer: str) -> str:
    """What an older worker knows."""
    return ctx.step("greet", str, customer)


def takes_two(ctx: Context, customer: str, plan: str = "basic") -> str:
    """What a newer one knows."""
    return ctx.step("greet", f"{customer} {plan}".__str__)


def takes_more(ctx: Context, customer: str, plan: str) -> str:
    """A deployment that has added an argument without a default."""
    return ctx.step("greet", f"{customer} {plan}".__str__)


@pytest.mark.parametrize(
    ("before", "arguments", "keywords", "after", "said"),
    [
        (takes_two, ("ada", "gold"), {}, takes_one, ("(customer)", "2 by position")),
        (takes_two, ("ada",), {"plan": "gold"}, takes_one, ("(customer)", "1 by position, plan")),
        (takes_one, ("ada",), {}, takes_more, ("(customer, plan)", "1 by position", "'plan'")),
    ],
)
def test_arguments_that_do_not_fit_park_the_run(
    before: Any, arguments: Any, keywords: Any, after: Any, said: Any
) -> None:
    """Parked, naming what the function takes and what is stored; with code that takes them it goes on, from anew."""
    run_id = deploy(before).using(timeout=HOUR).start(*arguments, **keywords)
    deploy(after)
    run_until_idle()
    assert_parked(run_id, "ArgumentsMismatch", repr(NAME), *said)
    assert get_run(run_id).error is not None
    # Its time does not run while no code can take it.
    advance(2 * HOUR)
    deploy(before)
    run_until_idle()
    assert (get_run(run_id).state, get_run(run_id).reason) == ("completed", "")


def test_arguments_that_do_not_fit_any_more_park_a_run_that_is_under_way(calls: list[str]) -> None:
    """A run that wakes with other code keeps its steps and waits for code that takes its arguments."""

    def before(ctx: Context, what: str) -> None:
        ctx.step("first", calls.append, what)
        ctx.sleep("nap", HOUR)

    run_id = deploy(before).start("one")
    run_until_idle()
    deploy(takes_more)
    advance(HOUR)
    assert_parked(run_id, "ArgumentsMismatch")
    deploy(before)
    run_until_idle()
    assert (get_run(run_id).state, calls) == ("completed", ["one"])


def chores(known: Any) -> Park:
    """Those of a worker that has started already, with this code."""
    deploy(known)
    leases.register(host="elsewhere", pid=1, workflows=registry.identities())
    park = Park("default")
    park.run_once(0.0, unclaimed=False, room=16)
    return park


def test_a_newer_worker_takes_what_an_older_one_has_parked() -> None:
    """Without a restart: it looks at misfits now and then, and lets those go on that fit its own code."""
    newer = chores(takes_two)
    flow = deploy(takes_two)
    fits, more = flow.start("ada", "gold"), flow.start("bob", plan="gold")
    deploy(takes_one)
    run_until_idle()
    assert_parked(fits, "ArgumentsMismatch")
    assert_parked(more, "ArgumentsMismatch")
    deploy(takes_two)
    assert newer.run_once(10.0, unclaimed=False, room=1) == 1
    assert newer.run_once(20.0, unclaimed=False, room=1) == 1
    assert [get_run(run_id).state for run_id in (fits, more)] == ["pending", "pending"]


def test_misfits_are_looked_at_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many fit nothing, those behind them have their turn; each is loaded once."""
    monkeypatch.setattr(unparking, "_PAGE", 3)
    monkeypatch.setattr(unparking, "_LOADED", 2)
    flow = deploy(takes_two)
    hopeless = [flow.start("ada", "gold") for _ in range(7)]
    wanted = flow.start("bob")
    WorkflowRun.objects.filter(id__in=[*hopeless, wanted]).update(
        state="parked", ready=False, reason="ArgumentsMismatch: so"
    )
    deploy(takes_one)
    misfits = Unparking("default", registry.identities())
    looked = [misfits.some(5) for _ in range(6)]
    assert sum(looked) == 1
    assert get_run(wanted).state == "pending"
    assert [get_run(run_id).state for run_id in hopeless] == ["parked"] * 7


def test_runs_that_stay_parked_keep_no_others_waiting() -> None:
    """A run that is left to people is the only one of each of two workflows; one that fits comes third, in one turn."""
    stays = [deploy(takes_one, version).start("ada") for version in ("", "1")]
    fits = deploy(takes_one, "2").start("ada")
    WorkflowRun.objects.filter(id__in=stays).update(state="parked", ready=False, reason="TooManyRecoveries: so")
    WorkflowRun.objects.filter(id=fits).update(state="parked", ready=False, reason="ArgumentsMismatch: so")
    parked = Unparking("default", registry.identities())
    parked.is_first = False
    assert parked.some(5) == 1
    assert get_run(fits).state == "pending"
    assert {get_run(run_id).state for run_id in stays} == {"parked"}


def _parked(number: int, reason: str, version: str = "") -> list[UUID]:
    """So many runs that are parked for this reason."""
    flow = deploy(takes_one, version)
    runs = [flow.start("ada") for _ in range(number)]
    WorkflowRun.objects.filter(id__in=runs).update(state="parked", ready=False, reason=f"{reason}: so")
    return runs


def test_runs_that_are_left_to_people_are_looked_at_seldom() -> None:
    """By few statements for each workflow, and not every two seconds: a round in which none goes on rests."""
    for version in ("", "1", "2"):
        _parked(1, "TooManyRecoveries", version)
    park = Park("default")
    with CaptureQueriesContext(connections["default"]) as queries:
        park.run_once(0.0, unclaimed=False, room=16)
    assert not park.is_starting
    assert len(queries) <= 1 + 3 * 3
    with CaptureQueriesContext(connections["default"]) as queries:
        for seconds in (2.0, 4.0, 6.0, 8.0):
            park.run_once(seconds, unclaimed=False, room=16)
    assert len(queries) == 0
    fits = _parked(1, "UnknownWorkflow", "2")
    assert park.run_once(10.0, unclaimed=False, room=16) == 1
    assert get_run(fits[0]).state == "pending"


def test_a_turn_loads_so_many_misfits_of_all_workflows_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few each of them has."""
    monkeypatch.setattr(unparking, "_LOADED", 3)
    for version in ("", "1", "2"):
        runs = _parked(2, "ArgumentsMismatch", version)
        WorkflowRun.objects.filter(id__in=runs).update(arguments="[[],{}]")
    loaded: list[int] = []
    fitting = Unparking._fitting

    def counting(self: Unparking, misfits: Sequence[UUID]) -> list[UUID]:
        loaded[-1] += len(misfits)
        return fitting(self, misfits)

    monkeypatch.setattr(Unparking, "_fitting", counting)
    parked = Unparking("default", registry.identities())
    while parked.is_first:
        loaded.append(0)
        parked.some(5)
    assert (max(loaded), sum(loaded)) == (3, 6)


def test_runs_with_ids_of_another_kind_are_not_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project may make its ids itself, and a database have an order of its own for them."""
    monkeypatch.setattr(unparking, "_BATCH", 2)
    deploy(takes_one)
    for reason in ("UnknownWorkflow", "TooManyRecoveries"):
        runs = [WorkflowRun(id=uuid4(), workflow=NAME, state="parked", ready=False, reason=reason) for _ in range(40)]
        WorkflowRun.objects.bulk_create(runs)
    assert Unparking("default", registry.identities()).all() == 40
    assert set(WorkflowRun.objects.filter(state="parked").values_list("reason", flat=True)) == {"TooManyRecoveries"}


def test_a_worker_that_starts_unparks_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its claims: all that were parked before it came, turn by turn, but for those that are left to people."""
    monkeypatch.setattr(unparking, "_PAGE", 4)
    monkeypatch.setattr(unparking, "_BATCH", 3)
    flow = deploy(takes_one)
    runs = [flow.start("ada") for _ in range(8)]
    WorkflowRun.objects.filter(id__in=runs).update(state="parked", ready=False, reason="HistoryMismatch: so")
    WorkflowRun.objects.filter(id=runs[4]).update(reason="TooManyRecoveries: so")
    park = Park("default")
    unparked = []
    while park.is_starting:
        unparked.append(park.run_once(0.0, unclaimed=False, room=16))
    assert (max(unparked), sum(unparked)) == (3, 7)
    assert get_run(runs[4]).state == "parked"


def test_a_worker_whose_code_does_not_fit_leaves_misfits_alone(caplog: pytest.LogCaptureFixture) -> None:
    """At its start and later: no activation, and no second line."""
    run_id = deploy(takes_two).start("ada", "gold")
    older = chores(takes_one)
    run_until_idle()
    caplog.clear()
    epoch = WorkflowRun.objects.get(id=run_id).epoch
    for seconds in (10.0, 20.0):
        run_until_idle()
        assert older.run_once(seconds, unclaimed=False, room=16) == 0
    assert_parked(run_id, "ArgumentsMismatch")
    assert WorkflowRun.objects.get(id=run_id).epoch == epoch
    assert caplog.records == []


# -- told once -------------------------------------------------------------------------------------------------


def test_a_run_that_is_parked_again_is_no_second_error(caplog: pytest.LogCaptureFixture) -> None:
    """Looked at by each worker that starts, and parked again for the same reason: an error the first time only."""
    caplog.set_level(logging.INFO, "canx_flow.run")
    run_id = deploy(lambda ctx: ctx.sleep("nap", HOUR)).start()
    run_until_idle()
    deploy(lambda ctx: ctx.step("nap", str))
    advance(HOUR)
    for _ in range(3):
        run_until_idle()
        assert_parked(run_id, "HistoryMismatch")
    levels = [record.levelname for record in caplog.records if str(run_id) in record.getMessage()]
    assert levels == ["ERROR", "INFO", "INFO", "INFO"]


def test_a_run_that_went_on_and_is_parked_again_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """What it was parked for before is forgotten with the next rest, and with a retry by people."""
    run_id = deploy(lambda ctx: ctx.sleep("nap", HOUR)).start()
    run_until_idle()
    broken: Callable[[Context], Any] = lambda ctx: ctx.step("nap", str)  # noqa: E731 - to be deployed twice
    flow = deploy(broken)
    flow.pause(run_id)
    flow.resume(run_id)
    run_until_idle()
    deploy(lambda ctx: ctx.sleep("nap", HOUR))
    run_until_idle()
    assert (get_run(run_id).state, get_run(run_id).reason) == ("sleeping", "")
    flow = deploy(broken)
    advance(HOUR)
    flow.retry(run_id)
    run_until_idle()
    errors = [r for r in caplog.records if r.levelno == logging.ERROR and str(run_id) in r.getMessage()]
    assert len(errors) == 3


def test_an_unknown_workflow_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """A run that a worker let go on, and did not take up before it left, is parked again without an error."""
    run_id = deploy(sleeping).start()
    undeploy()
    run_until_idle()
    assert_parked(run_id, "UnknownWorkflow")
    deploy(sleeping)
    Unparking("default", registry.identities()).all()
    assert (get_run(run_id).state, get_run(run_id).reason) == ("pending", "")
    undeploy()
    run_until_idle()
    assert_parked(run_id, "UnknownWorkflow")
    errors = [r for r in caplog.records if r.levelno == logging.ERROR and str(run_id) in r.getMessage()]
    assert len(errors) == 1
