"""From a function to its place in the syntax tree of its file. Called by `bodies`; knows nothing of workflows."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Sources:
    """The syntax trees of some files, each parsed once."""

    def __init__(self) -> None:
        self._trees: dict[str, ast.Module | None] = {}

    def find(self, function: FunctionType) -> Function | None:
        """Find where it is written; `None` without source, or where two functions cannot be told apart."""
        code = function.__code__
        tree = self._tree(code.co_filename, function.__globals__)
        if tree is None:
            return None
        found = [node for node in _written_at(tree, code.co_firstlineno) if _name(node) == code.co_name]
        if len(found) > 1:
            found = [node for node in found if _holds(node, code)]
        return found[0] if len(found) == 1 else None

    def _tree(self, file: str, names: dict[str, Any]) -> ast.Module | None:
        if file not in self._trees:
            linecache.checkcache(file)
            try:
                self._trees[file] = ast.parse("".join(linecache.getlines(file, names)) or "?")
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                self._trees[file] = None
        return self._trees[file]


def _written_at(node: ast.AST, line: int) -> Iterator[Function]:
    """Return every function that begins at this line, its decorators included."""
    for child in ast.iter_child_nodes(node):
        first = _first_line(child)
        if first is not None and not first <= line <= (getattr(child, "end_lineno", None) or first):
            continue
        if isinstance(child, _FUNCTIONS) and first == line:
            yield child
        yield from _written_at(child, line)


def _first_line(node: ast.AST) -> int | None:
    lines = [decorator.lineno for decorator in getattr(node, "decorator_list", ())]
    own = getattr(node, "lineno", None)
    return min([own, *lines]) if own is not None else None


def _name(node: Function) -> str:
    return "<lambda>" if isinstance(node, ast.Lambda) else node.name


def _holds(node: Function, code: CodeType) -> bool:
    """Tell whether the code is that of this node, among others in the same line: by the columns of what it returns."""
    last = node.body if isinstance(node, ast.Lambda) else node.body[-1]
    return (last.lineno, last.end_lineno, last.col_offset, last.end_col_offset) in set(code.co_positions())
