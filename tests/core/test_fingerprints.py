"""The fingerprint of a workflow's function: what changes it, and what does not."""

from __future__ import annotations

import functools
import importlib.util
import linecache
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from canx_flow.core.fingerprints import fingerprint

pytestmark = pytest.mark.once

ORIGINAL = """
def body(ctx, order, *rest, express=False):
    total = 0
    for item in order:
        total += ctx.step("price", price, item)
    if express and total > 10:
        ctx.sleep("nap", 3600)
    return {"total": total, **dict(rest)}
"""


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Any]:
    """Imports a module with this source, and returns its function `body`."""
    numbers = iter(range(100))

    def make(source: str) -> Any:
        path = tmp_path / f"made_{next(numbers)}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module.body

    return make


SAME = {
    "comments": ORIGINAL.replace("total = 0", "total = 0  # nothing yet\n    # then each"),
    "docstring": ORIGINAL.replace("    total = 0", '    """Add up the prices."""\n    total = 0'),
    "annotations": ORIGINAL.replace("order, *rest, express", "order: int, *rest: str, express: 'B'"),
    "annotated variables": ORIGINAL.replace("    total = 0", "    item: str\n    total: int = 0"),
    "line breaks": ORIGINAL.replace('("price", price, item)', '(\n"price",\nprice, item,\n)'),
    "quotes": ORIGINAL.replace('"', "'"),
    "decorators": "def same(f): return f\n@same\n@same" + ORIGINAL,
    "deeper": "if True:\n" + textwrap.indent(ORIGINAL, "    "),
    "its place": "first = 1\n\n\n" + ORIGINAL,
}  # fmt: skip


@pytest.mark.parametrize("how", SAME)
def test_what_means_the_same_has_the_same(made: Callable[[str], Any], how: str) -> None:
    """Comments, docstrings, annotations, layout, the function's decorators and its place do not count."""
    assert fingerprint(made(SAME[how])) == fingerprint(made(ORIGINAL)) != ""


OTHER = {
    "a name": ORIGINAL.replace('"price"', '"cost"'),
    "another call": ORIGINAL.replace("ctx.sleep", "ctx.wait_for"),
    "a number": ORIGINAL.replace("> 10", "> 11"),
    "its type": ORIGINAL.replace("> 10", "> 10.0"),
    "an operator": ORIGINAL.replace("> 10", ">= 10"),
    "the order": ORIGINAL.replace("for item in order", "for item in order[::-1]"),
    "a parameter": ORIGINAL.replace("express=False", "express=True"),
    "a line": ORIGINAL.replace("    total = 0\n", "    total = 0\n    total = 0\n"),
    "the level of a line": ORIGINAL.replace("    return", "        return"),
    "where a dict is unpacked": ORIGINAL.replace('{"total": total, **dict(rest)}', '{**total, "total": dict(rest)}'),
    "async": ORIGINAL.replace("def body", "async def body"),
}


@pytest.mark.parametrize("how", OTHER)
def test_what_may_mean_something_else_has_another(made: Callable[[str], Any], how: str) -> None:
    """Each of these changes it."""
    assert fingerprint(made(OTHER[how])) not in ("", fingerprint(made(ORIGINAL)))


def test_it_stays_the_same_in_every_version_of_python(made: Callable[[str], Any]) -> None:
    """An upgrade of Python marks no run: this is what 3.11, 3.12 and 3.13 make of it."""
    assert fingerprint(made(ORIGINAL)).startswith("6265065af4fd65fd")


def test_it_is_that_of_the_code_behind_wrappers(made: Callable[[str], Any]) -> None:
    """Behind `wraps`, partials and methods; of a lambda where there is one alone."""
    body = made(ORIGINAL)

    @functools.wraps(body)
    def wrapped(*args: Any) -> Any:
        return body(*args)

    assert fingerprint(wrapped) == fingerprint(functools.partial(body, express=True)) == fingerprint(body)
    alone = lambda ctx: ctx.now()  # noqa: E731
    assert fingerprint(alone)
    one, other = (lambda ctx: 1), (lambda ctx: 2)  # noqa: ARG005
    assert fingerprint(one) == fingerprint(other) == ""


def test_without_a_source_there_is_none() -> None:
    """As for what was typed into a shell, is built in, or is no longer what its file says."""
    made: dict[str, Any] = {}
    exec("def body(ctx): return 1", made)
    moved = FunctionType(fingerprint.__code__.replace(co_firstlineno=1, co_name="another"), {})
    for function in (made["body"], len, moved, object()):
        assert fingerprint(function) == ""


@pytest.mark.parametrize("now", ["'", "(", "def body(", "\x00", "        x\n    y\n  'z", '"""'])
def test_a_file_that_has_changed_since_is_no_obstacle(tmp_path: Path, made: Callable[[str], Any], now: str) -> None:
    """A deployment has replaced it, perhaps with what is no Python: a run starts all the same."""
    body = made(ORIGINAL)
    Path(body.__code__.co_filename).write_text("\n" + now)
    linecache.clearcache()
    assert isinstance(fingerprint(body), str)
