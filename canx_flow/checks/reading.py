"""Reads the body of a workflow for calls that are not the same twice. Called by `bodies`.

A function that is handed on is a step's and is not read. Read are those that run as part of the body: what it calls
directly, branches of `gather` and `race`, what it hands to a builtin (`sorted(key=…)`), in the same file.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import Any, TypeGuard

from ..core.callables import plain
from . import acts, impure
from .impure import Impure
from .sources import Function, Sources

_BRANCHING = {"gather", "race"}
#: Builtins that call a function which they are given.
_CALLING = (sorted, min, max, map, filter)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: A name that the function binds itself, to something that is not plain to see.
_UNKNOWN = object()


@dataclass(frozen=True)
class Finding:
    """One call, and where it is written."""

    impure: Impure
    file: str
    line: int


class Reader:
    """Reads any number of workflows, each place once."""

    def __init__(self) -> None:
        self._sources = Sources()
        self._known = impure.known()
        self._read: set[Any] = set()

    def read(self, function: Any) -> list[Finding]:
        """Find what the body that begins with this function calls."""
        found: list[Finding] = []
        begin = plain(function)
        # Most bodies mention nothing of the kind, and then their file need not be parsed.
        if begin is not None and self._mentions(begin, set()):
            self._read_function(begin, found)
        return found

    def _mentions(self, function: FunctionType, seen: set[int]) -> bool:
        """Tell whether a name in its code, or in that of its neighbours that it names, may lead to an impure call."""
        seen.add(id(function))
        names = _Outside(function)
        for name in _names_in(function.__code__):
            value = names.find(name)[0]
            if name in impure.OWNERS or name in acts.NAMES or impure.leads_to(value, self._known):
                return True
            if _is_neighbour(value, names.file) and id(value) not in seen and self._mentions(value, seen):
                return True
        return False

    def _read_function(self, function: FunctionType, found: list[Finding]) -> None:
        place = (function.__code__.co_filename, function.__code__)  # Codes of two files may be equal.
        if place in self._read:
            return
        self._read.add(place)
        node = self._sources.find(function)
        if node is not None:
            self._read_node(node, _Outside(function), found)

    def _read_node(self, node: Function, outer: _Names, found: list[Finding]) -> None:
        """Read a function's own statements; `outer` are the names around it."""
        names = _Inside(node, outer)
        self._read.add(node)
        body: list[Any] = node.body if isinstance(node.body, list) else [node.body]
        for part in body:
            self._visit(part, names, found)

    def _visit(self, node: ast.AST, names: _Names, found: list[Finding], *, runs: bool = False) -> None:
        """Visit a node; with `runs`, a function that stands here is run by the body."""
        if isinstance(node, ast.Call):
            self._visit_call(node, names, found, runs=runs)
        elif isinstance(node, (ast.Lambda, ast.Name)):
            if runs:
                self._run(node, names, found)
            for default in _defaults(node):
                self._visit(default, names, found)
        elif isinstance(node, _FUNCTIONS):
            for part in (*node.decorator_list, *_defaults(node)):
                self._visit(part, names, found)
        else:
            for child in ast.iter_child_nodes(node):
                self._visit(child, names, found, runs=runs)

    def _visit_call(self, call: ast.Call, names: _Names, found: list[Finding], *, runs: bool) -> None:
        function = _resolve(call.func, names)
        wrong = impure.judged(function, self._known)
        if wrong is not None and not (wrong.bare and (call.args or call.keywords)):
            found.append(Finding(wrong, names.file, call.lineno))
        if function is not partial:
            self._visit(call.func, names, found, runs=isinstance(call.func, (ast.Name, ast.Lambda)))
            runs = _runs_what_it_gets(call.func, function)
        for argument in (*call.args, *call.keywords):
            self._visit(argument, names, found, runs=runs)

    def _run(self, node: ast.Lambda | ast.Name, names: _Names, found: list[Finding]) -> None:
        if isinstance(node, ast.Lambda):
            self._read_node(node, names, found)
            return
        value, where = names.find(node.id)
        if type(value) in (*_FUNCTIONS, ast.Lambda):
            if value not in self._read:
                self._read_node(value, where, found)
        elif _is_neighbour(value, names.file):
            self._read_function(value, found)


def _is_neighbour(value: Any, file: str) -> TypeGuard[FunctionType]:
    """Tell whether it is a function that is written in this file."""
    return type(value) is FunctionType and value.__code__.co_filename == file


def _names_in(code: CodeType) -> set[str]:
    """Return every global name that the code reads or imports, with those of the functions within it."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *code.co_freevars}.union(*map(_names_in, inner))


def _runs_what_it_gets(written: ast.expr, function: Any) -> bool:
    if isinstance(written, ast.Attribute) and written.attr in _BRANCHING:
        return True
    return any(function is calling for calling in _CALLING)


def _resolve(node: ast.expr, names: _Names) -> Any:
    """Return what `name`, `module.name` or a call stands for, as far as the source tells."""
    if isinstance(node, ast.Name):
        return names.find(node.id)[0]
    if isinstance(node, ast.Attribute):
        return impure.member(_resolve(node.value, names), node.attr)
    if isinstance(node, ast.Call):
        return acts.called(_resolve(node.func, names))
    return _resolve(node.value, names) if isinstance(node, ast.Await) else None


def _defaults(node: ast.AST) -> Iterator[ast.expr]:
    arguments = getattr(node, "args", None)
    if isinstance(arguments, ast.arguments):
        yield from (default for default in (*arguments.defaults, *arguments.kw_defaults) if default is not None)


# -- names -----------------------------------------------------------------------------------------


class _Outside:
    """The names that a function finds outside itself: its closure, its module, the builtins."""

    def __init__(self, function: FunctionType) -> None:
        self.file = function.__code__.co_filename
        self.package = str(function.__globals__.get("__package__") or "")
        self._globals = function.__globals__
        self._closure = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))

    def find(self, name: str) -> tuple[Any, _Names]:
        if name in self._closure:
            try:
                return self._closure[name].cell_contents, self
            except ValueError:  # Not bound yet.
                return _UNKNOWN, self
        return self._globals.get(name, vars(builtins).get(name)), self


class _Inside:
    """The names that a function binds itself, and then those around it."""

    def __init__(self, node: Function, outer: _Names) -> None:
        self.file: str = outer.file
        self.package: str = outer.package
        self._outer = outer
        self._own: dict[str, Any] = {}
        borrowed: set[str] = set()
        times: Counter[str] = Counter()
        parts = list(_own_parts(node))
        for part in parts:
            if isinstance(part, (ast.Global, ast.Nonlocal)):
                borrowed.update(part.names)
            for name, value in _bound_by(part, self.package):
                times[name] += 1
                self._own[name] = value if times[name] == 1 else _UNKNOWN
        for name in borrowed:
            self._own.pop(name, None)
        for part in parts:
            match part:
                case ast.Assign(targets=[ast.Name(id=name)], value=given):
                    self._learn(name, times, given if isinstance(given, ast.Lambda) else _resolve(given, self))
                case ast.For(target=ast.Name(id=name), iter=given) | ast.AsyncFor(target=ast.Name(id=name), iter=given):
                    self._learn(name, times, acts.item(_resolve(given, self)))
                case ast.withitem(context_expr=given, optional_vars=ast.Name(id=name)):
                    self._learn(name, times, acts.entered(_resolve(given, self)))

    def _learn(self, name: str, times: Counter[str], value: Any) -> None:
        """Note what a name stands for, if it is bound once: another name, a lambda, what a call made."""
        if times[name] == 1 and name in self._own:
            self._own[name] = _UNKNOWN if value is None else value

    def find(self, name: str) -> tuple[Any, _Names]:
        return (self._own[name], self) if name in self._own else self._outer.find(name)


_Names = _Outside | _Inside


def _own_parts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node that belongs to a function itself, not to functions within it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            yield from _own_parts(child)


def _bound_by(node: ast.AST, package: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, _FUNCTIONS):
        yield node.name, node
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from _imported(node, package)
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id, _UNKNOWN
    elif isinstance(node, ast.arg):
        yield node.arg, _UNKNOWN
    elif isinstance(node, (ast.ExceptHandler, ast.ClassDef, ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name, _UNKNOWN


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Any]]:
    """Return the module if it is loaded already: a check imports nothing."""
    for alias in node.names:
        name = alias.asname or alias.name.partition(".")[0]
        if isinstance(node, ast.Import):
            yield name, sys.modules.get(alias.name if alias.asname else name, _UNKNOWN)
        else:
            path = _path(node, package)
            module, submodule = sys.modules.get(path), sys.modules.get(f"{path}.{alias.name}", _UNKNOWN)
            yield name, vars(module).get(alias.name, submodule) if module is not None else _UNKNOWN


def _path(node: ast.ImportFrom, package: str) -> str:
    """Return the module that it imports from; empty where a relative import leads out of the package."""
    above = package.split(".")
    if node.level > len(above):
        return ""
    begin = above[: len(above) - node.level + 1] if node.level else []
    return ".".join([*begin, *([node.module] if node.module else [])])
