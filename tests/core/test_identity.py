"""Ids are in the order of time, so a range of moments is a range of ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from canx_flow.core.identity import first_id_at, uuid7

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
