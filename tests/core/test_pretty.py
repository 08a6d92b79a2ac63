"""Values as people read them, and as JSON has them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from time import process_time
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canx_flow.core.pretty import as_call, jsonable, pretty, printable

pytestmark = pytest.mark.once


class Colour(Enum):
    RED = "#f00"


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Line:
    product: str
    price: Decimal


SHOWN: list[tuple[Any, str, Any]] = [
    (None, "null", None),
    (True, "true", True),
    (7, "7", 7),
    (1.5, "1.5", 1.5),
    (float("nan"), "nan", "nan"),
    (1 << 5000, hex(1 << 5000), hex(1 << 5000)),
    ("ünder\n\x1b[31m", '"ünder\\n\\u001b[31m"', "ünder\n\x1b[31m"),
    ([], "[]", []),
    ([1, [2]], "[1, [2]]", [1, [2]]),
    ((), "()", []),
    ((1,), "(1,)", [1]),
    ({}, "{}", {}),
    ({"a": {"b": 1}}, '{"a": {"b": 1}}', {"a": {"b": 1}}),
    ({1: 2}, "{1: 2}", {"1": 2}),
    (set(), "set()", []),
    ({2, 1}, "{1, 2}", [1, 2]),
    (frozenset({"b", "a"}), '{"a", "b"}', ["a", "b"]),
    (b"\x00a", "b'\\x00a'", "AGE="),
    (datetime(2026, 3, 1, 12, tzinfo=UTC), "2026-03-01 12:00:00+00:00", "2026-03-01T12:00:00+00:00"),
    (date(2026, 3, 1), "2026-03-01", "2026-03-01"),
    (time(12, 30), "12:30:00", "12:30:00"),
    (
        timedelta(days=2, hours=1),
        "2 days, 1:00:00",
        "2 days, 1:00:00",
    ),
    (Decimal("1.50"), "1.50", "1.50"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-000000000007"),
    (Colour.RED, "Colour.RED", "Colour.RED"),
    (Access.READ | Access.WRITE, "Access.READ|WRITE", "Access.READ|WRITE"),
    (Line("pear", Decimal(2)), 'Line(product="pear", price=2)', {"product": "pear", "price": "2"}),
]


@pytest.mark.parametrize(("value", "text", "data"), SHOWN)
def test_every_storable_type_is_readable(value: Any, text: str, data: Any) -> None:
    """As JSON looks where JSON has it, else as Python does; for programs as JSON."""
    assert pretty(value) == text
    assert jsonable(value) == data


def test_what_does_not_fit_on_a_line_gets_a_line_per_item() -> None:
    """Only what is too long is broken; what it holds stays on one line if it can."""
    value = {"order": 7, "items": ["an apple", "a pear"], "customer": {"name": "ada"}}
    assert pretty(value, 40) == "\n".join(
        [
            "{",
            '  "order": 7,',
            '  "items": ["an apple", "a pear"],',
            '  "customer": {"name": "ada"}',
            "}",
        ]
    )


def test_arguments_look_like_a_call() -> None:
    """Positional ones, then keywords; what a function has made something else of, as it is."""
    assert as_call([[7, "ada"], {"express": True}]) == '(7, "ada", express=true)'
    assert as_call([[], {}]) == "()"
    assert as_call("***") == '"***"'
    assert as_call([1, 2]) == "[1, 2]"


def test_what_cannot_be_seen_is_written_as_an_escape() -> None:
    """No terminal obeys a stored text, and no text is read the wrong way round."""
    assert printable("a\x1b[2Jb\u202ec\ud800") == "a\\x1b[2Jb\\u202ec\\ud800"
    assert printable("tab\tline\nçé\u00a0漢") == "tab\tline\nçé\u00a0漢"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(_JSON, st.integers(min_value=1, max_value=120))
def test_json_stays_json(value: Any, width: int) -> None:
    """A JSON value is shown as JSON text, however narrow; for programs it is unchanged."""
    text = pretty(value, width)
    assert all(char.isprintable() or char.isspace() for char in text)
    assert json.loads(text) == value
    assert jsonable(value) == value


@pytest.mark.parametrize("write", [pretty, jsonable])
def test_sets_within_sets_are_not_written_once_for_each_around_them(write: Any) -> None:
    """A hundred and fifty of them around ten thousand numbers take the time of ten thousand numbers, or so."""
    value: Any = frozenset(range(10_000))
    begun = process_time()
    write(value)
    alone = process_time() - begun
    for number in range(150):
        value = frozenset([value, number])
    begun = process_time()
    write(value)
    assert process_time() - begun < 20 * alone + 0.5  # It was a few hundred times as long.
