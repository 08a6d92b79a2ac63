"""The numbers of attributes: the same for what is equal, others for what is not."""

from __future__ import annotations

from typing import Any

import pytest

from canx_flow.core.entries import entry

SAME = [
    (1, 1.0),
    (0, -0.0),
    (2**53 + 1, float(2**53)),
    (10**400, 10**401),
    ([1, {"a": 2}], [1.0, {"a": 2.0}]),
    ({"a": 1, "b": [None, True]}, {"b": [None, True], "a": 1}),
]
OTHERS: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 10**400, -(10**400), "", "1", "true", "null", "a", "A", "é", "e",
    [], [1], [True], ["1"], [1, 2], [2, 1], [[1, 2]],
    {}, {"a": 1}, {"A": 1}, {"a": True}, {"a": "1"}, {"a": [1]}, {"a": {"b": 1}}, {"a.b": 1},
]  # fmt: skip


@pytest.mark.once
@pytest.mark.parametrize(("one", "other"), SAME, ids=repr)
def test_equal_values_have_one_number(one: Any, other: Any) -> None:
    """As the exact comparison takes them, or wider: numbers are compared as floats, objects without an order."""
    assert entry("name", one) == entry("name", other)


@pytest.mark.once
def test_other_values_and_names_have_other_numbers() -> None:
    """Each fits into 64 bits with a sign."""
    numbers = [entry(name, value) for name in ("name", "Name", "", "näme") for value in OTHERS]
    assert len(set(numbers)) == len(numbers)
    assert all(-(2**63) <= number < 2**63 for number in numbers)
