"""What a workflow's function does, as a short text that changes when its code does: a hash of its syntax tree.

Made once per process, when a run is started or resumed for the first time. Comments, docstrings, annotations, line
breaks and the function's own decorators are left out, and so is whatever Python's own versions write differently.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from .callables import plain

_LEFT_OUT = frozenset(("annotation", "returns", "type_comment", "type_params", "type_ignores", "ctx", "kind"))


def fingerprint(function: Callable[..., Any]) -> str:
    """Return it for the function with the code; empty where no source is to be had, as in a shell."""
    found = plain(function)
    try:
        tree = None if found is None else _tree(found)
        text = None if tree is None else "\n".join(_parts(tree))
    except Exception:  # noqa: BLE001 - of a file that has changed since, inspect, tokenize and ast raise many kinds
        return ""
    return "" if text is None else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _tree(function: FunctionType) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
    """Parse the source of a function; of lambdas only one that stands alone is known for the right one."""
    source = inspect.getsource(function)
    # What stands deeper may hold texts whose lines begin further left.
    module = ast.parse(f"if True:\n{source}" if source[:1].isspace() else source)
    name = function.__code__.co_name
    if name == "<lambda>":
        lambdas = [node for node in ast.walk(module) if isinstance(node, ast.Lambda)]
        return lambdas[0] if len(lambdas) == 1 else None
    functions = (node for node in ast.walk(module) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    tree = next((node for node in functions if node.name == name), None)
    if tree is not None:
        tree.decorator_list = []
    return tree


def _parts(node: ast.AST) -> Iterator[str]:
    """Yield what of a node its meaning depends on, and of all below it."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        node = ast.Assign(targets=[node.target], value=node.value)
    yield type(node).__name__
    for name, value in ast.iter_fields(node):
        if name not in _LEFT_OUT:
            yield from _field(name, _without_docstring(value) if name == "body" else value)
    yield "."


def _field(name: str, value: Any) -> Iterator[str]:
    """Yield a field; none that holds nothing, for later versions of Python have more of them."""
    if isinstance(value, ast.AnnAssign) and value.value is None:
        return  # `total: int` does nothing.
    if isinstance(value, ast.AST):
        yield name
        yield from _parts(value)
    elif isinstance(value, list):
        for each in value:
            yield from _field(name, "-" if each is None else each)
    elif value is not None or name == "value":
        yield f"{name} {type(value).__name__} {value!r}"


def _without_docstring(body: Any) -> Any:
    """Take a text that stands first for a docstring, wherever: elsewhere it does nothing, either."""
    match body:
        case [ast.Expr(ast.Constant(str())), *rest]:
            return rest
    return body
