"""Telling workers of work: two of those that can do it, however many there are."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from uuid import uuid4

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from canx_flow.models import Worker
from canx_flow.states import WorkerState
from canx_flow.store import telling
from canx_flow.store.telling import Message, Needs
from canx_flow.worker.wakeup import Listener

pytestmark = pytest.mark.django_db

LONG = 20.0


@pytest.fixture(autouse=True)
def _nobody_known() -> Iterator[None]:
    telling.forget()
    yield
    telling.forget()


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    """Nine listeners of this host."""
    listeners = [Listener(uuid4().hex) for _ in range(9)]
    yield listeners
    for listener in listeners:
        listener.close()


def worker(
    listener: Listener | str,
    *,
    host: str = "",
    queues: tuple[str, ...] = (),
    workflows: tuple[str, ...] = (),
    state: str = WorkerState.ALIVE,
) -> None:
    """A worker's row."""
    Worker.objects.create(
        host=host or socket.gethostname(),
        socket=listener if isinstance(listener, str) else listener.address,
        queues=json.dumps(queues),
        workflows=json.dumps([(name, "") for name in workflows]),
        state=state,
    )


def heard(*listeners: Listener) -> list[Message]:
    """Everything that they were told so far."""
    return [message for listener in listeners for message in telling.heard(listener.wait(0))]


def notified() -> list[str]:
    """Tell; return the statements with which others were notified."""
    with CaptureQueriesContext(connections["default"]) as queries:
        telling.tell("default")
    return [query["sql"] for query in queries.captured_queries if "pg_notify" in query["sql"]]


def test_two_workers_are_told_however_many_there_are(listeners: list[Listener]) -> None:
    """Each start wakes two of them, not always the same."""
    for listener in listeners:
        worker(listener, workflows=("w",))
    woken = set()
    for _ in range(30):
        telling.tell("default", "work", Needs("q", "w", ""))
        told = [number for number, listener in enumerate(listeners) if heard(listener)]
        assert len(told) == 2
        woken.update(told)
    assert len(woken) > 4


def test_what_is_told_says_what_it_is_about(listeners: list[Listener]) -> None:
    """Whoever is told can pass it on to those that can do it."""
    worker(listeners[0], workflows=("w",))
    telling.tell("default", "timer", Needs("q", "w", ""))
    assert heard(listeners[0]) == [Message("timer", Needs("q", "w", ""))]


def test_those_are_told_that_can_take_the_run(listeners: list[Listener]) -> None:
    """They serve its queue and know its workflow."""
    able, other_queue, other_code, able_too = listeners[:4]
    worker(able, workflows=("v", "w"))
    worker(other_queue, queues=("p",), workflows=("w",))
    worker(other_code, workflows=("v",))
    worker(able_too, queues=("p", "q"), workflows=("w",))
    telling.tell("default", "work", Needs("q", "w", ""))
    assert [len(heard(listener)) for listener in listeners[:4]] == [1, 0, 0, 1]
    telling.tell("default", "work", Needs("q", "w", "another version"))
    assert heard(*listeners) == []


def test_without_a_run_two_of_each_kind_are_told(listeners: list[Listener]) -> None:
    """Where several runs became ready, or it is not known which."""
    for listener in listeners[:5]:
        worker(listener, queues=("p",))
    for listener in listeners[5:]:
        worker(listener, queues=("q",))
    telling.tell("default")
    assert (len(heard(*listeners[:5])), len(heard(*listeners[5:]))) == (2, 2)


def test_a_killed_worker_is_passed_over(listeners: list[Listener]) -> None:
    """Its socket is there and nobody listens: another one is told."""
    for listener in listeners[:6]:
        worker(listener)
        listener._socket.close()  # type: ignore[union-attr]
    worker(listeners[8])
    for _ in range(10):
        telling.tell("default")
        assert len(heard(listeners[8])) == 1
    for listener in listeners[:6]:
        listener._socket = None


def test_only_live_workers_of_this_host_are_told(listeners: list[Listener]) -> None:
    """The dead hear nothing, and a path on another host is not looked up here."""
    worker(listeners[0], state=WorkerState.DEAD)
    worker(listeners[1], host="elsewhere")
    telling.tell("default")
    assert heard(*listeners) == []


def test_what_is_passed_on_is_heard_by_other_hosts_too(listeners: list[Listener], tier: str) -> None:
    """All workers of this host may be busy; the first who is told tells neighbours alone."""
    for listener in listeners[:3]:
        worker(listener)
    worker("/tmp/canx_flow-0/7", host="elsewhere")
    assert notified() == []
    with CaptureQueriesContext(connections["default"]) as queries:
        telling.pass_on("default", listeners[0].address, [Message()])
    statements = [query["sql"] for query in queries.captured_queries if "pg_notify" in query["sql"]]
    assert len(statements) == (1 if tier == "postgresql" else 0)
    assert heard(listeners[1])


def test_whatever_a_full_worker_was_told_is_passed_on_by_one_statement(listeners: list[Listener], tier: str) -> None:
    """However many starts of however many workflows those were: of each reason others hear once."""
    for listener in listeners[:2]:
        worker(listener, workflows=("v", "w"))
    for number in range(3):
        worker(f"/tmp/canx_flow-0/{number}", host="elsewhere", workflows=("v", "w"))
    started = [Message("work", Needs("q", name, ""), hops) for name in ("v", "w") for hops in (2, 1)]
    with CaptureQueriesContext(connections["default"]) as queries:
        telling.pass_on("default", listeners[0].address, [*started, Message("timer"), Message("event", hops=0)])
    statements = [query["sql"] for query in queries.captured_queries if "pg_notify" in query["sql"]]
    assert len(statements) == (1 if tier == "postgresql" else 0)
    assert sum(statement.count("canx_flow_") for statement in statements) == (4 if tier == "postgresql" else 0)
    assert set(heard(listeners[1])) == {Message("work", None, 0), Message("timer", None, 1)}


def test_starts_of_one_workflow_are_passed_on_as_such(listeners: list[Listener]) -> None:
    """With the fewest hops that any of them has left."""
    for listener in listeners[:2]:
        worker(listener, workflows=("w",))
    needs = Needs("q", "w", "")
    telling.pass_on("default", listeners[0].address, [Message("work", needs, 2), Message("work", needs, 1)])
    assert heard(listeners[1]) == [Message("work", needs, 0)]


def test_what_a_worker_leaves_is_for_its_neighbours(listeners: list[Listener], tier: str) -> None:
    """Other hosts hear of it only where it has none: to tell them costs a statement."""
    worker(listeners[0])
    worker("/tmp/canx_flow-0/7", host="elsewhere")
    for neighbours in (0, 1):
        with CaptureQueriesContext(connections["default"]) as queries:
            telling.pass_on("default", listeners[0].address, leaves_runs=True)
        statements = [query["sql"] for query in queries.captured_queries if "pg_notify" in query["sql"]]
        assert len(statements) == (1 if tier == "postgresql" and not neighbours else 0)
        worker(listeners[1])
        telling.forget()
    assert heard(listeners[1]) == [Message()]


def test_workers_of_other_hosts_are_notified_where_this_one_has_none(tier: str) -> None:
    """Two of them, each on its own channel, in one statement; nobody else's client wakes."""
    for number in range(5):
        worker(f"/tmp/canx_flow-0/{number}", host="elsewhere")
    (statement,) = notified() if tier == "postgresql" else ("canx_flow_1 canx_flow_2",)
    assert sum(f"canx_flow_{number}" in statement for number in range(5)) == 2


def test_a_worker_of_this_host_spares_the_others(listeners: list[Listener]) -> None:
    """It passes on what it cannot do."""
    worker(listeners[0])
    worker("/tmp/canx_flow-0/1", host="elsewhere")
    assert notified() == []
    assert len(heard(listeners[0])) == 1


def test_a_worker_passes_on_to_others_and_not_for_ever(listeners: list[Listener]) -> None:
    """Each time one hop less; never to itself."""
    for listener in listeners[:3]:
        worker(listener)
    message = Message("work", hops=1)
    telling.pass_on("default", listeners[0].address, [message])
    assert heard(*listeners[:3]) == [Message("work", hops=0)] * 2
    telling.pass_on("default", listeners[0].address, [Message("work", hops=0)])
    telling.pass_on("default", listeners[1].address, leaves_runs=True)
    assert heard(listeners[1]) == []
    assert len(heard(listeners[0], listeners[2])) == 2


def test_telling_often_asks_the_database_once(listeners: list[Listener]) -> None:
    """Who lives is remembered for two seconds: a thousand starts are no thousand queries."""
    worker(listeners[0])
    with CaptureQueriesContext(connections["default"]) as queries:
        for _ in range(1000):
            telling.tell("default")
    asked = [query for query in queries.captured_queries if Worker._meta.db_table in query["sql"]]
    assert len(asked) == 1
    assert not [query for query in queries.captured_queries if "notify" in query["sql"]]


def test_telling_does_not_wait_for_a_worker_that_is_busy(listeners: list[Listener]) -> None:
    """A worker that reads nothing for a while costs its callers nothing, and wakes once."""
    worker(listeners[0])
    for _ in range(5000):
        telling.tell("default")
    assert heard(listeners[0]) == [Message()]


def test_telling_never_fails_its_caller(listeners: list[Listener], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong: no database of this name, a killed worker's socket, a row that says nonsense."""
    telling.tell("no such database")
    worker("/nowhere/at/all")
    worker("x" * 250)
    worker("")
    worker(listeners[0])
    telling.tell("default")
    assert heard(listeners[0]) == [Message()]
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


@pytest.mark.django_db(transaction=True)
def test_telling_spoils_no_transaction() -> None:
    """Called inside one, as tests that run the hooks do, a statement of its own that fails is taken back."""
    worker("x" * 100, host="elsewhere")  # PostgreSQL refuses such a channel.
    with transaction.atomic():
        telling.tell("default")
        assert Worker.objects.count() == 1


@pytest.mark.once
@pytest.mark.parametrize("text", ["free", "", "[]", "[1, 2]", '["work", ["q"], 2]', '["work", null, null]', "{", "7"])
def test_only_messages_are_heard(text: str) -> None:
    """Whatever else wakes a worker is no message."""
    assert telling.heard([text, Message("event").text()]) == [Message("event")]
