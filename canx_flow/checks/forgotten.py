"""Finds the forgotten `await` in an `async def` workflow: calls of its context whose answer goes nowhere.

Called by `bodies`. A call that is handed on, as to `asyncio.wait_for`, or kept to be awaited later, is left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..core.callables import plain
from .sources import Sources

#: What is awaited of an AsyncContext.
_AWAITED = {"step", "sleep", "sleep_until", "wait_for", "gather", "map", "race", "call", "spawn"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Forgotten:
    """One call, as it is written, and where."""

    call: str
    file: str
    line: int


def forgotten(function: Any, sources: Sources) -> list[Forgotten]:
    """Find the calls of this body that nothing awaits; none in a body that is no `async def`, or has no source."""
    body = plain(function)
    node = sources.find(body) if body is not None else None
    if body is None or not isinstance(node, ast.AsyncFunctionDef):
        return []
    parameters = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    if parameters[:1] in (["self"], ["cls"]):
        del parameters[0]
    if not parameters:
        return []
    calls = sorted(_dropped(node, parameters[0]), key=lambda call: call.lineno)
    return [Forgotten(ast.unparse(call.func), body.__code__.co_filename, call.lineno) for call in calls]


def _dropped(node: ast.AsyncFunctionDef, context: str) -> Iterator[ast.Call]:
    """Yield the calls that stand alone, and those whose result the body returns or names and never uses."""
    own = list(_own_parts(node))
    handed_on = {part.id for part in own if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
    for part in own:
        match part:
            case ast.Expr(value=ast.Call() as call) | ast.Return(value=ast.Call() as call):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call) if name not in handed_on:
                pass
            case _:
                continue
        if _is_of(call, context):
            yield call


def _is_of(call: ast.Call, context: str) -> bool:
    function = call.func
    return (
        isinstance(function, ast.Attribute)
        and function.attr in _AWAITED
        and isinstance(function.value, ast.Name)
        and function.value.id == context
    )


def _own_parts(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of the body itself, without those of functions within it: these have a `return` of their own."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            yield from _own_parts(child)
