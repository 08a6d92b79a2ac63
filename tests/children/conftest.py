"""Each test of children begins with nothing done, and leaves no workflow behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from canx_flow.core import registry

from .shared import calls, lost, own


@pytest.fixture(autouse=True)
def _nothing_done() -> Iterator[None]:
    calls.clear()
    lost.clear()
    yield
    while own:
        registry.forget(own.pop())
