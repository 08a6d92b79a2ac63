"""When schedules tick: compared with a computation of another kind, which looks at each five minutes of two years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from canx_flow import NotSerializable
from canx_flow.core.cron import Cron
from canx_flow.core.recurrence import Recurrence
from canx_flow.core.schedules import Scheduled
from canx_flow.workflows import Workflow

pytestmark = pytest.mark.once

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata")
BEGIN, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
#: The steps in which the other computation looks at two years: all expressions here are of such minutes.
STEP = timedelta(minutes=5)


def _matches(fields: list[set[int]], time: datetime) -> bool:
    minute, hour, day, month, weekday = fields
    return (
        time.minute in minute
        and time.hour in hour
        and time.day in day
        and time.month in month
        and time.isoweekday() % 7 in weekday
    )


def _fields(expression: str) -> list[set[int]]:
    """Read a cron expression of stars, steps, lists, ranges and numbers."""
    bounds = ((0, 60), (0, 24), (1, 32), (1, 13), (0, 7))
    found = []
    for field, (low, high) in zip(expression.split(), bounds, strict=True):
        values: set[int] = set()
        for part in field.split(","):
            span, _, step = part.partition("/")
            begin, dash, end = span.partition("-")
            first = low if begin == "*" else int(begin)
            last = int(end) + 1 if dash else (high if begin == "*" else first + 1)
            values |= set(range(first, last, int(step or 1)))
        found.append(values)
    return found


@cache
def _minutes(zone: str) -> list[tuple[datetime, datetime, list[datetime]]]:
    """Return every fifth minute of two years, what the clocks show then, and which of those they have just skipped."""
    found, before, moment = [], None, BEGIN - timedelta(days=1)
    while moment < END:
        moment += STEP
        time = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        jumps = before is not None and time - before > STEP
        gap = [before + STEP * n for n in range(1, (time - before) // STEP)] if jumps else []
        found.append((moment, time, gap))
        before = time
    return found


def _minute_by_minute(expression: str, zone: str) -> list[datetime]:
    """Return the moments of two years by the documented rule, found by looking at every fifth minute."""
    fields, any_hour = _fields(expression), expression.split()[1].startswith("*")
    minutes, hours = fields[:2]
    found, shown = [], set()
    for moment, time, gap in _minutes(zone):
        matches = time.minute in minutes and time.hour in hours and _matches(fields, time)
        if not any_hour:
            matches = (matches and time not in shown) or any(_matches(fields, each) for each in gap)
            shown.add(time)
        if matches and moment > BEGIN:
            found.append(moment)
    return found


@pytest.mark.parametrize("zone", ZONES)
def test_c120_two_years_of_ticks_are_those_that_a_look_at_all_minutes_finds(zone: str) -> None:
    """In five zones, over two years, each moment is the one that the documented rule for changed clocks gives."""
    expressions = (
        "30 2 * * *", "*/30 2 * * *", "15,45 1-3 * * *", "0 0 * * *", "0 */3 * * *", "*/20 * * * *",
        "0 2 * 3,4,10,11 0", "30 1 * * *", "0 23 * * 6",
    )  # fmt: skip
    for expression in expressions:
        expected = _minute_by_minute(expression, zone)
        found = []
        for moment in Cron(expression).after(BEGIN, ZoneInfo(zone)):
            if moment > END:
                break
            found.append(moment)
        assert found == expected, (expression, sorted(set(found) ^ set(expected))[:4])


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/30 2 * * *", "*/20 * * * *", "0 */2 * * *"])
def test_ticks_are_the_same_from_wherever_one_begins(expression: str) -> None:
    """The next moment after any other is the next one of the whole row, also amid a doubled hour."""
    zone = ZoneInfo("Europe/Berlin")
    for day in (datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)):
        row = []
        for moment in Cron(expression).after(day, zone):
            if moment > day + timedelta(days=3):
                break
            row.append(moment)
        for one, other in pairwise(row):
            assert next(Cron(expression).after(one, zone)) == other
            assert next(Cron(expression).after(other - timedelta(milliseconds=1), zone)) == other


def test_c120_the_table_of_the_docs() -> None:
    """In Berlin the clocks go from 02:00 to 03:00 on 29 March 2026, and from 03:00 to 02:00 on 25 October."""

    def day(expression: str, text: str) -> list[str]:
        zone, begin = ZoneInfo("Europe/Berlin"), datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"))
        found = []
        for moment in Cron(expression).after(begin, zone):
            if moment >= begin.astimezone(UTC) + timedelta(hours=5):
                break
            found.append(f"{moment.astimezone(zone):%H:%M%z}".removesuffix("00"))
        return found

    spring, autumn = "2026-03-29T00:59", "2026-10-25T00:59"
    assert day("30 2 * * *", spring) == ["03:00+02"]
    assert day("30 2 * * *", autumn) == ["02:30+02"]
    assert day("*/30 2 * * *", spring) == ["03:00+02"]
    assert day("*/30 2 * * *", autumn) == ["02:00+02", "02:30+02"]
    assert day("0 2,3 * * *", spring) == ["03:00+02"]
    assert day("30 * * * *", spring) == ["01:30+01", "03:30+02", "04:30+02", "05:30+02", "06:30+02"][:5]
    assert day("30 * * * *", autumn) == ["01:30+02", "02:30+02", "02:30+01", "03:30+01", "04:30+01"]
    assert day("0 */2 * * *", spring) == ["04:00+02", "06:00+02"]
    assert day("0 */2 * * *", autumn) == ["02:00+02", "02:00+01", "04:00+01"]


def _rule(**given: object) -> Recurrence:
    defaults = {
        "cron": None, "every": None, "offset": timedelta(0), "tz": "UTC", "window": timedelta(0), "start_at": None,
        "end_at": None,
    }  # fmt: skip
    return Recurrence("poll", **{**defaults, **given})  # type: ignore[arg-type]


def test_intervals_are_counted_from_the_epoch() -> None:
    """An interval does not depend on when a process began, and its offset moves all of its moments."""
    rule = _rule(every=timedelta(minutes=5), offset=timedelta(minutes=2))
    for second in (0, 1, 119, 120, 299):
        tick = rule.first_after(BEGIN + timedelta(seconds=second))
        assert tick is not None
        assert tick.nominal == BEGIN + timedelta(minutes=2 if second < 120 else 7)


def test_ticks_lie_between_start_at_and_end_at() -> None:
    """Both ends count."""
    start, end = BEGIN + timedelta(hours=2), BEGIN + timedelta(hours=5)
    ticks = _rule(cron="0 * * * *", start_at=start, end_at=end).upcoming(BEGIN, 10)
    assert [tick.nominal for tick in ticks] == [start + timedelta(hours=n) for n in range(4)]


def test_a_window_moves_each_tick_by_its_own_share_and_never_past_the_next() -> None:
    """The share is the same each time, differs from tick to tick, and is cut at the next tick."""
    rule = _rule(cron="*/10 * * * *", window=timedelta(hours=1))
    ticks = rule.upcoming(BEGIN, 500)
    assert ticks == rule.upcoming(BEGIN, 500)
    shares = [tick.due_at - tick.nominal for tick in ticks]
    assert all(timedelta(0) <= share < timedelta(minutes=10) for share in shares)
    assert len(set(shares)) > 490
    assert max(shares) > timedelta(minutes=9)
    narrow = _rule(cron="*/10 * * * *", window=timedelta(seconds=30)).upcoming(BEGIN, 100)
    assert all(tick.due_at - tick.nominal < timedelta(seconds=30) for tick in narrow)


def test_the_last_due_tick_is_found_however_far_back() -> None:
    """It is the last one whose moment with its share has come, and none before `since`."""
    old = BEGIN - timedelta(days=4000)
    for cron in ("* * * * *", "0 * * * *", "0 2 * * *", "0 0 1 * *", "0 0 1 6 *"):
        rule = _rule(cron=cron)
        found = rule.last_due(BEGIN + timedelta(hours=3), old)
        assert found is not None
        following = rule.first_after(found.nominal)
        assert following is not None
        assert found.due_at <= BEGIN + timedelta(hours=3) < following.due_at
        assert rule.last_due(BEGIN + timedelta(hours=3), BEGIN + timedelta(hours=3, seconds=1)) is None


def report(ctx: object, region: str = "all") -> None:
    """Do nothing."""


REPORT: Workflow[..., None] = Workflow.declared("report", report)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "a@b"}, "name"),
        ({"name": "n" * 201}, "name"),
        ({"name": 7}, "name"),
        ({"workflow": report}, "workflow"),
        ({"cron": None}, "cron and every"),
        ({"every": timedelta(hours=1)}, "cron and every"),
        ({"cron": "0 2 * *"}, "cron"),
        ({"cron": "0 0 2 * * *"}, "cron"),
        ({"cron": "61 2 * * *"}, "cron"),
        ({"cron": "0 2 30 2 *"}, "cron"),
        ({"cron": "@daily"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"cron": None, "every": timedelta(0)}, "every"),
        ({"cron": None, "every": 0.5}, "every"),
        ({"cron": None, "every": -1}, "every"),
        ({"cron": None, "every": "5 minutes"}, "every"),
        ({"cron": None, "every": float("nan")}, "every"),
        ({"cron": None, "every": timedelta(hours=1), "offset": timedelta(hours=1)}, "offset"),
        ({"cron": None, "every": timedelta(hours=1), "offset": -1}, "offset"),
        ({"offset": 5}, "offset"),
        ({"cron": None, "every": timedelta(days=2_000_000)}, "every"),
        ({"catch_up_window": timedelta(days=1_000_000)}, "catch_up_window"),
        ({"window": timedelta(days=999_999_999)}, "window"),
        ({"expires": timedelta(days=3_000_000)}, "expires"),
        ({"tz": "Europe/Atlantis"}, "tz"),
        ({"tz": "../etc/passwd"}, "tz"),
        ({"tz": 2}, "tz"),
        ({"args": "all"}, "args"),
        ({"args": ("a", "b")}, "args"),
        ({"args": (object(),)}, "args"),
        ({"queue": ""}, "queue"),
        ({"queue": 3}, "queue"),
        ({"priority": 101}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"overlap": "both"}, "overlap"),
        ({"overlap": None}, "overlap"),
        ({"catch_up": "two"}, "catch_up"),
        ({"catch_up_window": -1}, "catch_up_window"),
        ({"catch_up_window": "1 day"}, "catch_up_window"),
        ({"window": -5}, "window"),
        ({"window": timedelta(days=-1)}, "window"),
        ({"start_at": datetime(2026, 1, 1)}, "start_at"),
        ({"start_at": "2026"}, "start_at"),
        ({"end_at": datetime(2026, 1, 1)}, "end_at"),
        ({"start_at": END, "end_at": BEGIN}, "end_at"),
        ({"expires": 0}, "expires"),
        ({"expires": "1h"}, "expires"),
    ],
)
def test_bad_input_is_refused_at_the_declaration_by_its_name(given: dict[str, object], named: str) -> None:
    """ValueError for a bad value, TypeError for another type, NotSerializable for arguments; all name the option."""
    options: dict[str, object] = {"name": "nightly", "workflow": REPORT, "cron": "0 2 * * *", **given}
    with pytest.raises((ValueError, TypeError, NotSerializable), match=named):
        Scheduled.declared(options.pop("name"), options.pop("workflow"), **options)  # type: ignore[arg-type]


def test_a_default_time_zone_without_data_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is given: a slim image may have the data of none."""
    monkeypatch.setattr("canx_flow.core.schedule_options.settings", SimpleNamespace(TIME_ZONE="Europe/Atlantis"))
    with pytest.raises(ValueError, match="tz 'Europe/Atlantis'"):
        Scheduled.declared("nightly", REPORT, cron="0 2 * * *")


def test_the_longest_interval_ends_where_moments_do() -> None:
    """Its last moment has none after it, and that is no error."""
    ticks = _rule(every=timedelta(days=36_525)).upcoming(BEGIN, 1000)
    assert ticks[-1].nominal.year < 9999
    assert len(ticks) < 100


def test_a_rule_has_its_own_moments_alone() -> None:
    """A moment that the zone's data once gave, and no longer give, is none."""
    rule = _rule(cron="30 2 * * *", tz="Europe/Berlin")
    tick = rule.first_after(BEGIN)
    assert tick is not None
    assert rule.has(tick.nominal)
    assert not rule.has(tick.nominal + timedelta(hours=1))


def test_a_stored_schedule_is_the_declared_one() -> None:
    """What a row holds makes the same schedule, and the same text, again."""
    one = Scheduled.declared(
        "nightly", REPORT, cron="0  2 * * *", tz="Europe/Paris", args=("north",), queue="slow", priority=-5,
        overlap="buffer_one", catch_up="all", catch_up_window=timedelta(hours=3), window=90, start_at=BEGIN, end_at=END,
    )  # fmt: skip
    starting = one.starting
    # In Berlin this comes twice: to Python it equals no moment in another zone.
    twice = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    odd = Scheduled.declared("odd", REPORT, cron="0 2 * * *", start_at=twice)
    assert Scheduled.stored("odd", "report", "", odd.starting.arguments, odd.spec) == odd
    other = Scheduled.stored("nightly", starting.workflow, starting.version, starting.arguments, one.spec)
    assert other == one
    assert other.spec == one.spec
