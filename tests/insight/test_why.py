"""Why a run does not move: each reason with its words, which of them counts, and what it costs to know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from freezegun import freeze_time

from canx_flow import client as flow
from canx_flow import queues, schedule
from canx_flow.core import clock, registry
from canx_flow.core import schedules as declarations
from canx_flow.insight import evidence, reasons
from canx_flow.insight.reasons import Level, Reason
from canx_flow.insight.why import Why, why, whys
from canx_flow.models import RunSingleton, StepRecord, Timer, Worker, WorkflowRun
from canx_flow.states import PENDING
from canx_flow.store import claims, leases, ticks
from canx_flow.store.queue_claims import QueueClaims
from canx_flow.testing import run_until_idle

from ..admin import runs
from ..admin.runs import anything, at_rest

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def noon() -> Iterator[Any]:
    """The clock of these tests, which stands until it is moved."""
    with freeze_time(START) as clock:
        yield clock


def of(run_id: UUID) -> Why:
    """What is found of this run now."""
    return why(WorkflowRun.objects.get(id=run_id))


def said(run_id: UUID) -> str:
    """Its words."""
    return of(run_id).words(clock.now())


def a_worker(**about: Any) -> Worker:
    """A live worker that knows everything which is registered here."""
    return runs.a_worker(**{"name": "shop-1", "workflows": list(registry.identities()), **about})


def owned(run_id: UUID, worker: Worker, **report: Any) -> UUID:
    """The run, claimed by this worker, which has reported so of it."""
    claims.claim(connections["default"], worker.id, 1, registry.identities())
    leases.beat(worker.id, activity=json.dumps({str(run_id): report}))
    return run_id


# -- each reason -----------------------------------------------------------------------------------


def test_parked() -> None:
    """Its reason, which is bad: it does not go on by itself."""
    run_id = runs.parked()
    assert said(run_id).startswith("UnknownWorkflow: ")
    assert of(run_id).level is Level.BAD


def test_paused() -> None:
    """By whom, when and why; and the wait that is held meanwhile."""
    assert said(runs.paused()) == "by ada now: lunch; nap: wakes in 1 h, held until the run goes on"
    run_id = at_rest("sleep")
    flow.pause(run_id)
    assert said(run_id) == "now; nap: wakes in 1 h, held until the run goes on"


def test_a_queue_without_a_worker() -> None:
    """Of a run that is due; a worker of another queue, a silent one and a dead one are none."""
    run_id = anything.using(queue="billing").start()
    assert said(run_id) == "no live worker serves queue billing"
    other = a_worker(queues=["mail"])
    assert said(run_id) == "no live worker serves queue billing"
    Worker.objects.filter(id=other.id).update(queues="[]", beat_at=clock.now() - HOUR)
    assert said(run_id) == "no live worker serves queue billing"
    assert of(run_id).level is Level.WARN
    a_worker()
    assert said(run_id) == "next free worker of queue billing"


def test_a_timer_that_is_late_without_a_worker(noon: Any) -> None:
    """What it waits for is said beside it."""
    run_id = at_rest("sleep")
    noon.tick(HOUR * 2)
    assert said(run_id) == "no live worker serves queue default; nap: wakes now, due 1 h ago"
    a_worker()
    assert said(run_id) == "nap: wakes now, due 1 h ago"


def test_a_workflow_that_no_worker_knows() -> None:
    """With its version."""
    run_id = anything.start()
    WorkflowRun.objects.update(version="2")
    a_worker()
    assert said(run_id) == "no live worker of queue default knows workflow admin.any@2"


def test_a_run_that_must_run_alone() -> None:
    """How many of its workers died, once."""
    run_id = anything.start()
    a_worker()
    WorkflowRun.objects.update(recoveries=3)
    assert said(run_id) == (
        "waits to run alone, for 3 of its workers died: one worker claims nothing else until it is empty"
    )


def test_its_place_in_the_queue() -> None:
    """Behind those of a larger priority, and the older ones of its own; other queues do not count."""
    a_worker()
    first, second, third = (anything.start() for _ in range(3))
    anything.using(queue="mail").start()
    assert said(first) == "next free worker of queue default"
    assert said(second) == "behind 1 other in queue default"
    urgent = [anything.using(priority=5).start() for _ in range(2)]
    assert said(third) == "behind 4 others in queue default"
    assert said(urgent[1]) == "behind 1 other in queue default"
    every = list(WorkflowRun.objects.filter(queue="default"))
    found = whys("default", every)
    assert [found[run_id].words(START) for run_id in (first, third)] == [
        "behind 2 others in queue default", "behind 4 others in queue default"
    ]  # fmt: skip


def test_places_are_counted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond, that there are more is all that is said."""
    monkeypatch.setattr(evidence, "MOST_AHEAD", 3)
    a_worker()
    last = anything.start_many([()] * 6)[-1]
    assert said(last) == "behind 3 or more others in queue default"


def test_a_paused_queue_and_a_paused_workflow() -> None:
    """By whom, when and why, whether or not a worker is there; and its place."""
    run_id = anything.using(queue="mail").start()
    worker = a_worker()
    queues.pause("mail", "the provider is down", by="ada")
    assert said(run_id) == "queue mail is paused, by ada now: the provider is down"
    assert of(run_id).without_payloads().words(START) == "queue mail is paused, by ada now"
    queues.pause_workflow(anything.name)
    assert said(run_id).endswith(f"; workflow {anything.name} is paused, now")
    queues.resume("mail")
    assert said(run_id) == f"workflow {anything.name} is paused, now"
    worker.delete()
    assert said(run_id) == f"workflow {anything.name} is paused, now; no live worker serves queue mail"


def test_limits_of_its_queue() -> None:
    """Which is full, and who holds it; until when a rate is used up; which run its partition is busy with."""
    worker = a_worker()
    first = anything.using(queue="mail", partition="tenant-7").start()
    run_id = anything.using(queue="mail", partition="tenant-7").start()
    mine = QueueClaims(worker.id, now=START.timestamp)
    queues.limits("mail", concurrency=1, partition_concurrency=1, rate="1/h", partition_rate="1/m")
    assert [run.id for run in mine.claim(connections["default"], 5, 0, registry.identities()).runs] == [first]
    assert said(run_id) == (
        f"limit of queue mail is full: 1 of 1, the oldest is {first}; "
        "rate 1/h of queue mail is used up, free in 1 h 1 min; "
        f"partition tenant-7 of queue mail is busy with {first}; "
        "rate 1/m of partition tenant-7 in queue mail is used up, free in 1 min 1 s"
    )
    WorkflowRun.objects.filter(id=first).update(owner=None, state="completed")
    queues.limits("mail", rate=None, partition_rate=None)
    assert said(run_id) == "next free worker of queue mail"


def test_a_delayed_start() -> None:
    """When it starts."""
    assert said(anything.using(delay=HOUR).start()) == "starts in 1 h"


def test_sleeping() -> None:
    """In which step, and until when."""
    assert said(at_rest("sleep")) == "nap: wakes in 1 h"


def test_waiting_for_an_event(noon: Any) -> None:
    """Its name and key, since when, until when."""
    run_id = at_rest("wait")
    noon.tick(60)
    assert said(run_id) == "answer: for event answered, key k-1, since 1 min, times out in 1 h 59 min"
    Timer.objects.update(due_at=None, key=None)
    assert said(run_id) == "answer: for event answered, since 1 min"


def test_waiting_for_a_child() -> None:
    """Which one."""
    run_id, child = at_rest("sleep"), uuid4()
    Timer.objects.update(kind="call", due_at=None, event=f"canx:end:{child}")
    record = StepRecord.objects.get(name="nap")
    assert reasons.Calling(step="nap", child=child, since=60.0).words(START) == f"nap: for child {child}, since 1 min"
    assert record.run_id == run_id


def test_a_delegated_step() -> None:
    """With which executor its task is, since when, where it has started, when that was heard of last."""
    out: dict[str, Any] = {"step": "far", "executor": "celery", "task": "shop.render", "since": 60.0}
    sent = reasons.Delegated(**out, attempt=2, trouble="OSError: no broker")
    assert sent.words(START) == (
        "far: dispatched to celery: shop.render, attempt 2, since 1 min, not dispatched yet: OSError: no broker"
    )
    assert Why((sent,)).without_payloads().words(START).endswith("not dispatched yet: OSError")
    begun = reasons.Delegated(**out, worker="celery@host (7)", beat=5.0)
    assert begun.words(START) == (
        "far: celery runs shop.render on celery@host (7), since 1 min, last heard of 5.0 s ago"
    )


def test_retrying() -> None:
    """Which attempt of how many, when, and the last error."""
    assert said(at_rest("retry", note="luck")) == "flaky: attempt 2 of 16 in 5 min — ValueError: no luck"


def test_an_outage() -> None:
    """When it is tried again, and what the body has met."""
    run_id = at_rest("sleep")
    Timer.objects.update(kind="outage", step="")
    WorkflowRun.objects.update(reason="OperationalError: gone")
    assert said(run_id) == "tried again in 1 h — OperationalError: gone"


def test_further_waits() -> None:
    """Of a run with branches the first one is told, and how many more there are."""
    run_id = at_rest("sleep")
    Timer.objects.create(run_id=run_id, step="other", kind="sleep", due_at=START + 2 * HOUR)
    assert said(run_id) == "nap: wakes in 1 h; 1 more open wait"


def test_a_worker_has_it(noon: Any) -> None:
    """In which step, since when, which attempt, whose worker."""
    worker = a_worker()
    run_id = owned(anything.start(), worker)
    assert said(run_id) == "worker shop-1"
    owned(run_id, worker, step="export", since=START.isoformat(), attempt=2)
    noon.tick(2)
    assert said(run_id) == "export, 2.0 s, attempt 2, worker shop-1"


def test_its_worker_is_silent(noon: Any) -> None:
    """For longer than its lease: then the run is stuck."""
    run_id = owned(anything.start(), a_worker(), step="export")
    assert not of(run_id).stuck
    noon.tick(14 * 60)
    assert said(run_id) == "export: worker shop-1 silent for 14 min: taken over when another worker runs"
    assert of(run_id).stuck
    assert of(run_id).level is Level.BAD


def test_its_worker_is_gone() -> None:
    """Dead by its row, or its process has ended on this machine."""
    run_id = owned(anything.start(), worker := a_worker(), step="export")
    leases.declare_dead(worker.id)
    assert said(run_id) == "its worker is gone: taken over when another worker runs"
    gone = reasons.Gone(worker="shop-1", step="export")
    assert gone.words(START) == "export: its worker shop-1 is gone: taken over when another worker runs"


def test_it_waits_for_other_starts_or_for_another_run() -> None:
    """Until when, for the end of which run, and until when it must have started."""
    a_worker()
    debounced = anything.using(singleton="sync:7", debounce=60, expires=3600).start()
    assert said(debounced) == (
        "starts in 1 min, unless another start of singleton sync:7 moves it; cancelled in 1 h unless it has started"
    )
    other = owned(anything.start(), a_worker())
    WorkflowRun.objects.filter(id=other).update(policies='{"singleton": "sync:8"}')
    RunSingleton.objects.create(run_id=other, workflow=anything.name, key="sync:8")
    held = anything.using(singleton="sync:8", on_conflict="cancel_other").start()
    assert said(held) == (
        f"singleton sync:8 was held by run {other}, which was cancelled for this one and has not ended yet"
    )


def test_a_schedule_has_started_it(noon: Any) -> None:
    """Which one, for which moment, beside what it waits for, and beside why it was cancelled."""
    schedule("why-hourly", anything, every=HOUR)
    [run] = ticks.start("default", declarations.get("why-hourly"), [START], {})
    declarations.forget("why-hourly")
    noon.tick(60)
    assert said(run.id) == "no live worker serves queue default; started by schedule why-hourly, due 1 min ago"
    flow.cancel(run.id, reason="not today")
    assert said(run.id) == "now: not today; started by schedule why-hourly, due 1 min ago"


def test_it_blocks_its_event_loop() -> None:
    """At which place of the code."""
    blocks = {"at": "shop/work.py:3", "since": START.isoformat()}
    run_id = owned(anything.start(), a_worker(), step="sum", blocks=blocks)
    assert said(run_id) == (
        "sum, worker shop-1; blocks the event loop of its worker, so that no other async run goes on there: "
        "it stands at shop/work.py:3"
    )


def test_it_was_cut_off() -> None:
    """How often, and in which step, as far as its dead worker had told."""
    run_id = owned(anything.start(), worker := a_worker(), step="charge")
    leases.declare_dead(worker.id)
    WorkflowRun.objects.update(recoveries=2, owner=None, state=PENDING, ready=True)
    a_worker()
    assert said(run_id) == "next free worker of queue default; cut off 2 times: its worker died"
    assert flow.get_run(run_id).why.endswith("cut off 2 times: its worker died in charge")


def test_stopping() -> None:
    """How it will end, and what is left to undo."""
    run_id = runs.stopping()
    assert said(run_id).endswith("will be cancelled, once the step in flight has ended")
    run_id = at_rest("undo", note="luck")
    anything.cancel(run_id)
    a_worker()
    assert said(run_id) == "next free worker of queue default; will be cancelled, once what it has done is undone"
    run_until_idle()
    assert said(run_id) == (
        "charge[undo]: attempt 2 of 16 in 5 min — ValueError: no luck; will be cancelled, 2 undo steps are left"
    )


def test_ended(noon: Any) -> None:
    """How, when and why."""
    completed, failed, cancelled = at_rest(), at_rest("fail", note="luck"), runs.cancelled()
    noon.tick(60)
    assert said(completed) == "after 0 ms, 1 min ago"
    assert said(failed) == "hopeless: ValueError: no luck"
    assert said(cancelled) == "by ada 1 min ago: changed her mind"
    assert said(runs.out_of_time()).startswith("RunTimedOut")


# -- all of them -----------------------------------------------------------------------------------


def test_no_unfinished_run_has_nothing_to_say() -> None:
    """In every state, with workers and without."""
    for make in runs.MAKE.values():
        make()
    for _ in range(2):
        every = list(WorkflowRun.objects.all())
        assert len({run.state for run in every}) == len(runs.MAKE)
        found = whys("default", every)
        assert all(found[run.id].words(START) for run in every)
        assert all(found[run.id].reason is found[run.id].reasons[0] for run in every)
        a_worker()


def _kinds(base: type[Reason]) -> Iterator[type[Reason]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


@pytest.mark.once
def test_each_reason_has_a_test_of_its_words() -> None:
    """A reason that is added needs one here."""
    kinds = {kind.__name__ for kind in _kinds(Reason) if not getattr(kind, "__abstractmethods__", None)}
    assert kinds == {
        "Parked", "Paused", "Unserved", "Unknown", "Alone", "Behind", "Next", "Starting", "Ending", "Sleeping",
        "Waiting", "Calling", "Delegated", "Retrying", "Outage", "Others", "Working", "Silent", "Gone", "Blocking",
        "Interrupted",
        "Stopping", "Completed", "Failed", "Cancelled", "Debounced", "Expiring", "Held", "LimitFull", "LimitRate",
        "QueuePaused", "WorkflowPaused", "QueueFull", "RateFull", "PartitionBusy",
        "Scheduled",
    }  # fmt: skip
    assert reasons.Ending(until=START).words(START) == "its parent was stopped, cancelled now"


def test_a_list_costs_as_many_queries_as_it_has_kinds_of_runs() -> None:
    """However many runs."""
    counts = []
    a_worker()
    for _ in range(2):
        run_until_idle()
        for make in runs.MAKE.values():
            make()
        anything.start()
        every = list(WorkflowRun.objects.all())
        with CaptureQueriesContext(connection) as queries:
            whys("default", every)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8


def test_nothing_of_a_value_is_told_without_the_right_to_see_values() -> None:
    """Neither messages of errors, nor what people gave as reasons; which error it was remains."""
    told = [
        of(run_id).without_payloads().words(START)
        for run_id in (at_rest("fail", note="luck"), at_rest("retry", note="luck"), runs.paused(), runs.cancelled())
    ]
    assert not [words for words in told if "luck" in words or "lunch" in words or "mind" in words]
    assert "attempt 2 of 16 in 5 min" in told[1]


def test_status_says_it() -> None:
    """As one line, in the active language."""
    run_id = at_rest("sleep")
    assert flow.get_run(run_id).why == "nap: wakes in 1 h"
    with translation.override("de"):
        assert flow.get_run(run_id).why
