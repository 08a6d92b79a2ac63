"""The pages of workflows: which there are, and the graph of what their runs have done."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from canx_flow import Context, Retry, workflow
from canx_flow.core import clock
from canx_flow.insight import graph, own_way, paths
from canx_flow.insight.graph import Path, Seen
from canx_flow.models import StepRecord, Worker, WorkflowRun
from canx_flow.testing import run_until_idle

from . import runs
from .conftest import VIEW, Person, url
from .runs import at_rest
from .test_csp import forbidden
from .test_subjects import SECRET

pytestmark = pytest.mark.django_db


@workflow("admin.graph")
def graphed(ctx: Context, fails: bool) -> None:
    """Do two things side by side.

    Then each item.
    """
    ctx.step("fetch", lambda: SECRET)
    ctx.gather(
        left=lambda own: own.step("reserve", lambda: 1),
        right=lambda own: own.step("authorise", lambda: 1),
    )
    ctx.map("ship", lambda item: item, [1, 2, 3])
    if fails:
        ctx.step("hopeless", lambda: runs.fail(SECRET), retry=Retry(max_attempts=1))
    ctx.step("done", lambda: 1)


def some_runs() -> None:
    """Three that complete, and one that fails."""
    for fails in (False, False, False, True):
        graphed.start(fails)
    run_until_idle()


def test_the_graph_is_made_from_what_runs_have_come_to() -> None:
    """Branches part and meet, items are one node, ends are where runs ended, failures are on the edge to them."""
    some_runs()
    made = paths.of_workflow("admin.graph", paths.newest("admin.graph"))
    ways = {pair: (edge.runs, edge.failed) for pair, edge in made.edges.items()}
    assert ways == {
        ("#start", "fetch"): (4, 0),
        ("fetch", "left/reserve"): (4, 0), ("fetch", "right/authorise"): (4, 0),
        ("left/reserve", "ship"): (4, 0), ("right/authorise", "ship"): (4, 0),
        ("ship", "done"): (3, 0), ("done", "#completed"): (3, 0),
        ("ship", "hopeless"): (1, 1), ("hopeless", "#failed"): (1, 1),
    }  # fmt: skip
    assert made.nodes["ship"].kind == "map"


def test_a_workflow_has_a_page_with_its_graph(viewer: Client) -> None:
    """Docstring, figures, an SVG and the same as a table; nothing inline, and nothing that runs were given."""
    some_runs()
    content = viewer.get(url("workflow", "admin.graph")).content.decode()
    assert "Do two things side by side." in content
    assert content.count('class="canx-node ') == 9
    assert "<title>ship → hopeless: 1, 100 % fail</title>" in content
    assert '<th scope="row">ship</th><td>done</td><td>3</td><td>0</td>' in content
    assert forbidden(content) == []
    assert " style=" not in content
    assert SECRET not in content


def test_workflows_are_listed(viewer: Client) -> None:
    """Those of the code, and those that the code knows no more."""
    run_id = at_rest("sleep")
    WorkflowRun.objects.filter(id=run_id).update(workflow="admin.removed")
    assert url("workflows") in viewer.get(url("changelist"), {"state": "all"}).content.decode()
    content = viewer.get(url("workflows")).content.decode()
    assert url("workflow", "admin.graph") in content
    assert "not in this code" in content
    assert viewer.get(url("workflow", "admin.removed")).status_code == 200
    assert viewer.get(url("workflow", "admin.never")).status_code == 404


def test_pages_of_workflows_need_the_permission_to_view_runs(person: Person) -> None:
    """By their addresses, too."""
    client = person("view_worker")
    for address in (url("workflows"), url("workflow", "admin.graph")):
        assert client.get(address).status_code == 403


def test_the_page_asks_as_often_for_many_runs(viewer: Client) -> None:
    """However many runs and records there are."""
    asked = []
    for _ in range(2):
        some_runs()
        with CaptureQueriesContext(connection) as queries:
            viewer.get(url("workflow", "admin.graph"))
        asked.append(len(queries))
    assert asked[0] == asked[1]


def test_a_loop_is_drawn_once_and_the_same_every_time(viewer: Client) -> None:
    """Uses of a name in a loop are one node; two drawings of the same records are the same."""
    runs.many_steps.start(5)
    run_until_idle()
    first, second = (viewer.get(url("workflow", "admin.many-steps")).content.decode() for _ in range(2))
    svgs = [re.findall(r"<svg.*?</svg>", content, re.DOTALL) for content in (first, second)]
    assert svgs[0] == svgs[1]
    assert first.count('class="canx-node ') == 3


def test_a_runs_page_has_the_graph_with_where_it_stands(viewer: Client) -> None:
    """What it has done and where it waits are marked, and its way; the table says so in words."""
    at_rest("fail", note="x")
    run_id = at_rest("wait")
    content = viewer.get(url("change", run_id)).content.decode()
    graphed = content[content.index('id="canx-graph"') :]
    assert re.findall(r"canx-mark-(\w+)", graphed) == ["done", "here"]
    assert graphed.count('class="canx-edge canx-edge-walked"') == 2
    assert "canx-edge canx-edge-bad" in graphed
    assert "<td>this run is here</td>" in graphed
    assert f'href="{url("workflow", "admin.any")}"' in content
    assert SECRET not in graphed


def test_an_ended_run_is_marked_at_its_end(viewer: Client) -> None:
    """With the step that failed; of an id that is none nothing is marked."""
    run_id = at_rest("fail", note="x")
    for address in (url("change", run_id), f"{url('workflow', 'admin.any')}?run={run_id}"):
        content = viewer.get(address).content.decode()
        assert re.findall(r"canx-mark-(\w+)", content) == ["done", "failed", "ended"]
        assert "<title>failed, this run ended so</title>" in content
    assert "canx-mark" not in viewer.get(url("workflow", "admin.any"), {"run": "none"}).content.decode()


def test_who_may_not_see_steps_is_not_shown_the_way_of_a_run(person: Person) -> None:
    """The page of the workflow tells no more of it than its own page does."""
    run_id = at_rest("sleep")
    for permissions, shown in (((VIEW, "view_steprecord"), True), ((VIEW,), False)):
        client = person(*permissions, name=f"{len(permissions)}")
        content = client.get(url("workflow", "admin.any"), {"run": str(run_id)}).content.decode()
        assert ("canx-mark" in content) is shown


def test_a_run_is_marked_where_its_worker_is(viewer: Client) -> None:
    """In the step that is called, which has no record yet; before that, at the start, where others have gone on."""
    at_rest()
    run_id = runs.running()
    marks = re.findall(r"canx-node canx-mark-(\w+) canx-node-(\w+)", viewer.get(url("change", run_id)).content.decode())
    assert marks == [("here", "start")]
    activity = json.dumps({str(run_id): {"step": "pack", "since": clock.now().isoformat()}})
    Worker.objects.update(activity=activity)
    content = viewer.get(url("change", run_id)).content.decode()
    assert "<title>pack, step, 1 times in 1 run, 1 is here now, this run is here</title>" in content


def test_the_graph_is_for_who_may_see_steps(person: Person) -> None:
    """On the page of a run, whose steps are hidden."""
    run_id = at_rest("wait")
    assert "canx-graph" not in person("view_workflowrun").get(url("change", run_id)).content.decode()


def test_a_runs_page_reads_the_graph_of_its_workflow_once(viewer: Client) -> None:
    """It is kept for some seconds; the way of the run is not."""
    run_id = at_rest("wait")
    viewer.get(url("change", run_id))
    with CaptureQueriesContext(connection) as queries:
        viewer.get(url("change", run_id))
    assert not [query for query in queries if "r.id, s.seq" in query["sql"]]
    runs.anything.send(run_id, "answered", 1)
    run_until_idle()
    assert "this run ended so" in viewer.get(url("change", run_id)).content.decode()


def test_the_graph_says_how_long_steps_take(viewer: Client) -> None:
    """Half of those that have completed; in the box, its title and the table."""
    some_runs()
    record = StepRecord.objects.filter(name="fetch").first()
    assert record is not None
    StepRecord.objects.filter(name="fetch").update(finished_at=record.started_at + timedelta(seconds=90))
    StepRecord.objects.filter(name="fetch").update(started_at=record.started_at)
    content = viewer.get(url("workflow", "admin.graph")).content.decode()
    assert "step · 4 runs · 1 min<" in content
    assert "<title>fetch, step, 4 times in 4 runs, half of them took up to 1 min 30 s</title>" in content
    assert re.search(r'<th scope="row">fetch</th>(<td>[^<]*</td>){4}<td>1 min 30 s</td>', content)


def test_no_more_records_are_read_than_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run by run, the newest first; the last one, of which there may be more, is left out."""
    some_runs()
    monkeypatch.setattr(paths, "MOST_RECORDS", 15)
    with CaptureQueriesContext(connection) as queries:
        made = paths.of_workflow("admin.graph", paths.newest("admin.graph"))
    assert made.runs == 1
    assert made.nodes["hopeless"].runs == 1
    assert len(queries) == 2


@pytest.mark.once
def test_a_way_that_the_graph_does_not_have_is_added_to_it() -> None:
    """Its nodes and edges; of very many the last ones, and of a loop one."""
    step = ("step", "completed")
    others = graph.draw([Path("completed", [Seen(1, "a", *step), Seen(2, "b", *step)])])
    own = Path("sleeping", [Seen(1, "a", *step), Seen(2, "c", *step), Seen(3, "nap", "sleep", "open")])
    marked = own_way.marked(others, own, whole=True)
    assert marked.marks == {"a": "done", "c": "done", "nap": "here"}
    assert {*marked.way} == {("#start", "a"), ("a", "c"), ("c", "nap")}
    assert {*marked.edges} == {*marked.way, ("a", "b"), ("b", "#completed")}
    assert [*others.nodes] == ["a", "b"]
    many = Path("running", [Seen(number, f"step {number}", *step) for number in range(500)])
    assert len(own_way.marked(others, many, whole=True).nodes) == 2 + graph.MOST_NODES
    loop = Path(
        "running", [Seen(number, f"again#{number}" if number > 1 else "again", *step) for number in range(1, 500)]
    )
    assert own_way.marked(others, loop, whole=False).marks == {"again": "last"}
