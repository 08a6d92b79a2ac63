"""Fixtures of the tests of branches: each test is run with a `def` and with an `async def` workflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from canx_flow.core import registry


@pytest.fixture(params=["def", "async def"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kind of the workflow; what a test declares is forgotten afterwards."""
    yield request.param
    registry.forget("branches.any")


@pytest.fixture
def calls() -> list[Any]:
    """What the steps of a test did, in order."""
    return []
