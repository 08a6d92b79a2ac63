"""A plugin of pytest, which loads it by its entry point: no test inherits the time that another one has advanced to.

It is loaded in every project that has canx_flow installed, so it needs no settings, no models, and not pytest itself.
`-p no:canx_flow` leaves it out.
"""

from __future__ import annotations

from .core import clock


def pytest_runtest_logfinish() -> None:
    """Put the clock back after a test and its teardown, however they ended."""
    clock.reset()
