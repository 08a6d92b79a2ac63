"""Each test has an executor of its own, and leaves no workflow behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from canx_flow import workflow
from canx_flow.core import executors, registry

from .mailbox import Mailbox


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """The executor of this test's steps."""
    box = Mailbox()
    executors.register(box)
    yield box
    del executors._executors[box.name]


@pytest.fixture
def declare() -> Iterator[Callable[..., Any]]:
    """Declares a workflow for this test."""
    names: list[str] = []

    def declared(function: Callable[..., Any], name: str = "delegation.flow") -> Any:
        names.append(name)
        return workflow(name)(function)

    yield declared
    while names:
        registry.forget(names.pop())
