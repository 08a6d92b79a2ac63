"""How large a class and a file of the package may become, before they are split."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import canx_flow

pytestmark = [pytest.mark.once, pytest.mark.source]

PACKAGE = Path(canx_flow.__file__).parent
MOST_ATTRIBUTES, MOST_REASSIGNED, MOST_LINES = 12, 8, 300

#: What may be larger, and why.
LARGE_CLASSES = {
    "canx_flow.conf.Settings": "the settings: one attribute for each key of CANX_FLOW",
    "canx_flow.core.options.StartOptions": "the public options of using(): one attribute for each",
    "canx_flow.status.RunStatus": "the public answer of status(): one attribute for each thing that may be asked",
}
LARGE_FILES = {
    "core/encoding.py": "one way into JSON for each type that is kept, side by side",
}


def _classes() -> Iterator[type]:
    """Every class of the package, those inside others too."""
    for found in pkgutil.walk_packages(canx_flow.__path__, "canx_flow."):
        if not found.name.startswith("canx_flow.migrations."):
            yield from _defined(vars(importlib.import_module(found.name)), found.name)


def _defined(names: dict[str, object], module: str) -> Iterator[type]:
    for value in list(names.values()):
        if isinstance(value, type) and value.__module__ == module:
            yield value
            yield from _defined(dict(vars(value)), module)


def _attributes(cls: type) -> tuple[set[str], set[str]]:
    """What its objects hold, inherited from this package's classes or its own; and what of it methods set again.

    Columns of models, members of enums and settings of a class (`list_display = …`) are no state of its objects.
    """
    held: set[str] = set()
    reassigned: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.startswith("canx_flow") and (tree := _tree(base)) is not None:
            held |= _fields(tree)
            for method in tree.body:
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    held |= (stored := _stored(method))
                    reassigned |= stored if method.name not in ("__init__", "__new__", "__post_init__") else set()
    return held, reassigned


def _tree(cls: type) -> ast.ClassDef | None:
    try:
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):  # Made by a call.
        return None
    assert isinstance(tree, ast.ClassDef)
    return tree


def _fields(tree: ast.ClassDef) -> set[str]:
    """`name: str`, and what `__slots__` names."""
    found: set[str] = set()
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                found |= {name} if "ClassVar" not in ast.unparse(annotation) else set()
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=value):
                slots = ast.literal_eval(value)
                found |= {slots} if isinstance(slots, str) else set(slots)
    return found


def _stored(method: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """`self.name = …`, in whatever form."""
    return {
        node.attr
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store | ast.Del)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def test_no_class_holds_more_than_twelve_attributes() -> None:
    """A class with more is several: 12 attributes at most, 8 of them set again after `__init__`."""
    large = {}
    for cls in _classes():
        held, reassigned = _attributes(cls)
        if len(held) > MOST_ATTRIBUTES or len(reassigned) > MOST_REASSIGNED:
            large[f"{cls.__module__}.{cls.__qualname__}"] = (len(held), len(reassigned))
    assert {name: size for name, size in large.items() if name not in LARGE_CLASSES} == {}
    assert sorted(large) == sorted(LARGE_CLASSES), "what is small again needs no exception"


def test_no_file_is_longer_than_300_lines() -> None:
    """A longer module has more than one subject. Migrations are written by Django."""
    lines = {
        str(file.relative_to(PACKAGE)): len(file.read_text(encoding="utf-8").splitlines())
        for file in PACKAGE.rglob("*.py")
        if "migrations" not in file.parts
    }
    large = {name: number for name, number in lines.items() if number > MOST_LINES}
    assert {name: number for name, number in large.items() if name not in LARGE_FILES} == {}
    assert sorted(large) == sorted(LARGE_FILES), "what is short again needs no exception"


class _Mutable:
    """For the test of the counting: three attributes, one of them a slot, two of them set again."""

    __slots__ = ("first", "second", "third")

    def __init__(self) -> None:
        self.first, self.second = 1, 2

    def change(self) -> None:
        self.second += 1
        self.first, self.third = 3, 4
        del self.second


def test_attributes_are_counted_however_they_are_set() -> None:
    """By slots, fields, tuples, `+=` and `del`."""
    tree = _tree(_Mutable)
    assert tree is not None
    assert _fields(tree) == {"first", "second", "third"}
    change = tree.body[-1]
    assert isinstance(change, ast.FunctionDef)
    assert _stored(change) == {"first", "second", "third"}
