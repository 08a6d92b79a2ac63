"""Pruning: what it looks through, to find what is old, grows as the runs do."""

from __future__ import annotations

from datetime import timedelta

from canx_flow.core import clock
from canx_flow.store import pruning

from .conftest import MANY
from .work import Work, measured


def _looked_through(runs: int) -> Work:
    """The work of a pruning that finds nothing old among so many of the oldest runs, of which each is a minute's."""
    before = clock.now() - timedelta(minutes=60 + MANY - runs) - timedelta(hours=1)
    with measured() as work:
        assert pruning.prune("default", pruning.Old(before), 500, lambda _: None) == 0
    return work


def test_pruning_reads_three_times_as_much_of_three_times_as_many_runs() -> None:
    """Where none of them is to go: each is looked at once, by one of the statements that look at so many each."""
    some, more = _looked_through(6_000), _looked_through(18_000)
    assert more.spent <= 3.5 * some.spent, f"{some}\n{more}"
