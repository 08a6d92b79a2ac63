"""The public signals."""

from __future__ import annotations

import pytest
from django.dispatch import Signal

from canx_flow import signals

pytestmark = pytest.mark.once


def test_there_are_nine() -> None:
    """The signals are those of the contract."""
    names = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    runs = {"started", "suspended", "resumed", "completed", "failed", "cancelled", "parked"}
    assert names == {f"run_{name}" for name in runs} | {"step_completed", "step_failed"}
