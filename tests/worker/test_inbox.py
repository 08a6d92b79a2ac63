"""The inbox of the slots' threads: who is woken for what, and that nothing put in is left there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from canx_flow.worker.inbox import Inbox

from ..waiting import wait_until

pytestmark = pytest.mark.once


class _Threads:
    """Threads that do what they get, and note who did it."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.idle = inbox._idle
        self.done: list[tuple[str, str]] = []
        self.all: list[threading.Thread] = []

    def start(self, name: str) -> None:
        """Start one more; it is idle when this returns."""
        before = len(self.idle)
        thread = threading.Thread(target=self._serve, name=name, daemon=True)
        thread.start()
        self.all.append(thread)
        assert wait_until(lambda: len(self.idle) == before + 1)

    def note(self, task: str, until: threading.Event | None = None) -> None:
        self.done.append((threading.current_thread().name, task))
        assert until is None or until.wait(10)

    def _serve(self) -> None:
        while (task := self._inbox.get()) is not None:
            task()


@pytest.fixture
def threads() -> Iterator[_Threads]:
    """None yet; all are gone in the end."""
    inbox = Inbox()
    found = _Threads(inbox)
    yield found
    inbox.close()
    for thread in found.all:
        thread.join(10)
        assert not thread.is_alive()


def test_the_last_to_fall_asleep_is_woken_first(threads: _Threads) -> None:
    """One thread does what comes now and then; the others may close their connections."""
    threads.start("first")
    threads.start("second")
    for number in range(3):
        threads._inbox.put(partial(threads.note, str(number)))
        assert wait_until(lambda: len(threads.idle) == 2)
    assert threads.done == [("second", "0"), ("second", "1"), ("second", "2")]


def test_each_thread_that_comes_wakes_the_next_while_there_is_more(threads: _Threads) -> None:
    """Tasks that wait for something are under way together, as many as there are threads, the oldest first."""
    let = threading.Event()
    for name in ("a", "b", "c"):
        threads.start(name)
    for number in range(4):
        threads._inbox.put(partial(threads.note, str(number), let))
    assert wait_until(lambda: len(threads.done) == 3)
    assert sorted(task for _name, task in threads.done) == ["0", "1", "2"]
    assert sorted(name for name, _task in threads.done) == ["a", "b", "c"]
    let.set()
    assert wait_until(lambda: len(threads.done) == 4)


def test_what_a_thread_puts_in_for_itself_wakes_nobody(threads: _Threads) -> None:
    """It takes that itself when it is done, though another thread is idle."""
    threads.start("other")
    threads.start("own")
    idle = []

    def first() -> None:
        threads.note("first")
        threads._inbox.put(partial(threads.note, "second"), come=False)
        idle.append(len(threads.idle))

    threads._inbox.put(first)
    assert wait_until(lambda: len(threads.idle) == 2)
    assert idle == [1]
    assert threads.done == [("own", "first"), ("own", "second")]


def test_a_thread_that_waits_in_vain_is_not_woken_any_more() -> None:
    """It left with its timeout; the next task is for others, and is there for it as well when it comes again."""
    inbox = Inbox()
    with pytest.raises(TimeoutError):
        inbox.get(0.001)
    assert inbox._idle == []
    inbox.put(task := lambda: None)
    assert inbox.get(0.001) is task


def test_once_closed_it_gives_what_is_left_and_then_nothing() -> None:
    """Threads do what was handed in, and go."""
    inbox = Inbox()
    inbox.put(task := lambda: None)
    inbox.close()
    assert (inbox.get(), inbox.get()) == (task, None)


def test_no_task_is_lost_between_many_threads(threads: _Threads) -> None:
    """Whoever puts in, and whoever times out meanwhile, each task is done once."""

    def serve() -> None:
        while True:
            try:
                task = threads._inbox.get(0.0001)
            except TimeoutError:
                continue
            if task is None:
                return
            task()

    threads.all += [threading.Thread(target=serve, daemon=True) for _ in range(4)]
    for thread in threads.all:
        thread.start()

    def put(who: int) -> None:
        for number in range(500):
            threads._inbox.put(partial(threads.note, f"{who}.{number}"))

    putters = [threading.Thread(target=put, args=(who,)) for who in range(2)]
    for thread in putters:
        thread.start()
    for thread in putters:
        thread.join(10)
    assert wait_until(lambda: len(threads.done) == 1000)
    assert len({task for _name, task in threads.done}) == 1000
