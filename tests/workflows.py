"""The workflows that real workers run in tests: found here as in any app, by tests and workers alike.

What only the test itself runs is better defined in the test.
"""

from __future__ import annotations

from canx_flow import Context, workflow

from . import effects


@workflow("tests.two-steps")
def two_steps(ctx: Context, label: str) -> str:
    """Two steps that leave a line each."""
    ctx.step("first", effects.append, f"{label} first")
    ctx.step("second", effects.append, f"{label} second")
    return label
