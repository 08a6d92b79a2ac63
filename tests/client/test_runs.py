"""The queryset of runs: by workflow, state, subject and attributes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group, User

from canx_flow import (
    Context,
    client,
    workflow,
)
from canx_flow.models import WorkflowRun
from canx_flow.testing import advance, run_until_idle

from ..models import Effect

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@workflow("runs.any")
def anything(ctx: Context, what: str = "") -> Any:
    """Ends at once, or gets stuck where `what` says."""
    match what:
        case "sleep":
            ctx.sleep("nap", HOUR)
        case "fail":
            raise ValueError("no")
    return {"ended": (what,)}


def test_runs_are_those_of_every_version_of_the_workflow() -> None:
    """`wf.runs` spans the versions of its name, and no other workflow's."""

    @workflow("runs.versions", version="1")
    def first(ctx: Context) -> None: ...

    @workflow("runs.versions", version="2")
    def second(ctx: Context) -> None: ...

    ids = {first.start(), second.start()}
    other = anything.start()
    assert set(first.runs.values_list("id", flat=True)) == set(second.runs.values_list("id", flat=True)) == ids
    assert set(client.runs().values_list("id", flat=True)) == {*ids, other}


def test_runs_are_filtered_by_state() -> None:
    """`states` takes one or several."""
    asleep, done, failed = anything.start("sleep"), anything.start(), anything.start("fail")
    run_until_idle()
    assert anything.runs.states("failed").get().id == failed
    assert set(anything.runs.states("sleeping", "completed").values_list("id", flat=True)) == {asleep, done}
    assert not anything.runs.states("paused").exists()


def test_runs_are_found_by_their_subject() -> None:
    """Any saved object may be one; two models with equal keys are two subjects, and a deleted one leaves its run."""
    ada, grace = User.objects.create(username="ada"), User.objects.create(username="grace")
    group = Group.objects.create(id=ada.pk, name="programmers")
    effect = Effect.objects.create(name="e")
    ids = {str(subject): anything.using(subject=subject).start() for subject in (ada, grace, group, effect)}
    for subject in (ada, grace, group, effect):
        run_id = ids[str(subject)]
        run = WorkflowRun.objects.for_subject(subject).get()
        assert (run.id, run.subject) == (run_id, subject)
    assert anything.runs.for_subject(ada).states("pending").count() == 1
    proxy = User.objects.only("username").get(id=ada.pk)
    assert WorkflowRun.objects.for_subject(proxy).get().id == ids["ada"]
    label, key = WorkflowRun.objects.filter(id=ids["ada"]).values_list("subject_type", "subject_id").get()
    assert (label, key) == ("auth.User", str(ada.pk))
    ada.delete()
    assert WorkflowRun.objects.get(id=ids["ada"]).subject is None
    run_until_idle()
    assert anything.status(ids["ada"]).state == "completed"


@pytest.mark.once
@pytest.mark.parametrize(
    ("subject", "error"), [(User(username="new"), ValueError), (User, TypeError), ("ada", TypeError), (7, TypeError)]
)
def test_a_subject_that_is_not_saved_is_refused(subject: Any, error: type[Exception]) -> None:
    """An object without a row, or no object at all: refused, naming the argument."""
    with pytest.raises(error, match="subject"):
        anything.using(subject=subject).start()
    with pytest.raises(error, match="subject"):
        WorkflowRun.objects.for_subject(subject)
    assert not WorkflowRun.objects.exists()


ATTRIBUTES: list[dict[str, Any]] = [
    {"city": "Zürich", "size": 1},
    {"city": "zürich", "size": 1.5},
    {"city": "Zurich", "size": True},
    {"city": None, "size": None},
    {"city": "", "size": "1"},
    {"tags": ["a", "b"], "place": {"city": "Bern", "zip": 3000}},
    {"order__state": "odd", "contains": "odd", "in": 1, "a.b": 1, 'quo"te': 1, "$": 1},
    {"order": {"state": "odd"}},
    {},
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"city": "Zürich"}, [0]),
        ({"city": "zürich"}, [1]),
        ({"city": "Zurich"}, [2]),
        ({"city": "ZURICH"}, []),
        ({"city": None}, [3]),
        ({"city": ""}, [4]),
        ({"size": 1}, [0]),
        ({"size": True}, [2]),
        ({"size": False}, []),
        ({"size": "1"}, [4]),
        ({"size": 1.5}, [1]),
        ({"city": "Zürich", "size": 1}, [0]),
        ({"city": "Zürich", "size": 2}, []),
        ({"tags": ["a", "b"]}, [5]),
        ({"tags": ["a"]}, []),
        ({"tags": ["b", "a"]}, []),
        ({"tags": "a"}, []),
        ({"place": {"zip": 3000, "city": "Bern"}}, [5]),
        ({"place": {"city": "Bern"}}, []),
        ({"order__state": "odd"}, [6]),
        ({"contains": "odd"}, [6]),
        ({"in": 1}, [6]),
        ({"a.b": 1}, [6]),
        ({'quo"te': 1}, [6]),
        ({"$": 1}, [6]),
        ({"unknown": 1}, []),
        ({"unknown": None}, []),
        ({}, list(range(9))),
    ],
    ids=str,
)
def test_runs_are_found_by_their_attributes(wanted: dict[str, Any], found: list[int]) -> None:
    """A run matches if it has every attribute with exactly that value, whatever the name; the same on each database."""
    ids = [anything.using(attributes=attributes).start() for attributes in ATTRIBUTES]
    matched = set(anything.runs.with_attributes(**wanted).values_list("id", flat=True))
    assert [number for number, run_id in enumerate(ids) if run_id in matched] == found


def test_runs_are_found_by_attributes_that_the_body_set() -> None:
    """What the run published is found as what it was started with."""

    @workflow("runs.attributes")
    def publishing(ctx: Context) -> None:
        ctx.set_attributes(stage="packed")
        ctx.sleep("nap", HOUR)
        ctx.set_attributes(stage="sent")

    run_id = publishing.using(attributes={"stage": "new"}).start()
    for stage in ("new", "packed", "sent"):
        assert publishing.runs.with_attributes(stage=stage).get().id == run_id
        assert publishing.runs.with_attributes(stage=stage).states(publishing.status(run_id).state).exists()
        advance(HOUR if stage == "packed" else 0)


def test_running_runs_are_found_whoever_owns_them() -> None:
    """By the owner's index, however ids of workers sort."""
    owners = [UUID(int=1), UUID(int=(1 << 128) - 2), *(uuid4() for _ in range(50))]
    runs = [WorkflowRun(workflow="w", state="running", ready=False, owner_id=owner) for owner in owners]
    WorkflowRun.objects.bulk_create(runs)
    assert {*WorkflowRun.objects.states("running").values_list("id", flat=True)} == {run.id for run in runs}
