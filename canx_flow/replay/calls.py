"""One call of an `async def` workflow's context, so that one that nobody awaits can be told of by its line.

Made by the async driver, where the body makes the call.
"""

from __future__ import annotations

import sys


class ContextCall:
    """What was called, and where. Its line is looked up only when it is asked for."""

    __slots__ = ("_verb", "_name", "_code", "_at")

    def __init__(self, verb: str, name: str, depth: int) -> None:
        """`depth`: of the body, seen from here."""
        self._verb, self._name = verb, name
        body = sys._getframe(depth)
        self._code, self._at = body.f_code, body.f_lasti

    @property
    def what(self) -> str:
        """As it is written: `ctx.step('charge')`."""
        return f"ctx.{self._verb}({self._name!r})"

    @property
    def where(self) -> str:
        """The file and the line that it was made in."""
        lines = [line for begin, end, line in self._code.co_lines() if begin <= self._at < end]
        return f"{self._code.co_filename}:{lines[0] if lines else self._code.co_firstlineno}"
