"""Where the steps of one worker ask: those that ask at once are answered by one transaction, in their order."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError

from canx_flow.core.limits import LimitUse, Request
from canx_flow.models import LimitBucket, LimitHolder
from canx_flow.store import limits
from canx_flow.worker.limit_desk import LimitDesk
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

RATE, PLACES = LimitUse("rate"), LimitUse("places")


@pytest.fixture(autouse=True)
def _limits(settings: Any) -> None:
    limits_of = {"rate": {"rate": "10/s"}, "places": {"concurrency": 5}}
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LIMITS": limits_of}


@pytest.fixture
def desk() -> Any:
    """A worker's desk."""
    desk = LimitDesk("default")
    yield desk
    desk.close()


def _request(use: LimitUse) -> Request:
    return Request(use, uuid4(), 1, "call", None)


def test_those_that_ask_at_once_are_answered_together(desk: LimitDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks the database first asks for all that are expected; each has a moment of its own, in their order."""
    asked: list[int] = []
    admit = limits.admit

    def counted(connection: Any, bucket: Any, requests: Any, **more: Any) -> Any:
        asked.append(len(requests))
        return admit(connection, bucket, requests, **more)

    monkeypatch.setattr(limits, "admit", counted)
    requests = [_request(RATE) for _ in range(30)]
    for request in requests:
        desk.expect(request)
    threads = [threading.Thread(target=desk.admit, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == [30]
    moments = [request.answer.at for request in requests if request.answer is not None]
    assert moments == list(range(moments[0] or 0, (moments[0] or 0) + 30 * 100_000, 100_000))
    later = [request.answer.later for request in requests if request.answer is not None]
    assert later == [False] * 11 + [True] * 19
    assert LimitBucket.objects.get().tat == (moments[-1] or 0) + 100_000


def test_what_nobody_waits_for_any_more_holds_nothing(desk: LimitDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is given up before it is asked for is left out; one that is given up meanwhile loses its place."""
    before, meanwhile, kept = (_request(PLACES) for _ in range(3))
    admit = limits.admit

    def given_up(*args: Any, **more: Any) -> Any:
        found = admit(*args, **more)
        assert meanwhile.give_up() is None
        return found

    monkeypatch.setattr(limits, "admit", given_up)
    for request in (before, meanwhile, kept):
        desk.expect(request)
    assert before.give_up() is None
    desk.admit(kept)
    assert [row.run_id for row in LimitHolder.objects.all()] == [kept.run_id]


def test_an_error_is_told_to_each_that_asked(desk: LimitDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the database away each of them learns it, and the next one asks anew."""
    admit = limits.admit
    tries: list[int] = []

    def away(*args: Any, **more: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("server closed the connection unexpectedly")
        return admit(*args, **more)

    monkeypatch.setattr(limits, "admit", away)
    first, second, third = (_request(RATE) for _ in range(3))
    for request in (first, second):
        desk.expect(request)
    for request in (first, second):
        with pytest.raises(OperationalError):
            desk.admit(request)
    desk.expect(third)
    desk.admit(third)
    assert third.answer is not None


def test_two_workers_share_one_bucket(desk: LimitDesk) -> None:
    """However many desks ask at once, no moment is given twice, and no place too many."""
    desks = [desk, *(LimitDesk("default") for _ in range(3))]
    requests: list[Request] = []

    def ask(one: LimitDesk) -> None:
        for _ in range(10):
            for use in (RATE, PLACES):
                request = _request(use)
                requests.append(request)
                one.expect(request)
                one.admit(request)

    threads = [threading.Thread(target=ask, args=(one,)) for one in desks]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads), 60)
    for one in desks[1:]:
        one.close()
    moments = [each.answer.at for each in requests if each.use is RATE and each.answer is not None]
    assert len(set(moments)) == len(moments) == 40
    # The places of runs that nobody has count for nothing, so all are admitted; each look forgets those before it.
    assert all(each.answer is not None and each.answer.holds for each in requests if each.use is PLACES)
    assert LimitHolder.objects.count() <= 5
