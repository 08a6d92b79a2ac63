"""Fixtures of the tests of steps."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def calls() -> list[Any]:
    """What the steps of a test did, in order."""
    return []
