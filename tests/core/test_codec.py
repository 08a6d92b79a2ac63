"""Values as text and back: every supported type is what it was, and everything else is refused with the reason."""

from __future__ import annotations

import inspect
import json
import sys
import threading
import tracemalloc
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import CONFORM, Enum, Flag, IntEnum, IntFlag, StrEnum, auto
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from time import process_time
from typing import Any, ClassVar, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.db import models
from django.test import override_settings
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import example, given
from hypothesis import strategies as st

import canx_flow
from canx_flow.core import codec, decoding, encoding
from canx_flow.core.codec import dumps, loads, register_type, round_trip
from canx_flow.exceptions import NotDecodable, NotSerializable, PayloadTooLarge

pytestmark = pytest.mark.once


class Colour(Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 - an alias on purpose
    LIKE_A_TUPLE = (1, 2)
    UNSTORABLE = object()


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = auto()


class Access(Flag):
    READ = auto()
    WRITE = auto()


class Tolerant(Flag, boundary=CONFORM):
    ONE = 1


class Bits(IntFlag):
    ONE = 1
    FOUR = 4


class Size(models.TextChoices):
    SMALL = "s", "Small"


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass(frozen=True, slots=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclass(kw_only=True)
class Order:
    class Status(Enum):
        PAID = 1

    lines: list[Point]
    total: Money | None = None
    status: Status = Status.PAID
    #: Not given to __init__, and not what __post_init__ would make of it now.
    number: int = field(init=False)
    tax: InitVar[int] = 19
    kind: ClassVar[str] = "order"

    def __post_init__(self, tax: int) -> None:
        self.number = tax


@dataclass
class Basket:
    lines: list[int] = field(default_factory=list)


class Stray(Enum):
    """A member that is found under no name."""

    KNOWN = 1

    @classmethod
    def _missing_(cls, value: object) -> Stray:
        member = object.__new__(cls)
        member._name_, member._value_ = f"VALUE_{value}", value
        return member


@dataclass
class Late:
    """`unset` has no value before somebody sets one."""

    unset: int = field(init=False)


@dataclass
class Refusing:
    """It would not let itself be built from what it has become."""

    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError("negative")


@dataclass
class BrokenError(Exception):
    code: int


class PlainSubclass(Point):
    pass


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not me"


class Whole(int):
    pass


class Handmade:
    """A type of a project, for `register_type`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handmade) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


class Unruly(tzinfo):
    """A zone that is no ZoneInfo: half an hour off, when asked for a moment."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else timedelta(minutes=30)

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None


class Fixed(Unruly):
    """A zone that is the same all year."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return timedelta(minutes=45)


class Faulty(Unruly):
    """A zone that fails."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        raise OSError("no zone file")


def portrait(value: Any) -> Any:
    """Everything that can be told apart about a value, as text: exact types, order, signs, folds, zones."""
    kind = type(value)
    if kind in (list, tuple):
        return kind.__name__, [portrait(item) for item in value]
    if kind in (set, frozenset):
        return kind.__name__, sorted(str(portrait(item)) for item in value)
    if kind is dict:
        return "dict", [(portrait(key), portrait(item)) for key, item in value.items()]
    if kind in (datetime, time):
        return kind.__name__, value.isoformat(), value.fold, getattr(value.tzinfo, "key", None)
    if is_dataclass(value) and not isinstance(value, type):
        return kind.__name__, [(item.name, portrait(getattr(value, item.name))) for item in fields(value)]
    return kind.__name__, repr(value)


def assert_kept(value: Any) -> None:
    """The value comes back as it was, from text that every database takes."""
    text, first = round_trip(value, "it")
    assert text.isascii()
    assert text.isprintable()
    assert portrait(loads(text)) == portrait(value)
    assert portrait(first) == portrait(value), "what a step returns first is what it returns on replay"


#: Two code points, which are not the one of the emoji.
TWO_SURROGATES = chr(0xD83D) + chr(0xDE00)
ANY_TEXT = st.text(st.characters(exclude_categories=()))
LOOKALIKE = st.sampled_from(["$", "$tuple", "$dict", "$type", "$:money", "__canx__", "_error", "\x00", "$\ud800\udc00"])
OFFSETS = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)
ZONES = st.none() | st.just(UTC) | OFFSETS | st.timezones()
HASHABLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**3000), 10**3000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT
    | LOOKALIKE
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=ZONES)
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.decimals().filter(lambda number: not number.is_snan())
    | st.uuids()
    | st.sampled_from([*Level, *Word, *Access, *Bits, Size.SMALL, Access.READ | Access.WRITE, Access(0), Colour.RED])
    | st.builds(Money, st.decimals(allow_nan=False), ANY_TEXT)
)
KEYS = ANY_TEXT | LOOKALIKE


def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Containers of what `inner` makes."""
    return (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner)
        | st.builds(Point, inner, inner)
        | st.builds(Order, lines=st.lists(st.builds(Point, inner)), tax=st.integers())
    )


SETS = st.recursive(HASHABLE, lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner), max_leaves=5)
VALUES = st.recursive(HASHABLE | st.sets(SETS, max_size=5) | st.frozensets(SETS, max_size=5), nest, max_leaves=20)


class TestRoundTrip:
    @given(value=VALUES)
    def test_every_value_is_what_it_was(self, value: Any) -> None:
        """Any nesting of any supported types comes back equal, of the same types, in the same order."""
        assert_kept(value)

    @given(value=st.dictionaries(KEYS, st.integers() | ANY_TEXT | st.dictionaries(KEYS, st.none())))
    def test_p7_dicts_with_any_keys_pass_through(self, value: Any) -> None:
        """Whatever the keys of a dict are, it stays that dict."""
        assert_kept(value)

    @given(data=st.recursive(st.none() | st.integers() | ANY_TEXT, lambda x: st.lists(x) | st.dictionaries(KEYS, x)))
    def test_p7_what_looks_like_stored_text_is_data(self, data: Any) -> None:
        """The stored form of a value, read as plain JSON, is itself a value like any other."""
        assert_kept(json.loads(dumps(data, "it")))

    @pytest.mark.parametrize(
        "value",
        [
            (1, (2, [3])),
            datetime(2026, 11, 23, 12, tzinfo=ZoneInfo("Europe/Berlin")),
            Decimal("1.10"),
            {1, 2},
            frozenset({("a", 1)}),
            b"\x00\xff",
            Colour.LIKE_A_TUPLE,
            Point(1, Money(Decimal("9.99"))),
        ],
    )
    def test_p3_equal_before_and_after(self, value: Any) -> None:
        """A tuple, datetime, Decimal, set, bytes, enum or dataclass is equal at first and on replay."""
        text, first = round_trip(value, "it")
        assert first == value == loads(text)
        assert type(first) is type(value)

    @pytest.mark.parametrize(
        "value",
        [
            {"$type": "x"},
            {"$tuple": [1, 2]},
            {"$dict": [["a", 1]]},
            {"$dict": {"$dict": []}},
            {"$:money": 1},
            {"$": None},
            {"$nope": {"$nope": 1}},
            {"_error": True},
            {"__canx__": "datetime", "value": "2026-01-01"},
            {"$type": "x", "$value": 1},
            [{"$set": 1}, ({"$enum": ["os:sep", "x"]},)],
            '{"$tuple":[]}',
            "$100",
            {"price": "$100"},
        ],
    )
    def test_p7_user_data_that_looks_like_engine_data(self, value: Any) -> None:
        """A dict that looks like a tag is only a dict."""
        assert_kept(value)

    @pytest.mark.parametrize(
        "value",
        [
            "\x00",
            {"\x00": "\x00"},
            "\ud800",
            "\udfff\ud800",
            TWO_SURROGATES,
            "\U0001f600",
            f"a{TWO_SURROGATES}\U0001f600",
            {TWO_SURROGATES: 1, "\U0001f600": 2},
            {f"${TWO_SURROGATES}": 1},
            "\u2028\u2029\x7f\x1b",
        ],
    )
    def test_strange_text(self, value: Any) -> None:
        """NUL, lone surrogates and surrogates that would join are stored as printable ASCII and come back."""
        assert_kept(value)

    @pytest.mark.parametrize(
        "value", [0, -1, 2**63, -(2**64), 10**600, 10**10_000, -(10**10_000), 2**2000, 2**2000 - 1], ids=int.bit_length
    )
    def test_ints_of_any_size(self, value: int) -> None:
        """An int too long for Python's own limit on decimal digits is stored all the same."""
        text, first = round_trip(value, "it")
        assert first == value == loads(text)
        assert loads(dumps([value], "it")) == [value]

    def test_ints_under_the_lowest_limit(self) -> None:
        """A process with the strictest limit on digits reads what another one wrote."""
        before = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(640)
        try:
            value = 10**10_000
            assert loads(dumps([value, 10**600], "it")) == [value, 10**600]
        finally:
            sys.set_int_max_str_digits(before)

    @pytest.mark.parametrize("value", [-0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 1e16, 1.0])
    def test_floats_are_exact(self, value: float) -> None:
        """Sign, smallest, largest and last digit are kept, and a float does not become an int."""
        assert_kept(value)
        assert_kept([value])

    @pytest.mark.parametrize(
        "text", ["0", "-0", "1.10", "1E+30", "1E-400", "NaN", "-NaN123", "sNaN", "Infinity", "-Infinity"]
    )
    def test_decimals_are_exact(self, text: str) -> None:
        """Trailing zeros, exponents and the special values of Decimal are kept."""
        assert_kept(Decimal(text))

    @pytest.mark.parametrize("value", [True, False, [True, 1, False, 0], {"a": True}])
    def test_bool_is_not_int(self, value: Any) -> None:
        """True stays True, and 1 stays 1."""
        assert_kept(value)

    @pytest.mark.parametrize(
        "value",
        [
            datetime(2026, 10, 25, 2, 30),
            datetime(2026, 10, 25, 2, 30, fold=1),
            datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
            datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=ZoneInfo("Europe/Berlin")),
            datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),  # A time that does not exist.
            datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")),
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(1, 1, 1, tzinfo=ZoneInfo("America/New_York")),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-23, minutes=-59))),
            datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=timezone(timedelta(hours=1, minutes=2, seconds=3, microseconds=4))),
            time(2, 30, fold=1),
            time(23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-5))),
            time(2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
            date.min,
            timedelta.min,
            timedelta.max,
            timedelta(microseconds=-1),
        ],
    )
    def test_moments_keep_fold_and_zone(self, value: Any) -> None:
        """A datetime or time comes back with its fold, and with its ZoneInfo key or else its offset."""
        assert_kept(value)
        assert loads(dumps(value, "it")) == value

    def test_a_zone_info_is_the_same_object_again(self) -> None:
        """Arithmetic over a change of the clocks gives the same after a replay."""
        value = datetime(2026, 10, 24, 12, tzinfo=ZoneInfo("Europe/Berlin"))
        assert loads(dumps(value, "it")).tzinfo is value.tzinfo

    def test_other_zones_become_their_offset(self) -> None:
        """A zone that has no key is kept as the offset it had at that moment."""
        value = datetime(2026, 1, 1, 12, tzinfo=Unruly())
        assert loads(dumps(value, "it")).isoformat() == "2026-01-01T12:00:00+00:30"
        nameless = ZoneInfo.from_file(BytesIO(zone_file("Europe/Berlin")))
        misnamed = ZoneInfo.from_file(BytesIO(zone_file("Europe/Berlin")), key="Moon/Tranquility")
        for zone in (nameless, misnamed):
            summer = datetime(2026, 7, 1, 12, tzinfo=zone)
            assert loads(dumps(summer, "it")).isoformat() == "2026-07-01T12:00:00+02:00"

    def test_a_time_of_a_zone_without_key_or_offset_is_refused(self) -> None:
        """A bare time has no offset of its own, so there would be nothing to keep."""
        with pytest.raises(NotSerializable, match="Unruly has neither a key nor a fixed offset"):
            dumps(time(12, tzinfo=Unruly()), "it")
        assert loads(dumps(time(12, tzinfo=Fixed()), "it")).isoformat() == "12:00:00+00:45"

    @pytest.mark.parametrize("value", [*Colour, *Level, *Word, *Access, *Tolerant, Size.SMALL, Order.Status.PAID])
    def test_enum_members_are_themselves(self, value: Any) -> None:
        """A member comes back as the one and only member, whatever its value, also as an IntEnum or StrEnum."""
        assert loads(dumps(value, "it")) is value
        assert loads(dumps({"a": [value]}, "it"))["a"][0] is value

    def test_combined_flags_are_themselves(self) -> None:
        """Combinations of flags, none, and the unnamed bits of an IntFlag are kept."""
        for value in (Access.READ | Access.WRITE, Access(0), Bits.ONE | Bits.FOUR, Bits(8)):
            assert_kept(value)

    def test_dataclasses_are_equal_again(self) -> None:
        """Frozen ones, slots, nested ones and enum members inside them: equal, and of the same class."""
        order = Order(lines=[Point(1, (2,)), Point(Point(3))], total=Money(Decimal("1.50")), tax=7)
        assert_kept(order)
        assert loads(dumps(order, "it")) == order

    def test_a_field_that_init_does_not_take_is_kept(self) -> None:
        """What was set after __init__ is what comes back, and __post_init__ does not run again."""
        order = Order(lines=[])
        order.number = -5
        assert loads(dumps(order, "it")).number == -5
        refusing = Refusing(1)
        refusing.value = -1
        assert loads(dumps(refusing, "it")) == refusing

    def test_a_field_without_value_stays_without(self) -> None:
        """An init=False field that nobody has set is not set by reading."""
        assert not hasattr(loads(dumps(Late(), "it")), "unset")

    def test_a_subclass_of_str_is_stored_as_str(self) -> None:
        """Its characters count, not what its methods say; in keys too."""
        text, first = round_trip({Text("key"): [Text("value"), mark_safe("<b>")], Word.YES: 1}, "it")
        assert portrait(first) == portrait({"key": ["value", "<b>"], "yes": 1})
        assert portrait(loads(text)) == portrait(first)
        assert portrait(round_trip(Text("value"), "it")[1]) == portrait("value")

    def test_what_a_step_returns_is_a_copy(self) -> None:
        """Whoever changes the object that a step returned does not change the result."""
        value = {"lines": [1]}
        _, first = round_trip(value, "it")
        value["lines"].append(2)
        assert first == {"lines": [1]}

    def test_plain_values_are_plain_json(self) -> None:
        """A result of JSON types is readable by anybody, with its keys in order."""
        value = {"b": 1, "a": [None, True, 2.5, "ü"]}
        assert dumps(value, "it") == '{"b":1,"a":[null,true,2.5,"\\u00fc"]}'

    def test_threads_do_not_disturb_each_other(self) -> None:
        """Eight threads encoding and decoding at once all get their own values back."""
        wrong: list[Any] = []

        def work(number: int) -> None:
            value = {"own": [(number, Decimal(number), {str(number): {number}})] * 20}
            wrong.extend(value for _ in range(50) if loads(dumps(value, "it")) != value)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def zone_file(key: str) -> bytes:
    """The zone as it lies on this machine."""
    from zoneinfo import TZPATH

    for folder in TZPATH:
        if (path := Path(folder) / key).exists():
            return path.read_bytes()
    from importlib import resources

    return resources.files("tzdata.zoneinfo").joinpath(key).read_bytes()


def local_class() -> Any:
    """An object of a class that only this function knows."""

    @dataclass
    class Local:
        x: int = 1

    return Local()


class Pair(NamedTuple):
    a: int


OldPair = namedtuple("OldPair", "a")

MADE: Any = Enum("Unfindable", "A")
REFUSED: list[tuple[Any, str]] = [
    (float("nan"), "nan is not a finite number"),
    (float("-inf"), "-inf is not a finite number"),
    (object(), "builtins.object is not a type that can be stored"),
    (Stray(7), "is not a member of tests.core.test_codec.Stray under its name"),
    (Fraction(1, 2), "return plain data, or register it with canx_flow.register_type"),
    (Whole(1), "exact types only, and it is a subclass of int"),
    (OrderedDict(a=1), "exact types only, and it is a subclass of dict"),
    (Counter("a"), "a subclass of dict"),
    (Pair(1), "a subclass of tuple"),
    (OldPair(1), "a subclass of tuple"),
    (type("Day", (date,), {})(2026, 1, 1), "a subclass of date"),
    (bytearray(b"x"), "builtins.bytearray is not a type"),
    (range(3), "builtins.range is not a type"),
    ((x for x in "ab"), "builtins.generator is not a type"),
    (1j, "builtins.complex is not a type"),
    (dumps, "builtins.function is not a type"),
    (Point, "builtins.type is not a type"),
    (BrokenError(1), "is not safe"),
    (PlainSubclass(1), "PlainSubclass is not a type that can be stored"),
    (local_class(), "<locals>.Local is not found by its name: define it at the top of a module"),
    (MADE["A"], "is not found by its name"),
    ({1: "a"}, "a dict key must be a str, not int"),
    ({None: "a"}, "a dict key must be a str, not NoneType"),
    ({"a": 1, ("b",): 2}, "a dict key must be a str, not tuple"),
    ({Level.LOW: 2}, "a dict key must be a str, not Level"),
    (gettext_lazy("text"), "call str() on a lazy text"),
    (datetime(2026, 1, 1, tzinfo=Faulty()), "OSError: no zone file"),
]


class TestRefusals:
    @pytest.mark.parametrize(("value", "why"), REFUSED)
    def test_what_cannot_be_stored_is_refused(self, value: Any, why: str) -> None:
        """NotSerializable says what it was about and why, at the top as anywhere inside."""
        for outer in (value, [value], {"a": (value,)}, Point(value)):
            with pytest.raises(NotSerializable) as caught:
                round_trip(outer, "the result of step 'charge'")
            assert str(caught.value).startswith("the result of step 'charge' cannot be stored: ")
            assert why in str(caught.value)

    @pytest.mark.parametrize("cls", [dataclass(type("Job", (), {})), Enum("Size", ["SMALL"]), Flag("May", ["READ"])])
    def test_a_class_of_the_program_is_refused(self, cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is found here, and by no worker: `__main__` is another module there."""
        monkeypatch.setattr(cls, "__module__", "__main__")
        monkeypatch.setattr(sys.modules["__main__"], cls.__name__, cls, raising=False)
        value = cls() if is_dataclass(cls) else next(iter(cls))
        with pytest.raises(
            NotSerializable, match="belongs to the program that is run, and no worker finds it"
        ) as caught:
            dumps([value], "the arguments")
        assert caught.value.path == "[0]"

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            (object(), ""),
            ([1, object()], "[1]"),
            ({"items": [{"price": (0, object())}]}, "['items'][0]['price'][1]"),
            (Point([Money(object())]), ".x[0].amount"),  # type: ignore[arg-type]
            ({"é": object()}, "['é']"),
            ({"$x": object()}, "['$x']"),
            ({"a": {"b": 1, 2: 3}}, "['a']"),
            ({"k" * 1000: object()}, "['" + "k" * 58 + "…]"),
        ],
    )
    def test_the_path_leads_to_the_culprit(self, value: Any, path: str) -> None:
        """The path reads as one would write it in Python."""
        with pytest.raises(NotSerializable) as caught:
            dumps(value, "it")
        assert caught.value.path == path
        assert caught.value.what == "it"

    def test_model_instances_and_querysets_are_refused_with_advice(self) -> None:
        """The message tells what to return instead, and why."""
        with pytest.raises(
            NotSerializable, match=r"return user\.pk, or the fields you need .*not the result that the run"
        ):
            dumps({"user": User(username="ada")}, "it")
        with pytest.raises(NotSerializable, match=r"return the primary keys, or the fields you need, as a list"):
            dumps(User.objects.all(), "it")

    def test_a_container_that_contains_itself_is_refused(self) -> None:
        """A cycle is refused at once, whatever it goes through."""
        items: list[Any] = []
        items.append(items)
        table: dict[str, Any] = {}
        table["self"] = (table,)
        strange: dict[str, Any] = {}
        strange["é"] = [strange]
        point = Point(None)
        point.x = point
        for value in (items, table, strange, point):
            with pytest.raises(NotSerializable, match="or contains itself") as caught:
                dumps(value, "it")
            assert len(str(caught.value)) < 500

    def test_depth_has_a_limit_that_always_reads_again(self) -> None:
        """What is just not too deep to be written can be read, and one level more is refused."""
        for wrap in (lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}, Point):
            value: Any = 1
            for _ in range(codec.MAX_DEPTH + 1):
                value = wrap(value)
            assert portrait(loads(dumps(value, "it"))) == portrait(value)
            with pytest.raises(NotSerializable, match="200 levels"):
                dumps(wrap(value), "it")

    def test_a_stack_that_is_full_already_is_no_crash(self) -> None:
        """Where the project's own recursion has left too few frames, a value is refused in order."""
        value: Any = 1
        for _ in range(150):
            value = (value,)
        text, before = dumps(value, "it"), sys.getrecursionlimit()
        sys.setrecursionlimit(len(inspect.stack(0)) + 75)
        try:
            with pytest.raises(NotSerializable, match="nested"):
                dumps(value, "it")
        finally:
            sys.setrecursionlimit(before)
        assert loads(text) == value

    def test_a_container_that_changes_meanwhile_is_refused(self) -> None:
        """A dict that somebody else changes while it is read is no value."""
        table: dict[str, Any] = {"a": None, "b": Handmade(1)}

        def grow(value: Any) -> Any:
            table[str(len(table))] = 1
            return 1

        register_type("tests.growing", Handmade, grow, Handmade)
        try:
            with pytest.raises(NotSerializable, match="changed size"):
                dumps(table, "it")
        finally:
            forget("tests.growing")

    def test_two_keys_of_the_same_text_are_refused(self) -> None:
        """Nothing is lost in silence where two keys would become one."""
        with pytest.raises(NotSerializable, match="two of its keys are the same text"):
            dumps({Word.YES: 1, Unequal("yes"): 2}, "it")

    def test_a_payload_over_the_limit_is_refused_with_both_sizes(self, settings: Any) -> None:
        """The size that counts is that of the stored text."""
        settings.CANX_FLOW = {"MAX_PAYLOAD_BYTES": 10}
        assert dumps("x" * 8, "it") == f'"{"x" * 8}"'
        with pytest.raises(PayloadTooLarge) as caught:
            round_trip("x" * 9, "the result of step 'charge'")
        assert (caught.value.size, caught.value.limit) == (11, 10)
        assert str(caught.value).startswith("the result of step 'charge' takes 11 bytes")

    def test_the_engines_own_data_knows_no_limit(self, settings: Any) -> None:
        """A list of failures is stored whatever its size, as text that every database takes."""
        settings.CANX_FLOW = {"MAX_PAYLOAD_BYTES": 10}
        errors = [{"message": "é\ud800\x00" * 100, "$type": None}]
        text = codec.dumps_plain(errors)
        assert text.isascii()
        assert codec.loads_plain(text) == errors


class Unequal(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1


class TestDamage:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            " 1",
            "1 2",
            "{",
            "nul",
            "NaN",
            "[Infinity]",
            '{"$tuple":[-Infinity]}',
            '{"$nope":1}',
            '{"$":1}',
            '{"$:tests.unknown":1}',
            '{"$tuple":"abc"}',
            '{"$set":[[]]}',
            '{"$set":{"a":1}}',
            '{"$dict":[1]}',
            '{"$dict":{"a":1}}',
            '{"$bytes":"é"}',
            '{"$bytes":5}',
            '{"$int":"zz"}',
            '{"$str":"!"}',
            '{"$datetime":"yesterday"}',
            '{"$datetime":["2026-01-01T00:00:00",0,"Moon/Tranquility"]}',
            '{"$datetime":["2026-01-01T00:00:00",0,"../../etc/passwd"]}',
            '{"$datetime":["2026-01-01T00:00:00",7]}',
            '{"$date":null}',
            '{"$time":[]}',
            '{"$timedelta":[1,2]}',
            '{"$timedelta":[999999999999,0,0]}',
            '{"$decimal":"x"}',
            '{"$uuid":"x"}',
            '{"$enum":["os:sep","x"]}',
            '{"$enum":["tests.core.test_codec:Colour","BLUE"]}',
            '{"$enum":["tests.core.test_codec:Point","x"]}',
            '{"$enum":["tests.core.test_codec","RED"]}',
            '{"$enum":[":","RED"]}',
            '{"$enum":5}',
            '{"$flag":["tests.core.test_codec:Access",64]}',
            '{"$flag":["tests.core.test_codec:Tolerant",64]}',
            '{"$flag":["tests.core.test_codec:Colour","red"]}',
            '{"$dataclass":["tests.core.test_codec:Gone",{}]}',
            '{"$dataclass":["tests.core.test_codec:Colour",{}]}',
            '{"$dataclass":["tests.core.test_codec:Point",[1]]}',
            '{"$dataclass":["tests.core.test_codec:Point",{"y":1}]}',
            '{"$dataclass":["tests.core.test_codec:Point",{"x":1,"z":2}]}',
            '{"$dataclass":["builtins:int",{}]}',
            '{"$dataclass":["no.such.module:Point",{"x":1}]}',
            '{"$dataclass":["",{}]}',
            "[" * 100_000,
            "9" * 10_000,
        ],
    )
    def test_c011_text_that_makes_no_value_is_not_decodable(self, text: str) -> None:
        """Damage, unknown tags, classes that are gone: always NotDecodable, never another error, never half a value."""
        with pytest.raises(NotDecodable) as caught:
            loads(text)
        assert str(caught.value)

    @pytest.mark.parametrize("text", [None, 5, b'{"$tuple":[]}', object()])
    def test_what_is_no_text_is_not_decodable(self, text: Any) -> None:
        """A column that is empty is as undecodable as one that is damaged."""
        with pytest.raises(NotDecodable):
            loads(text)

    @given(text=st.text(st.sampled_from('{}[]",:$0123456789abdeilnstu\\. ')))
    def test_any_text_decodes_or_is_not_decodable(self, text: str) -> None:
        """There is no third outcome."""
        try:
            value = loads(text)
        except NotDecodable:
            return
        assert_kept(value)

    @given(cut=st.integers(1, 200))
    def test_half_a_text_is_not_decodable(self, cut: int) -> None:
        """A text that was cut off is never taken for a value."""
        text = dumps({"a": [Point((1, {2}), Decimal(1))], "b": "x" * 100, "c": Colour.RED}, "it")
        with pytest.raises(NotDecodable):
            loads(text[:-cut])

    def test_a_new_field_with_a_default_is_filled_in(self) -> None:
        """A result stored before a field was added can be read after it."""
        assert loads('{"$dataclass":["tests.core.test_codec:Point",{"x":1}]}') == Point(1, 0)
        assert loads('{"$dataclass":["tests.core.test_codec:Basket",{}]}') == Basket([])
        text = '{"$dataclass":["tests.core.test_codec:Order",{"lines":[],"number":1}]}'
        assert loads(text) == loads(dumps(loads(text), "it"))

    def test_a_new_field_without_default_and_a_gone_field_are_named(self) -> None:
        """Who reads the message knows which field is missing where."""
        with pytest.raises(NotDecodable, match=r"tests.core.test_codec:Point has a new field x without a default"):
            loads('{"$dataclass":["tests.core.test_codec:Point",{"y":1}]}')
        with pytest.raises(NotDecodable, match=r"tests.core.test_codec:Point has no field z any more"):
            loads('{"$dataclass":["tests.core.test_codec:Point",{"x":1,"z":1}]}')


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is on the path, twice: as modules of their own, and as modules inside an installed app."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(canx_flow, "__path__", [*canx_flow.__path__, str(tmp_path)])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.rpartition(".")[2].startswith("written_"):
            del sys.modules[name]
            canx_flow.__dict__.pop(name.rpartition(".")[2], None)


class TestClasses:
    SOURCE = "from dataclasses import dataclass\n@dataclass\nclass Parcel:\n    x: int\n"

    def test_a_module_that_is_not_imported_is_not_imported(self, modules: Path) -> None:
        """Stored text cannot make a worker import a module that belongs to no installed app."""
        (modules / "written_stranger.py").write_text(self.SOURCE)
        with pytest.raises(NotDecodable, match="must be in an imported module or in an installed app"):
            loads('{"$dataclass":["written_stranger:Parcel",{"x":1}]}')
        assert "written_stranger" not in sys.modules

    def test_a_module_of_an_installed_app_is_imported(self, modules: Path) -> None:
        """A worker that has not needed a module of an app yet finds its classes nevertheless."""
        (modules / "written_parcels.py").write_text(self.SOURCE)
        value = loads('{"$dataclass":["canx_flow.written_parcels:Parcel",{"x":1}]}')
        assert type(value).__name__ == "Parcel"
        assert value.x == 1

    def test_a_module_that_fails_to_import_is_not_decodable(self, modules: Path) -> None:
        """Whatever the app's module raises, the outcome is NotDecodable."""
        (modules / "written_broken.py").write_text("raise ZeroDivisionError('at import')")
        with pytest.raises(NotDecodable, match="at import"):
            loads('{"$dataclass":["canx_flow.written_broken:Parcel",{"x":1}]}')

    def test_a_name_that_only_begins_like_an_app_is_no_part_of_it(self, modules: Path) -> None:
        """`canx_flowers` is not in `canx_flow`."""
        (modules / "canx_flowers_written.py").write_text(self.SOURCE)
        with pytest.raises(NotDecodable):
            loads('{"$dataclass":["canx_flowers_written:Parcel",{"x":1}]}')

    def test_a_class_that_was_moved_is_found_under_its_old_name(self, modules: Path) -> None:
        """An alias left behind where a class was is enough to read what was stored before."""
        (modules / "written_old.py").write_text("from tests.core.test_codec import Point as Parcel")
        assert loads('{"$dataclass":["canx_flow.written_old:Parcel",{"x":1}]}') == Point(1)


def forget(tag: str) -> None:
    """Take a registered type out again."""
    cls = codec._registered.pop(tag)
    encoding.ENCODERS.pop(cls)
    decoding.DECODERS.pop(f"$:{tag}")


@pytest.fixture
def registered() -> Iterator[None]:
    """Handmade can be stored."""
    register_type("tests.handmade", Handmade, lambda handmade: handmade.value, Handmade)
    yield
    forget("tests.handmade")


@pytest.mark.usefixtures("registered")
class TestRegisteredTypes:
    @given(value=VALUES)
    def test_a_registered_type_is_what_it_was(self, value: Any) -> None:
        """Whatever its encode returns is stored as any value is, and given to its decode."""
        assert portrait(loads(dumps(Handmade(value), "it")).value) == portrait(value)

    def test_it_can_be_nested_in_itself(self) -> None:
        """A registered type may hold others of its kind."""
        value = Handmade([Handmade(({"a": Handmade(1)},))])
        assert loads(dumps([value], "it")) == [value]

    def test_its_subclasses_are_refused(self) -> None:
        """Exactly the class that was registered is stored."""
        with pytest.raises(NotSerializable):
            dumps(type("Finer", (Handmade,), {})(1), "it")

    def test_what_its_encode_returns_must_be_storable(self) -> None:
        """An unstorable inside is found with its path; a type that returns itself does not loop."""
        with pytest.raises(NotSerializable) as caught:
            dumps({"a": Handmade([object()])}, "it")
        assert caught.value.path == "['a'][0]"
        value = Handmade(None)
        value.value = value
        with pytest.raises(NotSerializable, match="contains itself"):
            dumps(value, "it")

    def test_registering_it_again_replaces_it(self) -> None:
        """A module that is reloaded registers its types again."""
        register_type("tests.handmade", Handmade, lambda handmade: [handmade.value], lambda stored: Handmade(stored[0]))
        assert dumps(Handmade(1), "it") == '{"$:tests.handmade":[1]}'
        assert loads(dumps(Handmade(1), "it")) == Handmade(1)

    def test_a_tag_or_a_class_that_is_taken_is_refused(self) -> None:
        """One tag is one class, one class is one tag, and the types that are known already stay as they are."""
        with pytest.raises(ValueError, match=r"tag 'tests\.handmade' is taken"):
            register_type("tests.handmade", Fraction, str, Fraction)
        with pytest.raises(ValueError, match=r"under tag 'tests\.handmade'"):
            register_type("tests.second", Handmade, str, Handmade)
        with pytest.raises(ValueError, match=r"builtins.dict is stored already"):
            register_type("tests.dict", dict, list, dict)

    @pytest.mark.parametrize("tag", ["", "a b", "é", "$x", "x" * 101, "a\n"])
    def test_an_ill_formed_tag_is_refused(self, tag: str) -> None:
        """Tags are short and plain: they are stored with every value."""
        with pytest.raises(ValueError, match="tag"):
            register_type(tag, Fraction, str, Fraction)

    @pytest.mark.parametrize(
        "arguments",
        [
            (5, Fraction, str, Fraction),
            ("x", "Fraction", str, str),
            ("x", Fraction, 1, str),
            ("x", Fraction, str, None),
        ],
    )
    def test_wrong_arguments_are_refused(self, arguments: Any) -> None:
        """A TypeError, when it is registered, and nothing is."""
        with pytest.raises(TypeError):
            register_type(*arguments)
        assert Fraction not in encoding.ENCODERS


class TestRegisteredFailures:
    def test_an_encode_that_raises_is_not_serializable(self) -> None:
        """The path, and what was raised, are told."""
        register_type("tests.bad", Handmade, lambda _handmade: 1 / 0, Handmade)
        try:
            with pytest.raises(NotSerializable, match=r"at \[0\]: ZeroDivisionError: division by zero") as caught:
                dumps([Handmade(1)], "it")
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
        finally:
            forget("tests.bad")

    def test_a_decode_that_raises_is_not_decodable(self) -> None:
        """The tag, and what was raised, are told."""
        register_type("tests.bad", Handmade, lambda _handmade: 0, lambda stored: Handmade(1 / stored))
        try:
            with pytest.raises(NotDecodable, match=r"a stored tests\.bad does not decode: ZeroDivisionError"):
                loads(dumps(Handmade(1), "it"))
        finally:
            forget("tests.bad")

    def test_dataclasses_and_enums_may_have_a_form_of_their_own(self) -> None:
        """A registered form goes before the usual one."""
        register_type("tests.money", Money, lambda money: str(money.amount), lambda stored: Money(Decimal(stored)))
        try:
            assert dumps(Money(Decimal("1.50")), "it") == '{"$:tests.money":"1.50"}'
            assert loads(dumps({Text("a"): Money(Decimal("1.50"))}, "it")) == {"a": Money(Decimal("1.50"))}
        finally:
            forget("tests.money")


class TestUuid:
    def test_only_the_standard_librarys_uuid(self) -> None:
        """A UUID comes back as a UUID; a library's subclass of it is refused."""
        assert_kept(UUID(int=7))
        with pytest.raises(NotSerializable, match="a subclass of UUID"):
            dumps(type("Uuid7", (UUID,), {})(int=7), "it")


@pytest.mark.parametrize("microseconds", [1, -1, 1_000_001, 3_600_000_001])
def test_an_offset_with_a_fraction_of_a_second_comes_back(microseconds: int) -> None:
    """`fromisoformat` reads the smallest offsets as UTC; what was stored is read back all the same."""
    zone = timezone(timedelta(microseconds=microseconds))
    for value in (datetime(2020, 1, 1, tzinfo=zone), time(1, 2, tzinfo=zone)):
        assert repr(codec.loads(codec.dumps(value, "it"))) == repr(value)


@pytest.mark.once
def test_one_text_stands_for_equal_values() -> None:
    """Whatever order a set or a dict was written in, at any depth; a list's order says something."""
    texts = [
        '[{"b":{"$set":["x",{"$frozenset":[2,1]},null]},"a":1}]',
        '[{"a":1,"b":{"$set":[null,{"$frozenset":[1,2]},"x"]}}]',
    ]
    assert len({codec.canonical(text) for text in texts}) == 1
    assert codec.canonical('{"$dict":[["b",1],["a",2]]}') == codec.canonical('{"$dict":[["a",2],["b",1]]}')
    assert codec.canonical("[1,2]") != codec.canonical("[2,1]")
    assert codec.canonical('{"$tuple":[1,2]}') != codec.canonical('{"$tuple":[2,1]}')


class TestBounds:
    """What is small in memory and large as text, or quick to write and slow to make, is refused before that."""

    @staticmethod
    def shared(levels: int, value: Any) -> Any:
        """Two of it, two of that, and so on: one list more for each doubling of the text."""
        for _ in range(levels):
            value = [value, value]
        return value

    @pytest.mark.parametrize(
        "value",
        [
            [],
            {"k" * 1000: 1},
            "x" * 100_000,
            "é" * 100_000,
            b"x" * 100_000,
            10**30_000,
            Decimal("1" * 10_000),
            (1,),
            frozenset({1}),
            datetime(2026, 1, 1),
            time(12),
            date(2026, 1, 1),
            timedelta(1),
            UUID(int=1),
            Point(1, 2),
            Colour.RED,
            {"é": "x" * 100_000},
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_value_that_shares_its_parts_is_not_written_first(self, value: Any) -> None:
        """Forty lists that would be a billion items as text: PayloadTooLarge, after a few times the limit at most."""
        with pytest.raises(PayloadTooLarge, match="or more") as caught:
            codec.dumps(self.shared(40, value), "x")
        assert caught.value.limit < caught.value.size < 3 * caught.value.limit

    def test_it_takes_memory_for_no_more_than_the_limit(self) -> None:
        """Not for all that the text would be: a gigabyte and a half of lists of references here."""
        value = self.shared(24, "x")
        tracemalloc.start()
        try:
            with pytest.raises(PayloadTooLarge):
                codec.dumps(value, "x")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 150_000_000

    @example([[]])
    @given(VALUES)
    def test_nothing_is_counted_for_more_than_it_takes(self, value: Any) -> None:
        """Of whatever kind: a value of twice the limit at most is told with its exact size."""
        text = codec.dumps(value, "x")
        with override_settings(CANX_FLOW={"MAX_PAYLOAD_BYTES": max(len(text) // 2, 1)}):
            if len(text) > 1:
                with pytest.raises(PayloadTooLarge) as caught:
                    codec.dumps(value, "x")
                assert (caught.value.size, caught.value.more) == (len(text), False)

    def test_keys_of_any_language_cost_no_more_with_each_level(self) -> None:
        """What is within a dict is written and counted once, wherever a key stands that is not plain ASCII."""
        value: dict[str, Any] = {}
        for level in range(150):
            value = {"first": level, "within": value, "größe": level, "last": [level]}
        assert codec.loads(codec.dumps(value, "x")) == value

    def test_what_is_just_too_large_is_told_exactly(self) -> None:
        """Up to twice the limit the text is written, and its size is known."""
        value = ["x" * 1000] * 1500
        with pytest.raises(PayloadTooLarge) as caught:
            codec.dumps(value, "x")
        assert caught.value.size == len(json.dumps(value, separators=(",", ":")))
        assert "or more" not in str(caught.value)

    @pytest.mark.parametrize(
        "value",
        [
            [[]] * 300_000,
            [{}] * 300_000,
            [""] * 300_000,
            {str(number): 1 for number in range(90_000)},
            [1] * 499_000,
            [None] * 199_000,
            [datetime(2026, 1, 1)] * 20_000,
            [timedelta(0)] * 40_000,
            [UUID(int=0)] * 19_000,
            [date(2026, 1, 1)] * 40_000,
            [(1,)] * 60_000,
        ],
        ids=lambda value: f"{len(value)} {type(next(iter(value))).__name__}",
    )
    def test_what_fits_is_not_refused(self, value: Any) -> None:
        """The count on the way is never more than the text takes."""
        text = codec.dumps(value, "x")
        assert len(text) > 700_000
        assert codec.loads(text) == value

    @pytest.mark.parametrize("build", [set, frozenset])
    def test_a_set_of_one_hash_is_refused(self, build: Any) -> None:
        """Numbers that differ by 2**61 - 1 have one hash: such a set is compared item by item, at each replay again."""
        modulus = sys.hash_info.modulus
        value = build(number * modulus for number in range(1, 502))
        with pytest.raises(NotSerializable, match="same hash"):
            codec.dumps([value], "x")
        items = ",".join(str(number * modulus) for number in range(1, 20_000))
        begun = process_time()
        with pytest.raises(NotDecodable, match="same hash"):
            codec.loads(f'{{"${build.__name__}":[{items}]}}')
        assert process_time() - begun < 1  # Made, it took ten times as long.

    def test_large_sets_and_some_items_of_one_hash_are_stored(self) -> None:
        """What is no attack is a set as any other."""
        modulus = sys.hash_info.modulus
        value = {*range(20_000), *(number * modulus for number in range(1, 500)), *map(Decimal, range(30_000, 31_000))}
        assert codec.loads(codec.dumps(value, "x")) == value
