"""Threads for step functions: kept while their worker works, gone with it."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from canx_flow.worker.threads import StepThreads, _run

from ..waiting import wait_until

pytestmark = pytest.mark.once


def test_closing_lets_idle_threads_go_and_busy_ones_when_they_have_ended() -> None:
    """A worker that begins anew, or a command run in a process that goes on, leaves no thread and no connection."""
    threads, let = StepThreads(lambda: None), threading.Event()
    begun = threading.Event()

    def work() -> threading.Thread:
        begun.set()
        assert let.wait(10)
        return threading.current_thread()

    busy = threads.submit(work)
    assert begun.wait(10)
    idle = threads.submit(threading.current_thread).result(10)
    assert wait_until(lambda: len(threads._idle) == 1)
    threads.close()
    assert not idle.is_alive()
    let.set()
    ended = busy.result(10)
    ended.join(10)
    assert not ended.is_alive()


def test_a_call_whose_caller_has_gone_is_not_made_and_costs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop that was told to cancel has cancelled the future: nobody would hear what the call returns."""
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    threads, called = StepThreads(lambda: None), threading.Event()
    future = Future[None]()
    assert future.cancel()
    _run(called.set, future)
    assert not called.is_set()
    begun, let = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert let.wait(10)

    late = threads.submit(work)
    assert begun.wait(10)
    assert not late.cancel(), "what has begun is not taken back"
    let.set()
    late.result(10)
    assert wait_until(lambda: len(threads._idle) == 1)
    threads.close()
    assert not died
