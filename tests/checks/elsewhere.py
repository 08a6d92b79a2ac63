"""Another module than the bodies': what it does is not looked at."""

from __future__ import annotations

import random
from typing import Any


def helper_elsewhere(ctx: Any) -> float:
    """Might belong to somebody else's package."""
    return random.random()
