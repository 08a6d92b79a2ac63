"""Declaring workflows: both forms, sync and async, names and versions, and how they are found."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest

import canx_flow
from canx_flow import (
    AsyncContext,
    CanxFlowError,
    Context,
    DuplicateWorkflow,
    InvalidState,
    Retry,
    RunFailed,
    RunNotFound,
    UnknownWorkflow,
    workflow,
)
from canx_flow.core import registry
from canx_flow.models import WorkflowRun
from canx_flow.testing import advance, run_until_idle

from .processes import ROOT

once = pytest.mark.once
on_database = pytest.mark.django_db


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """This interpreter, in a process of its own, with the suite's settings unless told otherwise."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT / "testproject",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# -- both forms ------------------------------------------------------------------------------------


@on_database
def test_a_decorated_function_and_a_plain_call_are_the_same_thing() -> None:
    """`@workflow(name)` and `workflow(name, function)` make workflows that start, run and answer alike."""

    @workflow("workflow.decorated")
    def decorated(ctx: Context, number: int) -> int:
        return ctx.step("double", lambda: number * 2)

    def function(ctx: Context, number: int) -> int:
        return ctx.step("double", lambda: number * 2)

    called = workflow("workflow.called", function)
    ids = decorated.start(4), called.start(number=4)
    run_until_idle()
    assert [decorated.status(ids[0]).result, called.status(ids[1]).result] == [8, 8]


@on_database
def test_an_async_function_is_a_workflow() -> None:
    """An `async def` workflow awaits step, sleep, sleep_until and wait_for; every other context call is a plain one."""
    plain: dict[str, Any] = {}

    @workflow("workflow.async")
    async def flow(ctx: AsyncContext, number: int, *, factor: int = 3) -> Any:
        plain.update(now=ctx.now(), uuid=ctx.uuid("id"), random=ctx.random.random(), run=ctx.run_id, name=ctx.workflow)
        ctx.set_attributes(phase="begun")
        ctx.progress(1, 2, "half")
        ctx.log.info("begun")
        product = await ctx.step("multiply", lambda: number * factor)
        await ctx.sleep("nap", timedelta(minutes=1))
        await ctx.sleep_until("past", ctx.now() - timedelta(days=1))
        return product, await ctx.wait_for("answer", "answer", timeout=60, default="none")

    run_id = flow.start(5, factor=4)
    advance(timedelta(minutes=3))
    status = flow.status(run_id)
    assert (status.state, status.result) == ("completed", (20, "none"))
    assert status.attributes == {"phase": "begun"}
    assert (plain["run"], plain["name"]) == (run_id, "workflow.async")


@once
def test_a_workflow_keeps_what_describes_its_function() -> None:
    """The docstring, name and module of a function stay readable on its workflow, and its repr names it."""

    @workflow("workflow.described", version="2")
    def described(ctx: Context) -> None:
        """What it is for."""

    assert (described.__doc__, described.__name__) == ("What it is for.", "described")
    assert described.__module__ == __name__
    assert (described.label, repr(described)) == ("workflow.described@2", "<Workflow workflow.described@2>")


@on_database
def test_defaults_of_the_declaration_reach_its_runs() -> None:
    """Version, queue, priority and timeout of the declaration are those of a run that is started without options."""

    @workflow("workflow.defaults", version="7", queue="slow", priority=-5, timeout=timedelta(minutes=2))
    def flow(ctx: Context) -> None:
        pass

    run = WorkflowRun.objects.get(id=flow.start())
    assert (run.version, run.queue, run.priority, run.timeout) == ("7", "slow", -5, 120.0)


@on_database
def test_without_options_a_run_has_the_plain_defaults() -> None:
    """Unset, a run is of the unversioned workflow, in the queue `default`, of priority 0 and without a deadline."""

    @workflow("workflow.plain")
    def flow(ctx: Context) -> None:
        pass

    run = WorkflowRun.objects.get(id=flow.start())
    assert (run.version, run.queue, run.priority, run.timeout) == ("", "default", 0, None)


# -- refused at the declaration --------------------------------------------------------------------


def _body(ctx: Context) -> None:
    pass


@once
@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        (_body, {}, TypeError, "needs a name"),
        (None, {}, TypeError, "needs a name"),
        ("", {}, ValueError, "workflow name must not be empty"),
        (" order", {}, ValueError, "workflow name ' order' must not begin or end with blanks"),
        ("or\x00der", {}, ValueError, "control characters"),
        ("order@2", {}, ValueError, "must not contain @"),
        ("x" * 201, {}, ValueError, "201 characters, at most 200"),
        ("w", {"version": "1\n"}, ValueError, "version"),
        ("w", {"version": 2}, TypeError, "version must be a str"),
        ("w", {"version": 0}, TypeError, "version must be a str"),
        ("w", {"version": None}, TypeError, "version must be a str"),
        ("w", {"queue": ""}, ValueError, "queue must not be empty"),
        ("w", {"queue": "x" * 101}, ValueError, "queue has 101 characters"),
        ("w", {"priority": 101}, ValueError, "priority must be between -100 and 100, not 101"),
        ("w", {"priority": -101}, ValueError, "priority must be between -100 and 100, not -101"),
        ("w", {"priority": 1.0}, TypeError, "priority must be an int"),
        ("w", {"priority": True}, TypeError, "priority must be an int"),
        ("w", {"retry": 3}, TypeError, "retry must be a Retry"),
        ("w", {"timeout": 0}, ValueError, "timeout must be above zero"),
        ("w", {"timeout": -1}, ValueError, "timeout must be above zero"),
        ("w", {"timeout": float("inf")}, ValueError, "timeout must be above zero and finite"),
        ("w", {"timeout": "60"}, TypeError, "timeout must be a timedelta or a number of seconds"),
    ],
)
def test_a_bad_declaration_is_refused_where_it_stands(
    name: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    """A bad name, version, queue, priority, policy or timeout is refused at import, naming the argument."""
    before = registry.labels()
    with pytest.raises(error, match=says):
        workflow(name, **options)(_body)  # type: ignore[call-overload]
    assert registry.labels() == before


@once
def test_something_that_cannot_be_called_is_no_workflow() -> None:
    """What is decorated must be callable: the refusal names the workflow and what it got."""
    with pytest.raises(TypeError, match=r"'workflow\.number' needs a function, not int"):
        workflow("workflow.number", 3)  # type: ignore[call-overload]


def _generates(ctx: Context) -> Any:
    yield ctx.step("never", list)


async def _generates_async(ctx: AsyncContext) -> Any:
    yield await ctx.step("never", list)


class _Callable:
    """Objects that are called as workflows are."""

    def generates(self, ctx: Context) -> Any:
        """Runs nothing when it is called."""
        yield ctx.step("never", list)

    async def __call__(self, ctx: AsyncContext, value: str) -> str:
        """Is awaited."""
        return await ctx.step("echo", str, value)


@once
@pytest.mark.parametrize("function", [_generates, _generates_async, _Callable().generates, partial(_generates)])
def test_a_generator_is_no_workflow(function: Any) -> None:
    """Calling it runs nothing: TypeError names it where it is declared."""
    with pytest.raises(TypeError, match=r"(?s)workflow 'workflow\.generator' needs .*generates.* is a generator"):
        workflow("workflow.generator", function)
    assert registry.get("workflow.generator") is None


@once
@pytest.mark.parametrize("function", [lambda: 1, lambda *, ctx: ctx, lambda **more: more])
def test_a_function_that_takes_no_context_is_no_workflow(function: Any) -> None:
    """It could not be called: TypeError where it is declared, not in each of its runs."""
    with pytest.raises(TypeError, match="takes a context"):
        workflow("workflow.no-context", function)
    assert registry.get("workflow.no-context") is None


@on_database
@once
@pytest.mark.parametrize("function", [_Callable(), partial(_Callable()), _Callable().__call__])
def test_what_is_async_in_whatever_shape_is_awaited(function: Any) -> None:
    """An object with an async `__call__`, a partial or a method of one: it is given an AsyncContext."""
    flow = workflow("workflow.async-shape", function)
    try:
        assert flow.is_async
        run_id = flow.start("a")
        run_until_idle()
        assert flow.result(run_id) == "a"
    finally:
        registry.forget("workflow.async-shape")


@on_database
def test_an_async_function_behind_a_decorator_without_wraps_is_awaited() -> None:
    """It looks plain until it is called; then its body runs, once, and the next run is taken for async at once."""
    calls: list[Any] = []

    def plain_looking(function: Any) -> Any:
        def inner(*args: Any) -> Any:
            calls.append(type(args[0]))
            return function(*args)

        return inner

    async def body(ctx: AsyncContext, value: str) -> list[str]:
        return [await ctx.step("one", str, value), await ctx.step("two", str, value)]

    flow = workflow("workflow.no-wraps", plain_looking(body))
    run_id = flow.start("a")
    run_until_idle()
    assert flow.result(run_id) == ["a", "a"]
    assert calls == [Context, AsyncContext]
    again = flow.start("b")
    run_until_idle()
    assert flow.result(again) == ["b", "b"]
    assert calls == [Context, AsyncContext, AsyncContext]


@on_database
@once
def test_a_plain_workflow_that_returns_an_awaitable_costs_its_own_run_only() -> None:
    """It has used its context as a plain one: that run fails with what cannot be stored, and no other changes."""

    async def rate() -> int:
        return 1

    def body(ctx: Context, forgotten: bool) -> Any:
        value = ctx.step("one", str, "a")
        return rate() if forgotten else value.upper()

    flow = workflow("workflow.returns-awaitable", body)
    bad, good = flow.start(True), flow.start(False)
    run_until_idle()
    assert not flow.is_async
    assert flow.result(good) == "A"
    with pytest.raises(RunFailed, match=r"NotSerializable.*coroutine.*await it"):
        flow.result(bad)


@on_database
@once
def test_an_async_workflow_may_answer_without_being_awaited() -> None:
    """A decorator of an async workflow that returns something by itself, as a cached answer, completes the run."""

    async def body(ctx: AsyncContext) -> str:
        return await ctx.step("one", str, "a")

    @wraps(body)
    def cached(ctx: AsyncContext) -> str:
        return "cached"

    flow = workflow("workflow.cached", cached)
    assert flow.is_async
    run_id = flow.start()
    run_until_idle()
    assert flow.result(run_id) == "cached"


# -- names -----------------------------------------------------------------------------------------


@once
def test_the_same_name_twice_is_an_error() -> None:
    """Two functions of one name and version are refused at import, and the message names both places."""

    @workflow("workflow.twice")
    def first(ctx: Context) -> None:
        pass

    def second(ctx: Context) -> None:
        pass

    with pytest.raises(DuplicateWorkflow, match=r"'workflow\.twice'.*first.*second"):
        workflow("workflow.twice", second)
    assert registry.get("workflow.twice") is first


@once
def test_another_version_of_a_name_is_no_duplicate() -> None:
    """One name may have many versions, and each of them only once."""

    def first(ctx: Context) -> None:
        pass

    def second(ctx: Context) -> None:
        pass

    one = workflow("workflow.versions", first, version="1")
    two = workflow("workflow.versions", second, version="2")
    assert (registry.get("workflow.versions", "1"), registry.get("workflow.versions", "2")) == (one, two)
    with pytest.raises(DuplicateWorkflow, match=r"workflow\.versions@1"):
        workflow("workflow.versions", second, version="1")


@once
def test_two_functions_of_one_name_in_one_module_are_two() -> None:
    """A second function that took the first one's name, too, is refused: both lines are named, and the first counts."""

    @workflow("workflow.shadowed")
    def flow(ctx: Context) -> int:
        return 1

    first = flow
    with pytest.raises(DuplicateWorkflow, match=r"flow \(line \d+\) and .*flow \(line \d+\)"):

        @workflow("workflow.shadowed")
        def flow(ctx: Context) -> int:
            return 2

    assert registry.get("workflow.shadowed") is first


@once
def test_two_lambdas_are_two() -> None:
    """Functions without a name of their own are told apart by their code."""
    workflow("workflow.lambda", lambda _ctx: 1)
    with pytest.raises(DuplicateWorkflow, match=r"workflow\.lambda"):
        workflow("workflow.lambda", lambda _ctx: 2)


@once
def test_a_definition_that_is_run_again_replaces_itself() -> None:
    """A function that declares a workflow, a test for instance, may be called any number of times."""

    def declare(number: int) -> Any:
        @workflow("workflow.again")
        def flow(ctx: Context) -> int:
            return number

        return flow

    declare(1)
    assert declare(2) is registry.get("workflow.again")


@once
def test_partials_are_told_apart_by_what_they_add() -> None:
    """The same function with other arguments is another workflow; with the same ones it is the same."""

    def flow(number: int, ctx: Context) -> int:
        return number

    workflow("workflow.partial", partial(flow, 1))
    again = workflow("workflow.partial", partial(flow, 1))
    with pytest.raises(DuplicateWorkflow, match=r"workflow\.partial"):
        workflow("workflow.partial", partial(flow, 2))
    assert registry.get("workflow.partial") is again


_ONE = """from canx_flow import workflow

@workflow("workflow.reloaded")
def flow(ctx):
    return 1
"""
_LAMBDA = """from canx_flow import workflow

flow = workflow("workflow.reloaded", lambda ctx: 1)
"""
_PARTIAL = """from functools import partial, wraps
from canx_flow import workflow

def body(argument, ctx):
    return 1

flow = workflow("workflow.reloaded", partial(body, object()))
"""
RELOADED = {
    "unchanged": (_ONE, _ONE),
    "changed": (_ONE, _ONE.replace("1", "2")),
    "moved down": (_ONE, f"# a line more\n{_ONE}"),
    "moved and changed": (_ONE, f"# a line more\n{_ONE.replace('1', '2')}"),
    "a lambda": (_LAMBDA, f"# a line more\n{_LAMBDA.replace('1', '2')}"),
    "a partial": (_PARTIAL, f"# a line more\n{_PARTIAL.replace('1', '2')}"),
}


@once
@pytest.mark.parametrize("form", RELOADED)
@pytest.mark.parametrize("again", ["reloaded", "imported anew"])
def test_the_same_function_reloaded_replaces_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, again: str
) -> None:
    """Reloading a module declares its workflows anew instead of failing, and the new function counts."""
    module = tmp_path / "reloaded_workflows.py"
    before, after = RELOADED[form]
    module.write_text(before)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loaded = importlib.import_module("reloaded_workflows")
    try:
        module.write_text(f"{after}# longer\n")
        if again == "reloaded":
            importlib.reload(loaded)
        else:
            del sys.modules["reloaded_workflows"]
            loaded = importlib.import_module("reloaded_workflows")
        known = registry.get("workflow.reloaded")
        assert known is loaded.flow
        assert known.function(None) == (2 if "2" in after else 1)
    finally:
        registry.forget("workflow.reloaded")
        del sys.modules["reloaded_workflows"]


@once
def test_a_module_that_declares_a_name_twice_does_not_reload_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reloading excuses a function from before, not a second one beside it."""
    module = tmp_path / "twice_workflows.py"
    source = _ONE.replace("workflow.reloaded", "workflow.twice-reloaded")
    module.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loaded = importlib.import_module("twice_workflows")
    try:
        module.write_text(source + source)
        with pytest.raises(DuplicateWorkflow, match=r"twice-reloaded.*line 3.*line 8"):
            importlib.reload(loaded)
    finally:
        registry.forget("workflow.twice-reloaded")
        del sys.modules["twice_workflows"]


@once
def test_a_shell_may_declare_a_workflow_as_often_as_it_likes() -> None:
    """What is typed belongs to no module that could be loaded: the last one typed counts."""
    typed = "from canx_flow import workflow\n@workflow('workflow.typed')\ndef flow(ctx):\n    return {}\n"
    names: dict[str, Any] = {"__name__": "__console__"}
    for value in (1, 2):
        exec(typed.format(value), names)
    try:
        known = registry.get("workflow.typed")
        assert known is names["flow"]
        assert known.function(None) == 2
    finally:
        registry.forget("workflow.typed")


@on_database
def test_renaming_the_function_orphans_no_run() -> None:
    """The name is what is stored: a run goes on under a function of another name."""

    @workflow("workflow.renamed")
    def old_name(ctx: Context) -> str:
        ctx.sleep("nap", 60)
        return "old"

    run_id = old_name.start()
    run_until_idle()
    registry.forget("workflow.renamed")

    @workflow("workflow.renamed")
    def new_name(ctx: Context) -> str:
        ctx.sleep("nap", 60)
        return "new"

    advance(60)
    assert new_name.status(run_id).result == "new"


# -- versions side by side -------------------------------------------------------------------------


@on_database
def test_versions_run_side_by_side() -> None:
    """A run keeps the version it was started with, also after another one was deployed beside it."""

    @workflow("workflow.side-by-side", version="1")
    def old(ctx: Context) -> str:
        ctx.sleep("nap", 60)
        return "one"

    first = old.start()
    run_until_idle()

    @workflow("workflow.side-by-side", version="2")
    def new(ctx: Context) -> str:
        ctx.sleep("nap", 60)
        return "two"

    second = new.start()
    run_until_idle()
    advance(60)
    assert [old.status(first).result, new.status(second).result] == ["one", "two"]
    assert [old.status(first).version, new.status(second).version] == ["1", "2"]


@on_database
def test_calls_about_a_run_span_the_versions_of_its_workflow() -> None:
    """Status, control calls, keys and `runs` take a workflow by name; only `start` chooses a version."""

    @workflow("workflow.span", version="1")
    def old(ctx: Context) -> None:
        ctx.wait_for("answer", "answer")

    @workflow("workflow.span", version="2")
    def new(ctx: Context) -> None:
        ctx.wait_for("answer", "answer")

    run_id = old.using(key="order-7").start()
    assert new.using(key="order-7").start() == run_id
    assert new.status(run_id).version == "1"
    assert set(new.runs) == set(old.runs) == set(WorkflowRun.objects.filter(id=run_id))
    assert new.pause(run_id)
    assert new.resume(run_id)
    assert new.send(run_id, "answer")
    assert new.cancel(run_id)
    assert old.status(run_id).state == "cancelled"


@on_database
def test_rerun_keeps_the_version_of_the_run() -> None:
    """`rerun` starts the run's own version, whichever version of the workflow is asked."""

    @workflow("workflow.rerun-version", version="1")
    def old(ctx: Context) -> str:
        return "one"

    @workflow("workflow.rerun-version", version="2")
    def new(ctx: Context) -> str:
        return "two"

    again = new.rerun(old.start())
    run_until_idle()
    assert (old.status(again).version, old.status(again).result) == ("1", "one")


@on_database
def test_a_run_of_another_workflow_is_not_found() -> None:
    """Asked through another workflow, a run does not exist, and nothing happens to it."""

    @workflow("workflow.mine")
    def mine(ctx: Context) -> None:
        ctx.wait_for("answer", "answer")

    @workflow("workflow.other")
    def other(ctx: Context) -> None:
        pass

    run_id = mine.start()
    calls: list[Callable[[], Any]] = [
        lambda: other.status(run_id),
        lambda: other.result(run_id),
        lambda: other.cancel(run_id),
        lambda: other.retry(run_id),
        lambda: other.rerun(run_id),
        lambda: other.pause(run_id),
        lambda: other.resume(run_id),
        lambda: other.wake(run_id),
        lambda: other.send(run_id, "answer"),
    ]
    for call in calls:
        with pytest.raises(RunNotFound, match=f"no run {run_id} of workflow 'workflow.other'"):
            call()
    assert mine.status(run_id).state == "pending"
    assert WorkflowRun.objects.count() == 1


@once
def test_resolve_takes_the_unversioned_or_the_highest_in_natural_order() -> None:
    """A bare name is the unversioned workflow, else the highest version, in which v10 follows v9; `@` picks one."""

    def body(ctx: Context) -> None:
        pass

    versions = ["v1", "v9", "v10", "v10-beta", "v9.12"]
    for version in versions:
        workflow("workflow.resolved", body, version=version)
    try:
        assert registry.resolve("workflow.resolved").version in {"v10", "v10-beta"}
        registry.forget("workflow.resolved", "v10-beta")
        assert registry.resolve("workflow.resolved").version == "v10"
        registry.forget("workflow.resolved", "v10")
        assert registry.resolve("workflow.resolved").version == "v9.12"
        assert registry.resolve("workflow.resolved@v1").version == "v1"
        workflow("workflow.resolved", body)
        assert registry.resolve("workflow.resolved").version == ""
        assert registry.resolve("workflow.resolved@v9").version == "v9"
        with pytest.raises(UnknownWorkflow, match=r"No workflow named 'workflow\.resolved@v2' is registered"):
            registry.resolve("workflow.resolved@v2")
    finally:
        for version in ["", *versions]:
            registry.forget("workflow.resolved", version)
    with pytest.raises(UnknownWorkflow, match="Known: "):
        registry.resolve("workflow.resolved")


@once
@pytest.mark.parametrize(
    "ascending",
    [
        ["1", "2", "10"],
        ["v9", "v10"],
        ["1.9.0", "1.10.0", "2.0.0"],
        ["2024-12-01", "2025-02-01", "2025-10-01"],
        ["a", "a1", "b"],
        ["1", "1a", "2"],
    ],
)
def test_natural_order_counts_numbers_as_numbers(ascending: list[str]) -> None:
    """Digits compare as numbers, everything between them as text; numbers and text compare with each other."""
    assert sorted([*ascending[1:], ascending[0]], key=registry.natural) == ascending


@once
@pytest.mark.parametrize("version", ["²", "٣", "v²-1", "", "1.²"])
def test_natural_order_takes_every_version(version: str) -> None:
    """Digits that are no decimal numbers are text: no version that may be declared breaks the order."""
    assert sorted(["1", version, "a"], key=registry.natural)


# -- discovery -------------------------------------------------------------------------------------


@once
def test_every_installed_app_is_searched_for_workflows() -> None:
    """Starting Django imports the `workflows` module of every installed app, and nobody else has to."""
    found = _python("import django; django.setup(); from canx_flow.core import registry; print(*registry.labels())")
    assert found.returncode == 0, found.stderr
    assert {"tests.two-steps", "subscription", "order-processing"} <= set(found.stdout.split())


def _apps(folder: Path, **sources: str) -> subprocess.CompletedProcess[str]:
    """Django started with apps of these names, whose `workflows` modules hold these sources."""
    for name, source in sources.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
        (folder / name / "workflows.py").write_text(source)
    code = f"""
import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["canx_flow", *{list(sources)!r}], USE_TZ=True)
django.setup()
from canx_flow.core import registry
print(*registry.labels())
"""
    return _python(code, PYTHONPATH=f"{ROOT}{os.pathsep}{folder}")


_FLOW = "from canx_flow import workflow\n\n@workflow({name!r})\ndef {function}(ctx):\n    pass\n"


@once
def test_two_apps_with_one_name_stop_django_from_starting(tmp_path: Path) -> None:
    """The same name in two apps is an error at start-up that names both functions."""
    one = _FLOW.format(name="order", function="order")
    failed = _apps(tmp_path, shop_one=one, shop_two=one)
    assert failed.returncode == 1
    assert "DuplicateWorkflow: Two workflows are named 'order'" in failed.stderr
    assert "shop_one.workflows.order" in failed.stderr
    assert "shop_two.workflows.order" in failed.stderr


@once
def test_an_app_whose_workflows_do_not_import_stops_django_from_starting(tmp_path: Path) -> None:
    """An error in a `workflows` module is shown, not swallowed: its runs would be parked for nothing."""
    failed = _apps(tmp_path, broken="import canx_flow_no_such_module\n")
    assert failed.returncode == 1
    assert "canx_flow_no_such_module" in failed.stderr


@once
def test_apps_without_workflows_are_no_matter(tmp_path: Path) -> None:
    """An app needs no `workflows` module."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "__init__.py").touch()
    found = _apps(tmp_path, front=_FLOW.format(name="order", function="order"))
    assert (found.returncode, found.stdout.split()) == (0, ["order"]), found.stderr


# -- what is at hand -------------------------------------------------------------------------------


@once
def test_every_error_is_a_canx_flow_error() -> None:
    """All errors derive from CanxFlowError, so one `except` catches them; the timeouts are TimeoutErrors too."""
    errors = [value for value in vars(canx_flow).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert errors
    assert all(issubclass(error, CanxFlowError) for error in errors)
    assert issubclass(canx_flow.StepTimeout, TimeoutError)
    assert issubclass(canx_flow.WaitTimeout, TimeoutError)


@on_database
def test_the_workflow_s_policy_is_that_of_its_steps() -> None:
    """`retry=` of the declaration decides for steps that say nothing themselves."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ValueError("no")

    @workflow("workflow.policy", retry=Retry(max_attempts=3, initial=1, factor=1, jitter=0))
    def flow(ctx: Context) -> None:
        ctx.step("fail", fail)

    run_id = flow.start()
    advance(60)
    assert flow.status(run_id).state == "failed"
    assert len(calls) == 3
    with pytest.raises(InvalidState):
        flow.retry(flow.start())
