"""Every public call with every kind of wrong value: refused where it stands, naming the argument, and nothing stored.

`test_bad_input.py` has what is special about one call; here is what all have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.utils.translation import gettext_lazy

from canx_flow import (
    Context,
    NotSerializable,
    PayloadTooLarge,
    Retry,
    RetryAfter,
    RunNotFound,
    client,
    get_run,
    register_type,
    send_event,
    workflow,
)
from canx_flow.core import registry
from canx_flow.models import Event, StepRecord, Timer, WorkflowRun
from canx_flow.testing import advance, run_until_idle

pytestmark = pytest.mark.django_db


class SubText(str):
    """A subclass of str, as Django's SafeString is."""

    __slots__ = ()


class Word(str, Enum):  # noqa: UP042 - StrEnum is another thing
    """Names that are enum members."""

    GIVEN = "given"


class Number(IntEnum):
    """Numbers that are enum members."""

    ONE = 1


class Unspeakable:
    """What cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("not to be told")

    __repr__ = __str__


VALUES: dict[str, Any] = {
    "None": None,
    "int": 5,
    "true": True,
    "negative": -1,
    "huge int": 10**5000,
    "large float": 1e308,
    "nan": float("nan"),
    "infinity": float("inf"),
    "empty": "",
    "300 characters": "y" * 300,
    "long": "x" * 2_000_000,
    "blanks": " x ",
    "nul": "a\x00b",
    "half pair": "a\ud800b",
    "bytes": b"x",
    "subclass": SubText("sub"),
    "member": Word.GIVEN,
    "int member": Number.ONE,
    "lazy": gettext_lazy("yes"),
    "list": [1],
    "no items": [],
    "dict": {},
    "set": {1},
    "naive": datetime(2030, 1, 1),
    "longest": timedelta.max,
    "object": object(),
    "class": int,
    "unspeakable": Unspeakable(),
}
NAMES = {"subclass", "member"}
TEXTS = {"empty", "300 characters", "blanks", "subclass", "member", "lazy"}
WHOLE = {"int", "int member"}
#: JSON's own types.
PLAIN = {
    "None", "int", "true", "negative", "large float", "empty", "300 characters", "blanks", "subclass", "member", "list",
    "no items", "dict",
}  # fmt: skip
STORABLE = PLAIN | {"huge int", "nul", "half pair", "bytes", "int member", "set", "naive", "longest"}
ANYTHING = set(VALUES) - {"unspeakable", "huge int", "nul", "half pair"}

_body: list[Callable[[Context], Any]] = []


@workflow("calls.target")
def target(ctx: Context, *args: Any, **kwargs: Any) -> Any:
    """Sleeps, so that everything may be done to it."""
    ctx.sleep("long", 1000)


@workflow("calls.body", retry=Retry(max_attempts=1))
def body(ctx: Context) -> None:
    """Does what the test says, and fails with what that raises."""
    _body[-1](ctx)


def _inside(call: Callable[[Context, Any], Any]) -> Callable[[UUID, Any], Any]:
    """A call of the context, in a run; what it raises."""

    def go(_run_id: UUID, value: Any) -> None:
        raised: list[Exception] = []

        def do(ctx: Context) -> None:
            try:
                call(ctx, value)
            except Exception as error:  # noqa: BLE001 - whatever it is
                raised.append(error)

        _body.append(do)
        run_id = body.start()
        run_until_idle()
        assert body.status(run_id).state in ("completed", "sleeping", "waiting")
        if raised:
            assert not StepRecord.objects.filter(run_id=run_id).exists()
            WorkflowRun.objects.filter(id=run_id).delete()
            raise raised[0]

    return go


def _option(name: str) -> Callable[[UUID, Any], Any]:
    return lambda _, value: target.using(**{name: value}).start()


def _declared(name: str) -> Callable[[UUID, Any], Any]:
    return lambda _, value: workflow("calls.declared", target.function, **{name: value})


def _policy(name: str) -> Callable[[UUID, Any], Any]:
    return lambda _, value: Retry(**{name: value}).delay(ValueError(), 3)


def _control(name: str, argument: str) -> Callable[[UUID, Any], Any]:
    return lambda run_id, value: getattr(target, name)(run_id, **{argument: value})


VERBS = ("cancel", "rerun", "pause", "resume", "wake")
#: What is called with the id of a run and the value; how a refusal names the argument; which values are taken.
CALLS: dict[str, tuple[Callable[[UUID, Any], Any], str, set[str]]] = {
    "start": (lambda _, value: target.start(value, 1), "calls.target", STORABLE),
    "start_many": (lambda _, value: target.start_many(arguments=value), "start_many", {"empty", "no items", "dict"}),
    "start_many, an item": (lambda _, value: target.start_many([(), value]), "start_many", set()),
    "using key": (_option("key"), "key", NAMES | {"None"}),
    "using on_conflict": (_option("on_conflict"), "on_conflict", set()),
    "using queue": (_option("queue"), "queue", NAMES | {"None"}),
    "using priority": (_option("priority"), "priority", WHOLE | {"None", "negative"}),
    "using delay": (_option("delay"), "delay", WHOLE | {"None"}),
    "using run_at": (_option("run_at"), "run_at", {"None"}),
    "using timeout": (_option("timeout"), "timeout", WHOLE | {"None"}),
    "using subject": (_option("subject"), "subject", {"None"}),
    "using attributes": (_option("attributes"), "attributes", {"None", "dict"}),
    "an attribute": (lambda _, value: target.using(attributes={"k": value}).start(), "attribute", PLAIN),
    **{f"{verb} reason": (_control(verb, "reason"), "reason", TEXTS) for verb in VERBS},
    **{f"{verb} by": (_control(verb, "by"), "by", ANYTHING) for verb in VERBS},
    "cancel undo": (_control("cancel", "undo"), "undo", {"true"}),
    "cancel of a queryset": (lambda _, value: target.runs.cancel(value), "reason", TEXTS),
    "retry of a queryset": (lambda _, value: target.runs.retry(by=value), "by", ANYTHING),
    "states": (lambda _, value: list(target.runs.states(value)), "state", set()),
    "for_subject": (lambda _, value: list(target.runs.for_subject(value)), "subject", set()),
    "with_attributes": (lambda _, value: list(target.runs.with_attributes(k=value)), "'k'", PLAIN | {"long"}),
    "with_attributes, in a list": (
        lambda _, value: list(target.runs.with_attributes(k=[value])), "'k'", PLAIN | {"long"},
    ),
    "runs": (lambda _, value: list(client.runs(value)), "workflow name", NAMES | {"None"}),
    "status": (lambda _, value: target.status(value), "run id", set()),
    "get_run": (lambda _, value: get_run(run_id=value), "run id", set()),
    "result": (lambda _, value: target.result(value, 0), "run id", set()),
    "cancel, of a run": (lambda _, value: target.cancel(value), "run id", set()),
    "send, to a run": (lambda _, value: target.send(value, "event"), "run id", set()),
    "send event": (lambda run_id, value: target.send(run_id, event=value), "event name", NAMES),
    "send payload": (lambda run_id, value: target.send(run_id, "event", value), "'event'", STORABLE),
    "send dedup_id": (
        lambda run_id, value: target.send(run_id, "event", dedup_id=value), "dedup_id", NAMES | {"None"},
    ),
    "send_event": (lambda _, value: send_event(value), "event name", NAMES),
    "send_event payload": (lambda _, value: send_event("event", value), "'event'", STORABLE),
    "send_event key": (lambda _, value: send_event("event", key=value), "event key", NAMES | {"None"}),
    "send_event dedup_id": (lambda _, value: send_event("event", dedup_id=value), "dedup_id", NAMES | {"None"}),
    "a workflow's name": (lambda _, value: workflow(name=value, function=target.function), "workflow", NAMES),
    "a workflow's function": (lambda _, value: workflow("calls.declared", value), "calls.declared", {"None", "class"}),
    "a workflow's version": (_declared("version"), "version", NAMES | {"empty"}),
    "a workflow's queue": (_declared("queue"), "queue", NAMES),
    "a workflow's priority": (_declared("priority"), "priority", WHOLE | {"negative"}),
    "a workflow's retry": (_declared("retry"), "retry", {"None"}),
    "a workflow's timeout": (_declared("timeout"), "timeout", WHOLE | {"None"}),
    "Retry max_attempts": (_policy("max_attempts"), "max_attempts", WHOLE | {"None", "huge int"}),
    "Retry initial": (_policy("initial"), "initial", WHOLE),
    "Retry factor": (_policy("factor"), "factor", WHOLE),
    "Retry max_delay": (_policy("max_delay"), "max_delay", WHOLE),
    "Retry jitter": (_policy("jitter"), "jitter", {"int member"}),
    "Retry retry_on": (_policy("retry_on"), "retry_on", set()),
    "Retry give_up_on": (_policy("give_up_on"), "give_up_on", set()),
    "RetryAfter": (lambda _, value: RetryAfter(value), "seconds", WHOLE | {"longest"}),
    "advance": (lambda _, value: advance(value), "delta", WHOLE),
    "register_type, a class": (lambda _, value: register_type("calls.tag", value, str, str), "cls", set()),
    "ctx.step name": (_inside(lambda ctx, value: ctx.step(value, list)), "step name", NAMES),
    "ctx.step function": (_inside(lambda ctx, value: ctx.step("x", value)), "step function", {"class"}),
    "ctx.step retry": (_inside(lambda ctx, value: ctx.step("x", list, retry=value)), "retry", {"None"}),
    "ctx.step timeout": (
        _inside(lambda ctx, value: ctx.step("x", list, timeout=value)), "timeout",
        WHOLE | {"None", "large float", "longest"},
    ),
    "ctx.step atomic": (_inside(lambda ctx, value: ctx.step("x", list, atomic=value)), "atomic", {"true"}),
    "ctx.step at_most_once": (
        _inside(lambda ctx, value: ctx.step("x", list, at_most_once=value)), "at_most_once", {"true"},
    ),
    "ctx.sleep name": (_inside(lambda ctx, value: ctx.sleep(value, 0)), "step name", NAMES),
    "ctx.sleep": (_inside(lambda ctx, value: ctx.sleep("x", value)), "duration", WHOLE),
    "ctx.sleep_until": (_inside(lambda ctx, value: ctx.sleep_until("x", value)), "moment", set()),
    "ctx.wait_for name": (_inside(lambda ctx, value: ctx.wait_for(value, "event")), "step name", NAMES),
    "ctx.wait_for": (_inside(lambda ctx, value: ctx.wait_for("x", value)), "event name", NAMES),
    "ctx.wait_for key": (_inside(lambda ctx, value: ctx.wait_for("x", "e", key=value)), "event key", NAMES | {"None"}),
    "ctx.wait_for timeout": (
        _inside(lambda ctx, value: ctx.wait_for("x", "e", timeout=value)), "timeout", WHOLE | {"None"},
    ),
    "ctx.uuid": (_inside(lambda ctx, value: ctx.uuid(value)), "step name", NAMES),
    "ctx.set_attributes": (_inside(lambda ctx, value: ctx.set_attributes(k=value)), "attribute", PLAIN),
    "ctx.progress": (_inside(lambda ctx, value: ctx.progress(value)), "done", WHOLE | {"negative"}),
    "ctx.progress total": (
        _inside(lambda ctx, value: ctx.progress(1, value)), "total", WHOLE | {"None", "negative"},
    ),
    "ctx.progress message": (
        _inside(lambda ctx, value: ctx.progress(1, 2, value)), "message",
        (TEXTS - {"lazy"}) | {"nul", "half pair"},
    ),
}  # fmt: skip
#: What each may raise: documented, or Python's own.
REFUSALS = (TypeError, ValueError, NotSerializable, PayloadTooLarge, RunNotFound)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """No workflow that a call has declared is left."""
    known = set(registry.identities())
    yield
    _body.clear()
    for name, version in set(registry.identities()) - known:
        registry.forget(name, version)


def _stored() -> list[Any]:
    return [model.objects.count() for model in (StepRecord, Timer, Event)] + list(WorkflowRun.objects.values())


@pytest.mark.once
@pytest.mark.parametrize("name", CALLS)
def test_what_is_wrong_is_refused_at_the_call(name: str) -> None:
    """TypeError, ValueError or a documented error that names the argument; nothing is stored, no transaction broken."""
    call, says, taken = CALLS[name]
    run_id = target.using(delay=1000).start()
    before = _stored()
    accepted = set()
    for kind, value in VALUES.items():
        with transaction.atomic():
            try:
                call(run_id, value)
            except REFUSALS as error:
                told = str(error)
                assert says in told, (kind, told)
                assert len(told) < 600, (kind, "the value is told, too")
                assert _stored() == before, kind
            else:
                accepted.add(kind)
                assert WorkflowRun.objects.exists()  # The transaction is not broken.
            transaction.set_rollback(True)
        for version in ("", "sub", "given"):
            registry.forget("calls.declared", version)
    assert accepted == taken


@pytest.mark.parametrize("name", [name for name, (_, _, taken) in CALLS.items() if taken and name[:4] != "ctx."])
def test_what_is_taken_every_database_takes(name: str) -> None:
    """What one database would refuse or change is refused for all of them, before any is asked."""
    call, _, taken = CALLS[name]
    run_id = target.using(delay=1000).start()
    for kind in taken:
        with transaction.atomic():
            call(run_id, VALUES[kind])
            assert WorkflowRun.objects.exists()
            transaction.set_rollback(True)
        for version in ("", "sub", "given"):
            registry.forget("calls.declared", version)
