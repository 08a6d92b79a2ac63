"""Several versions of a workflow: who takes whose runs, how many are left of each, and the mark of changed code."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext

from canx_flow import get_run, workflow
from canx_flow.core import registry
from canx_flow.models import WorkflowRun
from canx_flow.store import claims, leases
from canx_flow.testing import advance, run_until_idle
from canx_flow.workflows import Workflow

from .kinds import Body, each_kind

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
NAME = "versions.deployed"
Kind = Callable[[Body], Callable[..., Any]]


def deploy(body: Callable[..., Any], version: str = "") -> Workflow[..., Any]:
    """Today's code of this version, whatever was there before."""
    registry.forget(NAME, version)
    return workflow(NAME, body, version=version)


@pytest.fixture(autouse=True)
def _nothing_deployed() -> Iterator[None]:
    """Each test deploys for itself."""
    yield
    for version in ("", "1", "2"):
        registry.forget(NAME, version)


async def first(ctx: Any) -> str:
    """The code of version 1."""
    await ctx.sleep("nap", HOUR)
    return "first"


async def second(ctx: Any) -> str:
    """The code of version 2."""
    await ctx.sleep("nap", HOUR)
    await ctx.step("more", str)
    return "second"


# -- side by side ------------------------------------------------------------------------------------


def claimed(identities: list[tuple[str, str]]) -> list[UUID]:
    """The runs that a worker which knows only these would take."""
    owner = leases.register(host="elsewhere", pid=1, workflows=identities).id
    return [run.id for run in claims.claim(connections["default"], owner, 100, identities)]


@each_kind
def test_c129_only_workers_of_its_version_claim_a_run(kind: Kind) -> None:
    """A run keeps the version that it was started with; a worker takes none of a version that it does not know."""
    one, two = deploy(kind(first), "1"), deploy(kind(second), "2")
    old, new = one.start(), two.start()
    assert claimed([(NAME, "3"), (NAME, "")]) == []
    assert claimed([(NAME, "2")]) == [new]
    assert claimed([(NAME, "1")]) == [old]


@each_kind
def test_c129_the_runs_left_of_each_version_are_counted(kind: Kind) -> None:
    """`flow versions` has them by state, until the last run of the old version has ended."""
    one, two = deploy(kind(first), "1"), deploy(kind(second), "2")
    one.start_many([()] * 3)
    run_until_idle()
    two.start_many([()] * 2)
    run_until_idle()
    assert left() == {"1": {"sleeping": 3}, "2": {"sleeping": 2}}
    for run in one.runs.filter(version="1"):
        one.wake(run.id)
    run_until_idle()
    assert left() == {"1": {"completed": 3}, "2": {"sleeping": 2}}
    advance(HOUR)
    assert {run.result for run in map(get_run, WorkflowRun.objects.values_list("id", flat=True))} == {"first", "second"}


def left() -> dict[str, dict[str, int]]:
    """What `flow versions` says of the workflow under test."""
    out = io.StringIO()
    call_command("flow", "versions", "--json", stdout=out)
    return {entry["version"]: entry["runs"] for entry in json.loads(out.getvalue()) if entry["workflow"] == NAME}


# -- the mark of changed code ------------------------------------------------------------------------


def marks(*run_ids: UUID) -> list[bool]:
    """Whether each of these runs has gone on with another code."""
    found = dict(WorkflowRun.objects.values_list("id", "code_changed"))
    return [found[run_id] for run_id in run_ids]


def test_every_start_keeps_the_fingerprint_of_the_function() -> None:
    """However a run is started; another body has another one."""
    flow = deploy(plain_first)
    ids = [flow.start(), flow.using(key="k").start(), flow.using(delay=60).start(), *flow.start_many([(), ()])]
    ids.append(flow.rerun(ids[0]))
    found = {run.id: run.fingerprint for run in WorkflowRun.objects.all()}
    assert {found[run_id] for run_id in ids} == {flow.fingerprint}
    assert len(flow.fingerprint) == 64
    assert deploy(plain_second).fingerprint not in ("", flow.fingerprint)


def plain_first(ctx: Any) -> None:
    """Whose source is its own."""
    ctx.sleep("nap", HOUR)


def plain_second(ctx: Any) -> None:
    """The same with a step more."""
    ctx.sleep("nap", HOUR)
    ctx.step("more", str)


def plain_third(ctx: Any) -> None:
    """The same with a wait more."""
    ctx.sleep("nap", HOUR)
    ctx.wait_for("answer", "answered")


def plain_fourth(ctx: Any) -> None:
    """The same with another wait."""
    ctx.sleep("nap", HOUR)
    ctx.wait_for("answer", "again")
    ctx.wait_for("answer", "never")


async def awaited_first(ctx: Any) -> None:
    """The same as an `async def`."""
    await ctx.sleep("nap", HOUR)


async def awaited_second(ctx: Any) -> None:
    """The same with a step more."""
    await ctx.sleep("nap", HOUR)
    await ctx.step("more", str)


both = pytest.mark.parametrize(
    ("before", "after"), [(plain_first, plain_second), (awaited_first, awaited_second)], ids=["sync", "async"]
)


@both
def test_a_run_that_goes_on_with_changed_code_is_marked(before: Any, after: Any) -> None:
    """One that was under way is; one that begins with the new code, and one that goes on with its own, are not."""
    flow = deploy(before)
    ended = flow.start()
    advance(HOUR)
    changed = flow.start()
    run_until_idle()
    flow = deploy(after)
    fresh = flow.start()
    advance(2 * HOUR)
    assert all(get_run(run_id).state == "completed" for run_id in (ended, changed, fresh))
    assert marks(ended, changed, fresh) == [False, True, False]


def test_the_mark_comes_with_the_end_of_the_activation_and_stays() -> None:
    """A run that only sleeps is not marked yet; suspended or parked by the new code it is, and is told once."""
    flow = deploy(plain_first)
    run_id, parked = flow.start(), flow.start()
    run_until_idle()
    deploy(plain_third)
    assert marks(run_id) == [False]
    advance(HOUR)
    assert (get_run(run_id).state, marks(run_id)) == ("waiting", [True])
    deploy(lambda ctx: ctx.step("nap", str))
    flow.send(parked, "answered")
    flow.send(run_id, "answered")
    run_until_idle()
    assert get_run(parked).state == "parked"
    assert marks(run_id, parked) == [True, True]


def test_the_mark_costs_no_statement_of_its_own() -> None:
    """It is written with the run's suspension, once; a run whose code is the same writes none."""

    def marking(code: Callable[..., Any], event: str) -> list[str]:
        flow = deploy(code)
        flow.send(run_id, event)
        with CaptureQueriesContext(connections["default"]) as queries:
            run_until_idle()
        texts = (query["sql"] for query in queries)
        return [text for text in texts if text.startswith("UPDATE") and "code_changed" in text.replace('"', "")]

    run_id = deploy(plain_third).start()
    advance(HOUR)
    assert marking(plain_third, "other") == []
    [text] = marking(plain_fourth, "answered")
    assert "waiting" in text
    assert marking(plain_fourth, "again") == []
    assert marks(run_id) == [True]


@pytest.mark.once
def test_where_the_source_is_missing_no_run_is_marked() -> None:
    """Neither one that was started there, nor one that goes on there."""
    made: dict[str, Any] = {}
    exec("def body(ctx):\n    ctx.sleep('nap', 60)", made)
    flow = deploy(made["body"])
    unknown = flow.start()
    run_until_idle()
    assert flow.fingerprint == ""
    known = deploy(plain_first).start()
    run_until_idle()
    deploy(made["body"])
    advance(HOUR)
    assert marks(unknown, known) == [False, False]


@pytest.mark.once
def test_flow_show_says_it_in_words() -> None:
    """And `--json` for programs."""
    run_id = deploy(plain_first).start()
    run_until_idle()
    deploy(plain_second)
    advance(HOUR)
    out = io.StringIO()
    call_command("flow", "show", str(run_id), stdout=out)
    assert "code       changed since the start" in out.getvalue()
    out = io.StringIO()
    call_command("flow", "show", str(run_id), "--json", stdout=out)
    assert json.loads(out.getvalue())["code_changed"] is True
