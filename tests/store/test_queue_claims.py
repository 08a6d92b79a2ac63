"""What a worker claims from queues that have limits, whatever other workers own, and when it may claim more."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, transaction

from canx_flow.core.identity import uuid7
from canx_flow.core.options import checked_note
from canx_flow.models import Queue, WorkflowRun
from canx_flow.store import claims, filling, leases, queue_rows, queues
from canx_flow.store.queue_claims import QueueClaims, Taken
from tests.store.locking import locked_runs

KNOWN = [("mine", "")]
NOW = 1_000_000_020.5
MANY = 300


def _ready(runs: int = 1, **values: Any) -> list[UUID]:
    """So many ready runs in the queue `mail`, oldest first."""
    made = [WorkflowRun(**{"id": uuid7(), "workflow": "mine", "queue": "mail", **values}) for _ in range(runs)]
    return [run.id for run in WorkflowRun.objects.bulk_create(made, 500)]


def _together(*targets: Callable[[threading.Event], None]) -> None:
    """Call these in threads of their own until each has returned; should one fail, the others are told to stop."""
    stop, errors = threading.Event(), list[BaseException]()

    def run(target: Callable[[threading.Event], None]) -> None:
        try:
            target(stop)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)
            stop.set()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[target]) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Claimer:
    """A live worker that claims."""

    def __init__(self, *served: str) -> None:
        self.owner = leases.register(host="here", pid=1, concurrency=16).id
        self.claims = QueueClaims(self.owner, served)

    def at(self, now: float) -> None:
        """Have rates kept by a clock that stands at this time."""
        self.claims = QueueClaims(self.owner, now=lambda: now)

    def take(self, free: int = 100, ahead: int = 0, known: Any = KNOWN, **how: Any) -> Taken:
        return self.claims.claim(connections["default"], free, ahead, known, **how)

    def claim(self, free: int = 100, ahead: int = 0, known: Any = KNOWN, **how: Any) -> list[UUID]:
        return [run.id for run in self.take(free, ahead, known, **how).runs]


def _limit(name: str = "mail", **options: Any) -> None:
    queues.limit("default", name, options)


def _let_go(*ids: UUID, ready: bool = False) -> None:
    """End these runs, or hand them back."""
    state = "pending" if ready else "completed"
    WorkflowRun.objects.filter(id__in=ids).update(owner_id=None, state=state, ready=ready)


def _partitions(runs: Sequence[UUID]) -> list[str | None]:
    found = dict(WorkflowRun.objects.filter(id__in=runs).values_list("id", "partition"))
    return [found[run] for run in runs]


@pytest.fixture
def one(db: None) -> Claimer:
    """A worker."""
    return Claimer()


@pytest.fixture
def other(db: None) -> Claimer:
    """Another one."""
    return Claimer()


# -- concurrency -----------------------------------------------------------------------------------


def test_no_more_runs_are_owned_than_the_limit_allows(one: Claimer, other: Claimer) -> None:
    """Over all workers; and each that ends makes room for one."""
    _limit(concurrency=3)
    runs = _ready(6)
    assert one.claim(2) == runs[:2]
    assert other.claim() == runs[2:3]
    assert one.claim() == other.claim() == []
    _let_go(runs[0])
    assert other.claim() == runs[3:4]


def test_c116_a_run_that_was_suspended_holds_no_place_and_queues_again(one: Claimer, other: Claimer) -> None:
    """Once it wakes, as the oldest."""
    _limit(concurrency=1)
    first, second, third = _ready(3)
    assert one.claim() == [first]
    WorkflowRun.objects.filter(id=first).update(owner_id=None, state="sleeping", ready=False)
    assert other.claim() == [second]
    WorkflowRun.objects.filter(id=first).update(state="pending", ready=True)
    assert one.claim() == []
    _let_go(second)
    assert one.claim() == [first]
    _let_go(first)
    assert one.claim() == [third]


def test_c117_a_limit_that_is_changed_holds_for_the_next_claim(one: Claimer) -> None:
    """Also where there was none before, and where there is none any more."""
    runs = _ready(40)
    assert one.claim(10) == runs[:10]
    _limit(concurrency=12)
    assert one.claim() == runs[10:12]
    _limit(concurrency=5)
    assert one.claim() == []
    _limit(concurrency=15)
    assert one.claim() == runs[12:15]
    _limit(concurrency=None)
    assert one.claim() == runs[15:]


def test_an_operators_limit_outlives_a_deploy_and_can_be_taken_back(one: Claimer, settings: Any) -> None:
    """The settings' lies beside it."""
    settings.CANX_FLOW = {**settings.CANX_FLOW, "QUEUES": {"mail": {"concurrency": 1, "rate": "7/m"}}}
    queues.declare("default")
    _limit(concurrency=2)
    settings.CANX_FLOW = {**settings.CANX_FLOW, "QUEUES": {"mail": {"concurrency": 5}}}
    queues.declare("default")
    limits = Queue.objects.get(name="mail").limits
    assert (limits.concurrency, limits.rate) == (2, None)
    _limit(concurrency="settings")
    assert Queue.objects.get(name="mail").limits.concurrency == 5
    settings.CANX_FLOW = {key: value for key, value in settings.CANX_FLOW.items() if key != "QUEUES"}
    queues.declare("default")
    assert not Queue.objects.get(name="mail").apart


@pytest.mark.django_db(transaction=True)
def test_workers_that_start_together_declare_the_same_queues(settings: Any) -> None:
    """Those that are new, and those that the settings limit otherwise than before; none is in another's way."""
    starts = threading.Barrier(6)

    def declare(stop: threading.Event) -> None:
        starts.wait(30)
        queues.declare("default")

    for concurrency in range(1, 13):
        of_queue = {"concurrency": concurrency}
        names = {f"q{number}": of_queue for number in range(3)} | {f"new{concurrency}": of_queue}
        settings.CANX_FLOW = {**settings.CANX_FLOW, "QUEUES": names}
        _together(*[declare] * 6)
        assert {row.name: row.limits.concurrency for row in Queue.objects.filter(name__in=names)} == dict.fromkeys(
            names, concurrency
        )


def test_c110_no_worker_owns_more_of_a_queue_than_one_may(db: None) -> None:
    """Two each, and six by three of them."""
    _limit(per_worker=2)
    runs = _ready(10)
    some = [Claimer() for _ in range(3)]
    taken = [worker.take() for worker in some]
    assert [[run.id for run in each.runs] for each in taken] == [runs[:2], runs[2:4], runs[4:6]]
    assert [each.for_others for each in taken] == [True] * 3
    assert [worker.take().for_others for worker in some] == [False] * 3
    _let_go(runs[2])
    assert [worker.claim() for worker in some] == [[], runs[6:7], []]


@pytest.mark.django_db(transaction=True)
def test_workers_that_claim_at_the_same_moment_keep_to_the_limit(tier: str) -> None:
    """However often they meet; and they take all there is."""
    _limit(concurrency=5)
    _ready(120)
    done, most = Counter[UUID](), []
    workers = [Claimer() for _ in range(4)]

    def work(worker: Claimer, stop: threading.Event) -> None:
        while sum(done.values()) < 120 and not stop.is_set():
            taken = worker.take(3).runs
            most.append(WorkflowRun.objects.filter(owner__isnull=False).count())
            for run in taken:
                done[run.id] += 1
                _let_go(run.id)

    _together(*[partial(work, worker) for worker in workers])
    assert len(done) == 120
    assert set(done.values()) == {1}
    assert max(most) <= 5


def test_queues_that_are_full_are_not_locked_one_by_one(
    one: Claimer, other: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are; one with a place is filled, and each end in the others may allow a run."""
    for number in range(20):
        _limit(f"q{number:02}", concurrency=1)
        _ready(2, queue=f"q{number:02}")
    owned = {run.queue: run.id for run in other.take().runs}
    assert len(owned) == 20
    locked: list[str] = []

    def lock(session: Any, name: str, *rest: Any) -> Any:
        locked.append(name)
        return queue_rows.lock(session, name, *rest)

    monkeypatch.setattr(filling, "lock", lock)
    assert one.claim() == []
    assert locked == []
    assert one.claims.blocked == owned.keys()
    _let_go(owned["q07"])
    assert [run.queue for run in one.take().runs] == ["q07"]
    assert locked == ["q07"]


def test_a_run_that_ends_while_its_queue_is_counted_is_a_reason_to_claim_again(one: Claimer, other: Claimer) -> None:
    """Its place may have been counted still."""
    _limit(concurrency=1)
    _ready(2)
    assert len(other.claim()) == 1
    seen = set[frozenset[str]]()

    def look(execute: Any, *args: Any) -> Any:
        seen.add(one.claims.blocked)
        return execute(*args)

    with connections["default"].execute_wrapper(look):
        assert one.claim() == []
    assert frozenset({"mail"}) in seen


@pytest.mark.django_db(transaction=True)
def test_a_queue_that_another_worker_fills_is_left_to_it_and_tried_again_soon(tier: str) -> None:
    """It waits for nothing, and takes what is in other queues."""
    if not connections["default"].features.has_select_for_update_skip_locked:
        pytest.skip(f"{tier} has one lock")
    _limit(concurrency=1)
    _ready(2)
    (elsewhere,) = _ready(1, queue="other")
    worker = Claimer()
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Queue.objects.select_for_update().get(name="mail")
                held.set()
                assert go.wait(30)
        finally:
            connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    taken = worker.take()
    go.set()
    holder.join()
    assert [run.id for run in taken.runs] == [elsewhere]
    assert taken.again_in is not None
    assert taken.again_in < 0.1


# -- order -----------------------------------------------------------------------------------------


def test_c109_one_at_a_time_is_in_order_over_many_workers(one: Claimer, other: Claimer) -> None:
    """The larger priority first, then the oldest: strictly, whatever share of others is chosen by age."""
    _limit(concurrency=1)
    low = _ready(12, priority=-1)
    middle = _ready(12)
    high = _ready(3, priority=7)
    order = []
    for _ in range(27):
        (run,) = one.claim() + other.claim()
        order.append(run)
        _let_go(run)
    assert order == [*high, *middle, *low]


@pytest.mark.django_db(transaction=True)
def test_c109_one_at_a_time_waits_for_the_first_if_a_transaction_has_that_locked(tier: str) -> None:
    """It is not overtaken; where others may run beside it, it is."""
    if not connections["default"].features.has_select_for_update_skip_locked:
        pytest.skip(f"{tier} skips no locks")
    _limit(concurrency=1)
    first, second = _ready(2)
    worker = Claimer()
    with locked_runs([first]):
        taken = worker.take()
        assert taken.runs == []
        assert taken.again_in is not None
        _limit(concurrency=2)
        assert worker.claim() == [second]
    assert worker.claim() == [first]


def test_one_at_a_time_is_not_held_up_by_what_the_worker_does_not_know(one: Claimer) -> None:
    """However many those are."""
    _limit(concurrency=1)
    _ready(MANY, workflow="unknown")
    runs = _ready(2)
    assert one.claim() == runs[:1]


def test_a_share_of_each_batch_is_the_oldest_whatever_its_priority(one: Claimer) -> None:
    """A tenth, unless the queue says another one; none with `aging=0`."""
    _limit(concurrency=1000)
    old = _ready(20, priority=-5)
    new = _ready(100, priority=5)
    assert set(one.claim(20)) == {*old[:2], *new[:18]}
    assert [run for _ in range(10) for run in one.claim(1)].count(old[2]) == 1
    _limit(aging=0.0)
    assert one.claim(20) == new[27:47]
    _limit(aging=1.0)
    assert one.claim(5) == old[3:8]


# -- queues beside each other ------------------------------------------------------------------------


def test_c118_a_worker_takes_nothing_of_queues_that_it_does_not_serve(db: None) -> None:
    """Limits or none."""
    _limit(concurrency=5)
    _limit("other", concurrency=5)
    ours, plain = _ready(2), _ready(2, queue="plain")
    _ready(2, queue="other")
    assert set(Claimer("mail").claim()) == {*ours}
    assert Claimer("plain").claim() == plain


def test_no_queue_takes_all_of_a_workers_room(one: Claimer) -> None:
    """The claims begin with another one each time."""
    _limit(concurrency=100)
    _limit("slow", concurrency=100)
    for queue in ("mail", "slow", "default", "plain"):
        _ready(30, queue=queue)
    taken = [run.queue for _ in range(3) for run in one.take(10).runs]
    assert Counter(queue if queue in ("mail", "slow") else "others" for queue in taken) == {
        "mail": 10, "slow": 10, "others": 10,
    }  # fmt: skip


def test_a_full_queue_holds_up_no_other_however_long_it_is(one: Claimer) -> None:
    """Its runs are older and more urgent."""
    _limit(concurrency=1)
    _ready(MANY, priority=50)
    runs = _ready(3, queue="plain") + _ready(2, queue="zebra")
    assert len(one.claim(1)) + len(one.claim(1)) == 2
    assert set(one.claim()) | set(WorkflowRun.objects.filter(owner__isnull=False).values_list("id", flat=True)) >= {
        *runs
    }
    assert one.claims.blocked == {"mail"}


def test_a_worker_that_knows_of_no_limits_yet_takes_nothing_of_such_a_queue(one: Claimer) -> None:
    """The one claim for all queues leaves it out."""
    one.claims.any_apart = False
    _limit(concurrency=1)
    _ready(5)
    (plain,) = _ready(1, queue="plain")
    assert one.claim() == [plain]


def test_a_run_that_must_be_alone_keeps_to_the_limits_too(one: Claimer, other: Claimer) -> None:
    """And is not claimed from a paused queue."""
    _limit(concurrency=1)
    first, second = _ready(1), _ready(1, recoveries=3)
    assert one.claim() == first
    assert other.claim(1, alone=True) == []
    _let_go(*first)
    queues.pause("default", "mail", checked_note("pause", "", None))
    assert other.claim(1, alone=True) == []
    queues.resume("default", "mail")
    assert other.claim(1, alone=True) == second


# -- ahead -----------------------------------------------------------------------------------------


def test_what_is_claimed_ahead_takes_no_place_that_another_worker_has_a_slot_for(one: Claimer, other: Claimer) -> None:
    """Both have 16 slots: ahead goes what is beyond 32."""
    _limit(concurrency=20)
    runs = _ready(100)
    assert one.claim(16, 16) == runs[:16]
    assert other.claim(16, 16) == runs[16:20]
    _let_go(*runs[:20])
    _limit(concurrency=40, aging=0)
    assert one.claim(16, 16) == runs[20:44]
    assert len(other.claim(16, 16)) == 16


# -- rates -----------------------------------------------------------------------------------------


def test_c111_no_window_has_more_starts_than_the_rate(db: None) -> None:
    """Fifty in thirty seconds, five workers, at whatever moments they claim: never 51, and nearly fifty."""
    _limit(rate="50/30s")
    _ready(400)
    workers = [Claimer() for _ in range(5)]
    starts: list[float] = []
    for step in range(200):
        now = NOW + step * 0.61
        for worker in workers[step % 2 :: 2]:
            worker.at(now)
            starts += [now] * len(worker.take(7).runs)
    assert all(sum(begin <= at < begin + 30 for at in starts) <= 50 for begin in starts)
    assert len(starts) >= 50 * 4


def test_only_the_first_claim_of_a_run_counts(one: Claimer) -> None:
    """A run that wakes goes on, though the rate is used up, and behind any number that may not start."""
    _limit(rate="2/m")
    runs = _ready(MANY)
    one.at(NOW)
    assert one.claim() == runs[:2]
    _let_go(runs[0], ready=True)
    taken = one.take()
    assert [run.id for run in taken.runs] == runs[:1]
    assert taken.again_in == pytest.approx(61, abs=1.1)
    one.at(NOW + 62)
    assert one.claim() == runs[2:4]


def test_a_rate_is_kept_by_the_databases_clock(one: Claimer) -> None:
    """Unless another one is given; and a window is as long as it says."""
    _limit(rate="3/s")
    _ready(50)
    assert len(one.claim()) == 3
    taken = one.take()
    assert taken.runs == []
    assert taken.again_in is not None
    assert 0 < taken.again_in <= 1.02


def test_a_clock_that_is_set_back_stops_a_queue_for_one_window_at_most(one: Claimer) -> None:
    """What was counted in what is now the future counts as now."""
    _limit(rate="3/m")
    _ready(50)
    one.at(NOW)
    assert len(one.claim()) == 3
    one.at(NOW - 3600)
    assert one.claim() == []
    one.at(NOW - 3600 + 62)
    assert len(one.claim()) == 3


def test_a_rate_that_is_changed_knows_what_was_started_before(one: Claimer) -> None:
    """Another number, or another window."""
    _limit(rate="3/m")
    _ready(50)
    one.at(NOW)
    assert len(one.claim()) == 3
    _limit(rate="5/m")
    assert len(one.claim()) == 2
    _limit(rate="6/h")
    assert len(one.claim()) == 1


# -- partitions ------------------------------------------------------------------------------------


def test_c113_one_run_of_each_partition_at_a_time(one: Claimer, other: Claimer) -> None:
    """And of many partitions at once: none waits for another."""
    _limit(partition_concurrency=1)
    big = _ready(100, partition="big")
    small = [_ready(2, partition=f"t{number}") for number in range(20)]
    taken = one.claim(10) + other.claim()
    assert sorted(str(name) for name in _partitions(taken)) == sorted(["big", *(f"t{number}" for number in range(20))])
    assert one.claim() == other.claim() == []
    _let_go(*taken)
    again = one.claim()
    assert {*again} == {big[1], *(second for _first, second in small)}


def test_c113_partitions_take_turns(one: Claimer) -> None:
    """One run of each in a round, however many runs one has, and the next claim goes on behind the last."""
    _limit(partition_concurrency=50, aging=0)
    _ready(500, partition="big")
    for number in range(9):
        _ready(3, partition=f"t{number}")
    taken = [name for _ in range(5) for name in _partitions(one.claim(4))]
    assert Counter(taken) == {"big": 2, **{f"t{number}": 2 for number in range(9)}}
    rest = Counter(_partitions(one.claim(30)))
    assert rest == {"big": 21, **{f"t{number}": 1 for number in range(9)}}


def test_priority_orders_inside_a_partition(one: Claimer) -> None:
    """And not among partitions."""
    _limit(partition_concurrency=1, aging=0)
    _ready(3, partition="a")
    (urgent,) = _ready(1, partition="a", priority=9)
    (plain,) = _ready(1, partition="b", priority=-9)
    assert {*one.claim(2)} == {urgent, plain}


def test_runs_without_a_partition_have_no_limit_of_one(one: Claimer) -> None:
    """They are taken where there is room, and by the share of the oldest."""
    _limit(partition_concurrency=1)
    keyed = _ready(3, partition="a")
    free = _ready(5)
    assert {*one.claim()} == {keyed[0], *free}


def test_partitions_and_queue_limits_hold_together(one: Claimer, other: Claimer) -> None:
    """The tighter one decides."""
    _limit(concurrency=3, partition_concurrency=2, per_worker=2)
    for name in "ab":
        _ready(5, partition=name)
    assert sorted(str(name) for name in _partitions(one.claim())) == ["a", "b"]
    assert len(other.claim()) == 1
    assert other.claim() == []


def test_partition_rates_hold_for_each(one: Claimer) -> None:
    """Of one that has used its own up only what was woken goes on."""
    _limit(partition_rate="2/m")
    one.at(NOW)
    first = _ready(5, partition="a")
    second = _ready(1, partition="b")
    assert {*one.claim()} == {*first[:2], *second}
    taken = one.take()
    assert taken.runs == []
    assert taken.again_in == pytest.approx(60, abs=2)
    _let_go(first[0], ready=True)
    assert one.claim() == first[:1]
    one.at(NOW + 63)
    assert one.claim() == first[2:4]


def test_a_partition_whose_first_run_nobody_knows_holds_up_neither_itself_nor_others(one: Claimer) -> None:
    """Those behind it are found."""
    _limit(partition_concurrency=1, aging=0)
    _ready(5, partition="a", workflow="unknown")
    known = _ready(1, partition="a") + _ready(1, partition="b")
    assert {*one.claim()} == {*known}


def test_partitions_whose_rates_are_used_up_hold_up_no_other(one: Claimer) -> None:
    """Though the worker has no more room than for one run, and theirs are the next to have their turns."""
    _limit(partition_rate="1/h", aging=0)
    for name in ("p1", "p3"):
        _ready(5, partition=name)
    assert _partitions(one.claim(1) + one.claim(1)) == ["p1", "p3"]
    (between,) = _ready(1, partition="p2")
    assert one.claim(1) == [between]
    assert one.claim(1) == []


def test_partitions_whose_runs_the_worker_does_not_know_hold_up_no_other(one: Claimer) -> None:
    """However many are before it, each claim looks at a bounded number of them, and the next one soon goes on there."""
    _limit(partition_concurrency=1, aging=0)
    unknown = [WorkflowRun(workflow="unknown", queue="mail", partition=f"p{number:03}") for number in range(450)]
    WorkflowRun.objects.bulk_create(unknown, 500)
    (known,) = _ready(1, partition="z")
    for _ in range(3):
        taken = one.take(1)
        if taken.runs:
            break
        assert taken.again_in is not None
        assert taken.again_in < 1
    assert [run.id for run in taken.runs] == [known]


@pytest.mark.django_db(transaction=True)
def test_a_more_urgent_run_that_comes_in_between_does_not_make_two_of_a_partition(tier: str) -> None:
    """Workers claim while more urgent runs of the same few partitions are committed: never two of one at once."""
    _limit(partition_concurrency=1)
    seen = list[int]()
    begun = threading.Event()

    def begin_runs(stop: threading.Event) -> None:
        for priority in range(60):
            for name in "abc":
                if not stop.is_set():
                    _ready(1, partition=name, priority=priority)
        begun.set()

    def work(worker: Claimer, stop: threading.Event) -> None:
        while not stop.is_set() and not (begun.is_set() and not WorkflowRun.objects.filter(ready=True).exists()):
            taken = worker.take(4).runs
            owned = WorkflowRun.objects.filter(owner__isnull=False).values_list("partition", flat=True)
            seen.append(max(Counter(owned).values(), default=0))
            _let_go(*[run.id for run in taken])

    _together(begin_runs, *[partial(work, Claimer()) for _ in range(3)])
    assert max(seen) == 1
    assert WorkflowRun.objects.filter(state="completed").count() == 180


# -- paused ----------------------------------------------------------------------------------------


def test_nothing_is_claimed_from_a_paused_queue(one: Claimer) -> None:
    """Limits or none; and all goes on once it is resumed."""
    runs, plain = _ready(2), _ready(2, queue="plain")
    note = checked_note("pause", "the provider is down", "ada")
    queues.pause("default", "mail", note)
    queues.pause("default", "mail", checked_note("pause", "another", "bob"))
    row = Queue.objects.get(name="mail")
    assert (row.paused_reason, row.paused_by) == ("the provider is down", "ada")
    assert one.claim() == plain
    one.claims.any_apart = False
    assert one.claim() == []
    assert queues.resume("default", "mail")
    assert not queues.resume("default", "mail")
    assert one.claim() == runs
    _limit(concurrency=5)
    more = _ready(2)
    queues.pause("default", "mail", note)
    one.claims.any_apart = True
    assert one.claim() == []
    queues.resume("default", "mail")
    assert one.claim() == more


@pytest.mark.django_db
@pytest.mark.parametrize("concurrency", [None, 100])
@pytest.mark.parametrize("served", [(), ("mail",)])
def test_what_is_ready_behind_a_backlog_of_a_paused_workflow_is_claimed(
    served: tuple[str, ...], concurrency: int | None
) -> None:
    """Of other workflows, and what stops with nothing to undo; what is resumed is claimed again."""
    one, known = Claimer(*served), [("other", ""), *KNOWN, ("mine", "2"), ("paused too", "")]
    if concurrency:
        _limit(concurrency=concurrency)
    held = _ready(MANY)
    held += _ready(MANY, version="2", priority=1)
    others = _ready(3, workflow="other")
    stops = {"workflow": "unknown", "state": "stopping", "ending": "cancelled"}
    stopping = _ready(1, **stops)
    stopping += [run_id for run_id in _ready(1, queue="Mail", **stops) if not served]
    for name in ("mine", "paused too"):
        queues.pause_workflow("default", name, checked_note("pause", "", None))
    assert {*one.claim(known=known)} == {*others, *stopping}
    assert one.claim(known=known) == []
    queues.resume_workflow("default", "mine")
    again = one.claim(known=known)
    assert {*again} <= {*held}
    assert {*again} & {*held[MANY:]}


def test_no_run_of_a_paused_workflow_is_claimed(one: Claimer) -> None:
    """In no queue; others are."""
    known = [*KNOWN, ("other", "")]
    _limit(concurrency=5)
    held = _ready(2) + _ready(2, queue="plain")
    other = _ready(1, workflow="other") + _ready(1, queue="plain", workflow="other")
    queues.pause_workflow("default", "mine", checked_note("pause", "", None))
    assert {*one.claim(known=known)} == {*other}
    assert queues.resume_workflow("default", "mine")
    assert not queues.resume_workflow("default", "mine")
    assert {*one.claim(known=known)} == {*held}


def test_room_is_made_for_a_run_that_must_be_alone_in_a_queue_with_limits(one: Claimer) -> None:
    """Not in one that is paused: it could not be claimed."""
    _limit(concurrency=1)
    (run,) = _ready(1, recoveries=3)
    found = claims.suspect(connections["default"], one.owner, KNOWN)
    assert found is not None
    assert found.id == run
    queues.pause("default", "mail", checked_note("pause", "", None))
    assert claims.suspect(connections["default"], one.owner, KNOWN) is None
