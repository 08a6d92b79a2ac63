"""What a worker's turn, projects and people ask of the tables: each once, to be measured beside any number of runs.

Used by `flat`. Every operation finds the same number of rows in small tables and in large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import RequestFactory

from canx_flow import client, states
from canx_flow.core import clock
from canx_flow.models import WorkflowRun
from canx_flow.store import claims, events, forgetting, leases, parking, poll, pruning, timers

from . import filling, workflows

ALIAS = "default"
KNOWN = [("flow", ""), ("nap", ""), ("history", "")]
QUEUES = [f"queue-{number}" for number in range(filling.QUEUES, filling.QUEUES + 5)]


@dataclass(frozen=True)
class Operation:
    """A call, and what it is given in turn: as many times it can be repeated."""

    name: str
    call: Callable[[Any], object]
    given: Callable[[], Iterable[Any]] = lambda: [None] * 1000


def operations() -> list[Operation]:
    """Name them all, in groups: the turn, the calls, the terminal, the admin, the chores."""
    worker = leases.register(host="benchmark", pid=1).id
    return [*_turn(worker), *_calls(), *_terminal(), *_admin(), *_maintenance()]


def _turn(worker: UUID) -> Iterator[Operation]:
    def claim(queues: list[str], known: list[tuple[str, str]]) -> Callable[[Any], object]:
        return lambda _: claims.claim(connections[ALIAS], worker, 10, known, queues)

    def started() -> Iterator[UUID]:
        while True:
            yield workflows.flow.using(queue="claimed").start(1)

    yield Operation("turn: poll", lambda _: poll.ask(connections[ALIAS]))
    yield Operation("turn: poll, five queues", lambda _: poll.ask(connections[ALIAS], QUEUES))
    yield Operation("turn: claim", claim(["claimed"], KNOWN), started)
    yield Operation("turn: claim, empty queue", claim(QUEUES[:1], KNOWN))
    yield Operation("turn: claim, none known", claim([], [("nobody", "")]))
    yield Operation("turn: fire", lambda _: timers.fire(ALIAS))
    yield Operation("turn: beat", lambda _: leases.beat(worker))
    yield Operation("turn: recover", lambda _: leases.owners_not_alive())
    yield Operation("turn: disown", lambda _: leases.disown(worker, _owned(worker)))
    yield Operation("turn: deliver", lambda _: events.deliver_directed(ALIAS))
    yield Operation("turn: park", lambda _: parking.park_unknown(ALIAS, leases.live_workers(), QUEUES))


def _owned(worker: UUID) -> list[tuple[UUID, int]]:
    return list(WorkflowRun.objects.filter(owner_id=worker).values_list("id", "epoch"))


def _calls() -> Iterator[Operation]:
    keys = iter(range(10**6))
    elsewhere = workflows.flow.using(queue="elsewhere")
    yield Operation("start", lambda _: elsewhere.start(1))
    yield Operation(
        "start, new key", lambda key: workflows.flow.using(queue="elsewhere", key=f"new-{key}").start(1), lambda: keys
    )
    yield Operation("start, taken key", lambda _: workflows.flow.using(key="order-2").start(1))
    for state in (states.COMPLETED, states.SLEEPING, states.WAITING, states.FAILED):
        yield Operation(f"status, {state}", client.get_run, _runs(state))
    yield Operation("send", lambda run_id: client.send(run_id, "unheard"), _runs(states.SLEEPING, 50))
    yield Operation("send, waited for", lambda run_id: client.send(run_id, "answered"), _runs(states.WAITING))
    yield Operation("pause", client.pause, _runs(states.SLEEPING, 100))
    yield Operation("resume", client.resume, _runs(states.PAUSED))
    yield Operation("wake", client.wake, _runs(states.SLEEPING, 150))
    yield Operation("cancel", client.cancel, _runs(states.SLEEPING, 200))
    yield Operation("retry", client.retry, _runs(states.FAILED))


def _runs(state: str, skip: int = 0) -> Callable[[], Iterable[UUID]]:
    """Give the ids of other runs of this state each time, the oldest first."""
    return lambda: list(WorkflowRun.objects.filter(state=state).order_by("id").values_list("id", flat=True)[skip:][:40])


def _terminal() -> Iterator[Operation]:
    filters: dict[str, list[str]] = {"all": []}
    filters |= {f"state {state}": ["--state", state] for state in states.ALL}
    filters |= {
        "two states": ["--state", "failed", "--state", "paused"],
        "workflow": ["--workflow", "gone"],
        "no such workflow": ["--workflow", "nobody"],
        "key": ["--key", "order-2"],
        "no such key": ["--key", "nobody"],
        "queue": ["--queue", "queue-7"],
        "no such queue": ["--queue", "nobody"],
        "since": ["--since", "1h"],
        "since, a state": ["--since", "30d", "--state", "failed"],
        "subject": ["--subject", "benchmarks.Row:3"],
    }
    for name, options in filters.items():
        yield Operation(f"flow list: {name}", _command("flow", "list", *options))
    for state in (states.COMPLETED, states.SLEEPING):
        yield Operation(f"flow show: {state}", lambda run_id: _command("flow", "show", str(run_id))(None), _runs(state))
    yield Operation("flow versions", _command("flow", "versions"))
    yield Operation("flowhealth", _command("flowhealth"))
    yield Operation("with_attributes", lambda _: list(WorkflowRun.objects.with_attributes(customer=10)[:20]))


def _command(*words: str) -> Callable[[Any], object]:
    def call(_: Any) -> None:
        with suppress(CommandError, SystemExit):  # flowhealth says so where something is wrong.
            call_command(*words, stdout=StringIO(), stderr=StringIO())

    return call


def _admin() -> Iterator[Operation]:
    groups = ("all", "attention", "unfinished", "suspended")
    filters = [{"state": state} for state in (*groups, *states.ALL)]
    others = [("workflow", "gone"), ("queue", "queue-7"), ("q", "order-2"), ("q", "nobody"), ("error_type", "gone")]
    filters += [{"state": "all", name: value} for name, value in others]
    for asked in filters:
        told = ", ".join(f"{name} {value}" for name, value in asked.items())
        yield Operation(f"admin runs: {told}", _page(WorkflowRun, asked))
    for model in admin.site._registry:
        if model._meta.app_label == "canx_flow" and model is not WorkflowRun:
            yield Operation(f"admin {model._meta.verbose_name_plural}", _page(model, {}))


def _page(model: Any, asked: dict[str, str]) -> Callable[[Any], object]:
    def call(_: Any) -> None:
        request = RequestFactory().get("/", asked)
        request.user = User(username="someone", is_active=True, is_staff=True, is_superuser=True)
        response = admin.site._registry[model].changelist_view(request)
        assert response.status_code == 200
        response.render()  # type: ignore[attr-defined]

    return call


def _maintenance() -> Iterator[Operation]:
    def old() -> pruning.Old:
        return pruning.Old(clock.now() - timedelta(days=400))

    yield Operation("prune, nothing old", lambda _: pruning.prune(ALIAS, old(), 1000, lambda _: None))
    yield Operation("forget events", lambda _: forgetting.forget(ALIAS, clock.now() - timedelta(days=400)))
    yield Operation("forget workers", lambda _: leases.forget_ended(clock.now() - timedelta(days=400)))
