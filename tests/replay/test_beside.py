"""Places: who begins next, and how few are begun at a time. What ended while others run is told once, and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from canx_flow.core.changes import Record, Wait, WaitEnd
from canx_flow.core.journal import Journal
from canx_flow.replay import children
from canx_flow.replay.beside import Beside, Member, Places
from canx_flow.replay.call import Found
from canx_flow.states import Kind, RecordState

pytestmark = pytest.mark.once

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class _Signal:
    def __init__(self) -> None:
        self.times = 0
        self._event = asyncio.Event()

    def set(self) -> None:
        self.times += 1
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()


class _Line(Member):
    """Begins when it is launched, and ends when the test says so."""

    def __init__(self, name: str, places: Places, log: list[str], *steps: str) -> None:
        self._name, self._places, self._log, self._steps = name, places, log, steps
        self.left = 1

    @property
    def places(self) -> Places:
        return self._places

    def take(self) -> _Line | None:
        self.left -= 1
        return self if self.left >= 0 else None

    def launch(self) -> None:
        self._log.append(self._name)

    async def serve(self) -> Member | None:
        raise AssertionError

    def steps(self) -> Sequence[str]:
        return self._steps

    def wake(self) -> _Line:
        self.left = 1
        return self


def _lines(places: Places, log: list[str], *names: str) -> list[Any]:
    return [_Line(name, places, log) for name in names]


def test_no_more_begin_than_there_are_places() -> None:
    """The first first; the next one takes over the place of one that has ended."""
    log: list[str] = []
    places = Places(2)
    places.begin(_lines(places, log, "a", "b", "c", "d"))
    assert (log, places.taken) == (["a", "b"], 2)
    following = places.follow()
    assert isinstance(following, _Line)
    following.launch()
    assert (log, places.taken) == (["a", "b", "c"], 2)
    assert places.follow() is not None
    assert (places.follow(), places.taken) == (None, 1)


def test_what_a_branch_begins_goes_before_its_siblings() -> None:
    """So that few are begun, however many there are; it gives up its own place meanwhile."""
    log: list[str] = []
    places = Places(1)
    places.begin(_lines(places, log, "a", "b"))
    places.begin(_lines(places, log, "a/x", "a/y"))
    places.rest()
    assert (log, places.taken) == (["a", "a/x"], 1)


def test_one_that_comes_back_has_the_next_place() -> None:
    """Before anything new begins."""

    async def main() -> None:
        log: list[str] = []
        places, signal = Places(1), _Signal()
        places.begin(_lines(places, log, "a", "b"))
        back = asyncio.create_task(places.go_on(signal))
        await asyncio.sleep(0)
        assert places.follow() is None
        await back
        assert (log, places.taken) == (["a"], 1)

    asyncio.run(main())


def _beside(*keys: str) -> Beside:
    return Beside(Journal(Record(n, key, Kind.WAIT, RecordState.OPEN) for n, key in enumerate(keys, start=1)), 8)


def _blocked(beside: Beside, log: list[str], step: str, event: str | None = None, key: str | None = None) -> Wait:
    wait = Wait(step, Kind.WAIT, event=event, key=key)
    beside.blocked[step] = (wait, _Line(step, beside.places, log, step))
    return wait


def test_branches_are_woken_in_the_order_of_their_waits() -> None:
    """Whatever they are told in; what its record has become is known then, and each is woken once."""
    log: list[str] = []
    beside = _beside("a", "b")
    a, b = _blocked(beside, log, "a"), _blocked(beside, log, "b")
    beside.tell([WaitEnd(b, RecordState.DUE), WaitEnd(a, RecordState.DUE), WaitEnd(b, RecordState.DUE)])
    beside.hear()
    assert log == ["a", "b"]
    assert beside.blocked == {}
    assert beside._journal.records["a"].state == RecordState.DUE


def test_what_has_ended_first_is_woken_first() -> None:
    """Whichever was opened first: of those that are looked at together, too."""
    log: list[str] = []
    beside = _beside("a", "b", "c")
    waits = [_blocked(beside, log, step) for step in "abc"]
    moments = [NOW + timedelta(seconds=3), NOW + timedelta(seconds=1), NOW + timedelta(seconds=1)]
    beside.tell([WaitEnd(wait, RecordState.DUE, at=at) for wait, at in zip(waits, moments, strict=True)])
    beside.hear()
    assert log == ["b", "c", "a"]
    assert beside._journal.records["a"].finished_at == moments[0]


def test_what_has_ended_an_earlier_wait_of_a_step_ends_no_later_one() -> None:
    """A step may have been tried, have failed, and wait again by the time it is told."""
    log: list[str] = []
    beside = _beside("a")
    old = _blocked(beside, log, "a")
    _blocked(beside, log, "a")
    beside.tell([WaitEnd(old, RecordState.DUE)])
    beside.hear()
    assert (log, beside._journal.records["a"].state) == ([], RecordState.OPEN)


def test_what_a_step_waits_for_anew_is_asked_for_once_it_is_stored() -> None:
    """Until then its record says how its earlier wait has ended. What waits for the first time is asked for at once."""
    log: list[str] = []
    beside = _beside("a", "b")
    beside.signals.append(_Signal())
    first, again = _blocked(beside, log, "a"), Wait("b", Kind.RETRY)
    beside.opens(first)
    beside.opens(again)
    beside.blocked["b"] = (again, _Line("b", beside.places, log, "b"))
    assert beside.waits() == [first]
    beside.stored([again])
    assert beside.waits() == [first, again]


def test_an_event_is_told_once() -> None:
    """Whatever becomes of that; one that was read is not told at all."""
    beside, log = _beside("a"), []
    wait = _blocked(beside, log, "a", "news")
    for _ in range(2):
        beside.tell([WaitEnd(wait, event_id=7)])
    beside._journal.events.add(8)
    beside.tell([WaitEnd(wait, event_id=8)])
    assert list(beside._told) == [WaitEnd(wait, event_id=7)]


@pytest.mark.parametrize(
    ("event", "key", "directed", "anothers"),
    [
        ("news", None, True, True), ("news", "k", True, True), ("news", None, False, True), ("news", "k", False, False),
        ("other", None, True, False),
    ],
)  # fmt: skip
def test_an_event_is_left_to_the_branch_that_has_waited_longer(
    event: str, key: str | None, directed: bool, anothers: bool
) -> None:
    """If it ends that one's wait: an event sent to the run does whatever the key, a broadcast only with its own."""
    log: list[str] = []
    beside = _beside("first")
    _blocked(beside, log, "first", event, key)
    assert beside.is_anothers(Wait("second", Kind.WAIT, event="news"), Found(1, "null", directed, NOW)) is anothers
    beside.hear()
    assert log == (["first"] if anothers else [])


def test_what_another_wait_has_read_meanwhile_has_not_come_for_this_one() -> None:
    """What was kept for a wait ends it once, while it still waits for that, and only if it is unread then."""
    beside = _beside("a")
    wait, found = Wait("a", Kind.WAIT, event="news"), Found(7, "null", False, NOW)
    beside.arrived["a"] = wait, found
    assert beside.take_arrived(wait) is found
    assert beside.take_arrived(wait) is None
    beside.arrived["a"] = wait, found
    assert beside.take_arrived(Wait("a", Kind.WAIT, event="other")) is None
    beside.arrived["a"] = wait, found
    beside._journal.events.add(7)
    assert beside.take_arrived(wait) is None


def test_an_answer_from_before_a_wait_has_ended_is_no_answer_after_it() -> None:
    """A branch asks for its child's end while another is woken: that one asks anew, and misses nothing."""
    beside = _beside("a")
    beside.tell([WaitEnd(_blocked(beside, [], "a", "end of a"), event_id=7)])
    answers: list[dict[str, str]] = [{}, {"end of a": "completed"}]

    async def look(_find: object, _events: object) -> dict[str, str]:
        beside.hear()
        return answers.pop(0)

    branch = SimpleNamespace(journal=beside._journal, scope=SimpleNamespace(prefix="b/"))
    port = SimpleNamespace(store=SimpleNamespace(find_ends=None))
    driver: Any = SimpleNamespace(branch=branch, port=port, look=look)
    assert asyncio.run(children.find_all(driver, ["end of a"])) == {}
    assert asyncio.run(children.find_all(driver, ["end of a"])) == {"end of a": "completed"}
