"""`flow show` of runs with branches, items and children."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command

from canx_flow import Context, Retry, workflow
from canx_flow.core import registry
from canx_flow.models import WorkflowRun
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db


def _child(ctx: Context) -> str:
    return str(ctx.wait_for("word", "word"))


def _fails(_item: int) -> None:
    raise ValueError("bad row")


def _parent(ctx: Context) -> Any:
    child = registry.get("families.child", "")

    def left(own: Context) -> None:
        own.step("reserve", str, "cups")
        own.sleep("nap", 60)

    ctx.gather(left=left, right=lambda own: own.step("charge", str, 12))
    ctx.map("ship", _fails, range(2), tolerate=2, retry=Retry(max_attempts=1))
    ctx.race(short=lambda own: own.sleep("nap", 60), calls=lambda own: own.call("ask", child))  # type: ignore[arg-type]
    ctx.spawn("beside", child)  # type: ignore[arg-type]
    return ctx.wait_for("end", "end")


@pytest.fixture
def run() -> Iterator[WorkflowRun]:
    """A run that has gone through all of that, and waits."""
    workflow("families.child", _child)
    parent = workflow("families.parent", _parent)
    run_id = parent.start()
    run_until_idle()
    advance(120)
    yield WorkflowRun.objects.get(id=run_id)
    registry.forget("families.child")
    registry.forget("families.parent")


def _shown(run: WorkflowRun, *arguments: str) -> str:
    out = io.StringIO()
    call_command("flow", "show", str(run.id), *arguments, stdout=out)
    return out.getvalue()


def test_each_branch_and_item_has_its_line_under_its_own_key(run: WorkflowRun) -> None:
    """With what it has come to; what has lost is closed, and what was decided has a line, too."""
    words = [line.split() for line in _shown(run).splitlines()]
    states = {two[0]: two[1] for line in words if len(two := [word for word in line if word not in "✓✗◦"]) > 1}
    for key, word in [
        ("left/reserve", "completed"), ("left/nap", "completed"), ("right/charge", "completed"), ("ship", "completed"),
        ("ship[0]", "failed"), ("ship[1]", "failed"), ("short/nap", "completed"), ("calls/ask", "closed"),
        ("beside", "completed"), ("end", "waiting"),
    ]:  # fmt: skip
        assert states[key] == word, key


def test_children_are_listed_with_how_they_stand(run: WorkflowRun) -> None:
    """The oldest first; `--json` has them, too, and the child names its parent."""
    lost, beside = WorkflowRun.objects.filter(parent_id=run.id).order_by("id")
    text = _shown(run)
    below = text[text.index("children\n") :]
    assert [line.split()[0] for line in below.splitlines()[1:3]] == [str(lost.id), str(beside.id)]
    assert "cancelled" in below.splitlines()[1]
    assert "waiting" in below.splitlines()[2]
    found = json.loads(_shown(run, "--json"))
    assert [(child["id"], child["state"]) for child in found["children"]] == [
        (str(lost.id), "cancelled"), (str(beside.id), "waiting"),
    ]  # fmt: skip
    assert _shown(lost).count(str(run.id)) == 1


def test_all_that_branches_wait_for_is_told(run: WorkflowRun) -> None:
    """Each below its own line: the timer, the child, the event."""

    def waits(ctx: Context) -> None:
        child = registry.get("families.child", "")
        ctx.gather(
            naps=lambda own: own.sleep("nap", 60),
            calls=lambda own: own.call("ask", child),  # type: ignore[arg-type]
            reads=lambda own: own.wait_for("read", "news"),
        )

    run_id = workflow("families.waits", waits).start()
    run_until_idle()
    text = _shown(WorkflowRun.objects.get(id=run_id))
    child = WorkflowRun.objects.get(parent_id=run_id)
    steps = text[text.index("took") :]
    after = {key: steps[steps.index(key) :].splitlines()[1] for key in ("naps/nap", "calls/ask", "reads/read")}
    assert "in 60 s" in after["naps/nap"] or "in 1 min" in after["naps/nap"]
    assert str(child.id) in after["calls/ask"]
    assert "news" in after["reads/read"]
    assert f"manage.py flow send {run_id} news JSON" in text
    registry.forget("families.waits")
