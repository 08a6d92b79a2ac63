"""Ids are in the order of time, so a range of moments is a range of ids."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from freezegun import freeze_time

from canx_flow.core.identity import first_id_at, uuid7, uuid7_series

pytestmark = pytest.mark.once

MILLISECOND = timedelta(milliseconds=1)


def test_an_id_lies_between_the_first_ids_of_its_moment_and_of_the_next() -> None:
    """Whatever is made now is no less than the first id of a moment ago, and less than that of a moment to come."""
    before = datetime.now(UTC)
    made = uuid7()
    assert first_id_at(before - MILLISECOND) <= made < first_id_at(datetime.now(UTC) + timedelta(seconds=1))


def test_the_first_id_of_a_moment_is_an_id() -> None:
    """It has the version and the variant of every run's id: MariaDB sorts others another way."""
    first = first_id_at(datetime(2026, 1, 2, tzinfo=UTC))
    assert (first.version, first.variant) == (7, uuid7().variant)
    assert first_id_at(datetime(2026, 1, 2, tzinfo=UTC) + MILLISECOND) > first


def test_every_moment_has_a_first_id() -> None:
    """Before 1970 there was none, so it is the least of all; the last year there is fits."""
    assert first_id_at(datetime(1, 1, 1, tzinfo=UTC)) == first_id_at(datetime(1970, 1, 1, tzinfo=UTC))
    assert first_id_at(datetime.max.replace(tzinfo=UTC)) > uuid7()


def test_many_ids_are_in_order_and_not_ahead_of_the_clock() -> None:
    """However many are made in a millisecond: a burst's ids must not be later than those that others make after it."""
    made = [uuid7() for _ in range(5000)] + uuid7_series(5000) + [uuid7()]
    assert all(before < after for before, after in pairwise(made))
    assert made[-1] < first_id_at(datetime.now(UTC) + MILLISECOND)


def test_an_id_has_the_engines_time() -> None:
    """As the moments that are stored with it have, also where a test has stopped the clock."""
    with freeze_time("2031-05-06 07:08:09.123999") as frozen:
        moment = datetime(2031, 5, 6, 7, 8, 9, 123000, UTC)
        made = uuid7_series(3)
        assert first_id_at(moment) <= made[0] < made[-1] < first_id_at(moment + MILLISECOND)
        frozen.move_to(moment - timedelta(seconds=0.5))
        assert made[-1] < uuid7() < first_id_at(moment + MILLISECOND)
        frozen.move_to(moment - timedelta(days=1))
        assert uuid7() < first_id_at(moment)


def test_threads_make_different_ids() -> None:
    """Each gets its own, and in order."""
    with ThreadPoolExecutor(4) as pool:
        series = list(pool.map(lambda _: [uuid7() for _ in range(500)], range(8)))
    assert all(before < after for one in series for before, after in pairwise(one))
    assert len({made for one in series for made in one}) == 4000
