"""The check of workflow bodies: what it finds in `bodies.py`, what it says, and that it stays out of the way."""

from __future__ import annotations

import linecache
import re
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks

from canx_flow import workflow
from canx_flow.checks import impure
from canx_flow.checks.reading import Reader

from . import bodies

pytestmark = pytest.mark.once

SOURCE = Path(bodies.__file__).read_text().splitlines()
FUNCTIONS = {
    "every_function": bodies.every_function,
    "arguments_are_body": bodies.arguments_are_body,
    "nested_bodies": bodies.nested_bodies,
    "helpers_of_the_module": bodies.helpers_of_the_module,
    "asynchronous": bodies.asynchronous,
    "imports_of_its_own": bodies.imports_of_its_own,
    "other_names": bodies.other_names,
    "everywhere_in_a_statement": bodies.everywhere_in_a_statement,
    "behind_decorators": bodies.behind_decorators,
    "a method": bodies.Flows().method,
    "a class method": bodies.Flows.of_the_class,
    "a static method": bodies.Flows.static,
    "an object": bodies.Flows(),
    "a closure": bodies.closure,
    "a lambda": bodies.one_lambda,
    "one of two lambdas": bodies.two_in_a_line[1],
    "a partial": bodies.bound_with_partial,
    "acting": bodies.acting,
    "acting_async": bodies.acting_async,
}
CLEAN = {
    "nothing_wrong": bodies.nothing_wrong,
    "nested_steps": bodies.nested_steps,
    "names_of_its_own": bodies.names_of_its_own,
    "only_reading": bodies.only_reading,
    "the other of two lambdas": bodies.two_in_a_line[0],
}
WARNED = {number: line.partition("# warned: ")[2] for number, line in enumerate(SOURCE, 1) if "# warned: " in line}


def _found(function: Any) -> dict[int, str]:
    """Line and name of each finding."""
    findings = Reader().read(function)
    assert {finding.file for finding in findings} <= {bodies.__file__}
    found = {finding.line: finding.impure.name for finding in findings}
    assert len(found) == len(findings)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_found_is_what_the_lines_say(name: str) -> None:
    """Every finding of a body stands in a line that is marked with it."""
    found = _found(FUNCTIONS[name])
    assert found
    assert found == {line: WARNED.get(line) for line in found}


def test_every_marked_line_is_found() -> None:
    """No marked line is missed by all the bodies together."""
    found = {line: name for function in FUNCTIONS.values() for line, name in _found(function).items()}
    assert found == WARNED


@pytest.mark.parametrize("name", CLEAN)
def test_steps_and_harmless_calls_are_left_alone(name: str) -> None:
    """What runs in steps, what converts its arguments, and what merely has such a name, gets no warning."""
    assert _found(CLEAN[name]) == {}


def test_the_table_names_real_functions() -> None:
    """All names of the table exist, but those that newer Pythons have."""
    names = {item.name for item in impure.known().values()}
    assert {item.name for item in impure._FUNCTIONS} - names <= {"uuid.uuid6", "uuid.uuid7", "os.getrandom"}


# -- the messages ----------------------------------------------------------------------------------


def _messages() -> list[CheckMessage]:
    return run_checks(tags=["canx_flow"])


def test_a_warning_says_which_workflow_where_what_and_what_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message holds the workflow, file and line, and the call; its hint says what to write."""
    monkeypatch.chdir(Path(bodies.__file__).parent)
    flow = workflow("checks.partial", bodies.bound_with_partial, version="2")
    (message,) = _messages()
    line = next(number for number, name in WARNED.items() if "def with_an_argument" in SOURCE[number - 2])
    assert message.id == "canx_flow.W006"
    assert message.msg == (
        f"Workflow 'checks.partial@2' calls random.random() in its body, at bodies.py:{line}. The body runs again on "
        f"every replay, and what it gets then is not the same."
    )
    assert message.hint == "Use ctx.random, or call it inside a step."
    assert message.obj is flow


def test_a_body_that_sleeps_has_a_warning_of_its_own() -> None:
    """`time.sleep` is the same on every replay; what is wrong with it is the slot that it keeps."""
    workflow("checks.sleeps", bodies.closure)
    (message,) = _messages()
    assert message.id == "canx_flow.W007"
    assert message.hint == "Use ctx.sleep(name, duration)."


def test_where_the_context_has_nothing_a_step_is_named(tmp_path: Path) -> None:
    """Secrets must not be foreseeable, so `ctx.random` is no substitute."""
    module = _loaded(tmp_path / "flows.py", "import secrets\ndef flow(ctx):\n    return secrets.token_hex()\n")
    workflow("checks.secret", module.flow)
    assert [message.hint for message in _messages()] == ["Call it inside a step."]


def test_a_body_that_acts_has_a_warning_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes, mail and HTTP calls happen again at every replay: the message says so, and names the call."""
    monkeypatch.chdir(Path(bodies.__file__).parent)
    workflow("checks.acts", bodies.acting_async)
    messages = _messages()
    line = next(number for number, name in WARNED.items() if name == "Effect.objects.acreate")
    assert {message.id for message in messages} == {"canx_flow.W009"}
    assert messages[0].msg == (
        f"Workflow 'checks.acts' calls Effect.objects.acreate() in its body, at bodies.py:{line}. The body runs again "
        f"on every replay, and does it again each time."
    )
    assert messages[0].hint == "Call it inside a step: ctx.step(name, function, …)."


#: As much of requests as a check looks at: which module people call its functions from, where its class comes from.
REQUESTS = """
def post(url): ...
class Session:
    __module__ = "requests.sessions"
    def get(self, url): ...
"""


def test_http_clients_are_known_where_they_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of `requests`, a session of the module, one of a `with`, one that is made for a single call."""
    monkeypatch.setitem(sys.modules, "requests", _loaded(tmp_path / "requests.py", REQUESTS))
    source = """
import requests
session = requests.Session()
def flow(ctx):
    requests.post("https://example.com")
    session.get("https://example.com")
    with requests.Session() as inner:
        inner.get("https://example.com")
    requests.Session().get("https://example.com")
    requests.Session()
    ctx.step("get", session.get, "https://example.com")
"""
    module = _loaded(tmp_path / "flows.py", source)
    found = [(finding.line, finding.impure.name) for finding in Reader().read(module.flow)]
    assert found == [(5, "requests.post"), (6, "Session.get"), (8, "Session.get"), (9, "Session.get")]


def test_each_place_is_reported_once() -> None:
    """Several versions of a workflow, and helpers that they share, do not repeat a warning."""
    workflow("checks.versions", bodies.helpers_of_the_module, version="1")
    workflow("checks.versions", bodies.helpers_of_the_module, version="2")
    workflow("checks.other", bodies.part_of_the_body)
    assert [message.id for message in _messages()] == ["canx_flow.W007"]


def test_equal_bodies_in_two_files_are_two(tmp_path: Path) -> None:
    """A body that was copied to another app is read there, too."""
    source = "import time\ndef flow(ctx):\n    time.sleep(1)\n"
    for name in ("one", "two"):
        workflow(f"checks.{name}", _loaded(tmp_path / f"{name}.py", source).flow)
    places = [re.search(r"at (\S+):3\.", message.msg) for message in _messages()]
    assert {place and Path(place[1]).name for place in places} == {"one.py", "two.py"}


# -- without source, in haste, in trouble ----------------------------------------------------------


def _loaded(file: Path, source: str) -> types.ModuleType:
    """A module of this source, which it was made of: the file may say something else since."""
    file.write_text(source)
    module = types.ModuleType(file.stem)
    exec(compile(source, str(file), "exec"), vars(module))
    return module


BODY = "import time\ndef flow(ctx):\n    time.sleep(1)\n"


def _gone(file: Path) -> None:
    file.unlink()


def _broken(file: Path) -> None:
    file.write_text("def flow(ctx:\n")


def _binary(file: Path) -> None:
    file.write_bytes(b"\xff\x00\xfe")


def _moved(file: Path) -> None:
    file.write_text("\n\n" + BODY)


def _deep(file: Path) -> None:
    file.write_text("x = " + "-" * 100_000 + "1\n" + BODY)


@pytest.mark.parametrize("change", [_gone, _broken, _binary, _moved, _deep])
def test_without_its_source_a_body_is_not_judged(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """A file that is gone, broken, or another one by now: silence, and no error."""
    module = _loaded(tmp_path / "flows.py", BODY)
    workflow("checks.sourceless", module.flow)
    change(tmp_path / "flows.py")
    linecache.clearcache()
    assert _messages() == []


@pytest.mark.parametrize("function", [print, int, {}.get, type("Odd", (), {"__call__": print})()])
def test_what_has_no_python_source_is_not_judged(function: Any) -> None:
    """Builtins and other things that can be called are silence, too."""
    workflow("checks.odd", function)
    assert _messages() == []


def test_no_lazy_object_is_woken_by_reading(tmp_path: Path) -> None:
    """Names are looked up, never asked: an object that connects when it is touched stays untouched."""
    module = _loaded(tmp_path / "flows.py", "def flow(ctx):\n    lazy()\n    lazy.now()\n    sorted([], key=lazy)\n")

    class Lazy:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("touched")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("touched")

        def __hash__(self) -> int:
            raise RuntimeError("touched")

    module.lazy = Lazy()  # type: ignore[attr-defined]
    assert Reader().read(module.flow) == []


OTHERS = "".join(f"def other_{number}(a, b):\n    return [a + b for _ in range({number})]\n\n" for number in range(30))


def _declare(folder: Path, files: int, source: str) -> None:
    """Two hundred workflows, evenly in so many files with a hundred other lines."""
    for number in range(files):
        flows = "".join(source.replace("flow(", f"flow_{place}(") for place in range(200 // files))
        module = _loaded(folder / f"flows_{number}.py", OTHERS + flows)
        for name in [name for name in vars(module) if name.startswith("flow_")]:
            workflow(f"checks.fast.{number}.{name}", getattr(module, name))


@pytest.mark.parametrize(
    ("files", "source", "warnings"),
    [
        pytest.param(20, BODY, 200, id="with warnings"),
        pytest.param(200, "import datetime as dt\ndef flow(ctx):\n    ctx.sleep('a', 1)\n", 0, id="without"),
    ],
)
def test_two_hundred_workflows_take_less_than_half_a_second(
    tmp_path: Path, files: int, source: str, warnings: int
) -> None:
    """The check is made at every command: it must not be felt, be there warnings or not."""
    _declare(tmp_path, files, source)
    took = []
    for _ in range(3):  # The shortest counts: beside other processes the same work takes longer.
        linecache.clearcache()  # As in a process that has read no source yet.
        began = time.process_time()
        assert len(_messages()) == warnings
        took.append(time.process_time() - began)
    assert min(took) < 0.5
