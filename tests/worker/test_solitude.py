"""Making room for runs that must run alone: whose turn it is, and what comes of it in real workers."""

from __future__ import annotations

import json
from types import ModuleType
from uuid import UUID

import pytest
from django.db import connections, transaction

from canx_flow.core import registry
from canx_flow.models import Worker, WorkflowRun
from canx_flow.states import PENDING
from canx_flow.store import claims, leases, poll
from canx_flow.store.claims import Suspect
from canx_flow.worker.solitude import Solitude, turn

from .. import workflows
from ..processes import Workers
from ..waiting import wait_until

SUSPECT = Suspect(UUID(int=7), "default", "suspicious", "")


def row(number: int, *, queues: tuple[str, ...] = (), knows: str = "suspicious") -> Worker:
    """A live worker's row, as its neighbours read it."""
    return Worker(id=UUID(int=number), queues=json.dumps(queues), workflows=json.dumps([[knows, ""]]))


class _Fleet:
    """Some workers, each of which knows the rows of all."""

    def __init__(self, *rows: Worker) -> None:
        self.rows = {row.id.int: row for row in rows}
        self.each = {number: Solitude(row.id) for number, row in self.rows.items()}

    def look(self, now: float, suspect: Suspect | None = SUSPECT) -> list[int]:
        """Who makes room at this moment."""
        for solitude in self.each.values():
            solitude.consider(suspect, self.rows.values(), now)
        return sorted(number for number, solitude in self.each.items() if solitude.makes_room)

    def dies(self, number: int) -> None:
        """It is found dead by the others."""
        del self.rows[number], self.each[number]


@pytest.mark.once
def test_one_worker_at_a_time_makes_room() -> None:
    """Each has its turn, in the same order for all; turns get longer from round to round."""
    fleet = _Fleet(row(1), row(2), row(3))
    turns = [fleet.look(float(now)) for now in range(0, 271, 10)]
    assert turns == [[1]] * 3 + [[2]] * 3 + [[3]] * 3 + [[1]] * 6 + [[2]] * 6 + [[3]] * 6 + [[1]]


@pytest.mark.once
def test_a_worker_by_itself_makes_room_until_it_is_empty() -> None:
    """However long its steps take."""
    fleet = _Fleet(row(1))
    assert all(fleet.look(now) == [1] for now in (0.0, 29.0, 31.0, 1e6))


@pytest.mark.once
def test_only_workers_that_may_take_the_run_make_room() -> None:
    """Those that serve its queue and know its workflow, under its version."""
    rows = (row(1, queues=("other",)), row(2, knows="another"), row(3, queues=("default", "other")), row(4))
    every = _Fleet(*rows)
    del every.each[1], every.each[2]  # They do not see it at all.
    assert [every.look(now) for now in (0.0, 30.0, 60.0)] == [[3], [4], [3]]


@pytest.mark.once
def test_the_turn_of_a_worker_that_died_is_the_next_one_s() -> None:
    """As soon as it is known to be dead."""
    fleet = _Fleet(row(1), row(2))
    assert fleet.look(0.0) == [1]
    fleet.dies(1)
    assert fleet.look(1.0) == [2]


@pytest.mark.once
def test_the_next_run_is_counted_from_when_it_was_seen() -> None:
    """Another run that must be alone has turns of its own, and none at all ends them."""
    fleet = _Fleet(row(1), row(2))
    assert [fleet.look(now) for now in (0.0, 35.0)] == [[1], [2]]
    other = Suspect(UUID(int=8), "default", "suspicious", "")
    assert [fleet.look(40.0, other), fleet.look(69.0, other), fleet.look(71.0, other)] == [[1], [1], [2]]
    assert fleet.look(72.0, None) == []
    assert not fleet.each[2].is_wanted


@pytest.mark.once
def test_every_worker_has_a_turn_as_long_as_may_be() -> None:
    """Whatever a step takes, one of its worker's turns is longer, and not late by more than a few times that."""
    for workers in (1, 2, 7):
        for takes in (10.0, 100.0, 10_000.0):
            whole = next(
                start
                for start in range(0, 1_000_000, 5)
                if {turn(start + within, workers) for within in (0, takes / 2, takes)} == {workers - 1}
            )
            assert whole <= 4 * workers * max(takes, 30.0)


@pytest.mark.once
def test_what_was_claimed_alone_stays_alone() -> None:
    """Beside it nothing is claimed; beside what was claimed because it was gone, everything."""
    fleet = _Fleet(row(1))
    fleet.look(0.0)
    one = fleet.each[1]
    assert (one.leaves_room(3), one.leaves_room(0)) == (False, True)
    one.enter(True, tried=True)
    assert not one.leaves_room(1)
    one.enter(False, tried=True)
    assert one.leaves_room(1)
    assert not one.is_wanted
    one.enter(True, tried=True)
    one.enter(False, tried=False)
    assert one.leaves_room(1)


# -- what is claimed ---------------------------------------------------------------------------------


@pytest.fixture
def owner() -> UUID:
    """A live worker."""
    return leases.register(host="here", pid=1, workflows=registry.identities()).id


def suspected(**values: object) -> UUID:
    """A run whose workers have died three times."""
    with transaction.atomic():
        run_id = workflows.held.start("suspect")
        WorkflowRun.objects.filter(id=run_id).update(recoveries=leases.ALONE_FROM, **values)
    return run_id


@pytest.mark.django_db
def test_the_most_urgent_one_is_found(owner: UUID) -> None:
    """The one that would be claimed: of this worker's queues, of a workflow that it knows."""
    connection, known = connections["default"], registry.identities()
    suspected(queue="other")
    suspected(workflow="nobody's")
    last, first = suspected(), suspected(priority=5)
    assert claims.suspect(connection, owner, known, ["default"]) == Suspect(first, "default", "tests.held", "")
    assert [run.id for run in claims.claim(connection, owner, 1, known, ["default"], alone=True)] == [first]
    found = claims.suspect(connection, owner, known, ["default"])
    assert found is not None
    assert found.id == last
    assert claims.suspect(connection, owner, [("another", "")], ["default"]) is None
    assert claims.suspect(connection, owner, [], ["default"]) is None


@pytest.mark.django_db
def test_a_stopping_run_ends_beside_others(owner: UUID) -> None:
    """Nothing of it is called any more: it need not wait until it can be alone."""
    connection, known = connections["default"], registry.identities()
    run_id = suspected(state="stopping", ending="cancelled")
    assert not poll.ask(connection).alone
    assert claims.suspect(connection, owner, known) is None
    assert claims.claim(connection, owner, 1, known, alone=True) == []
    assert [run.id for run in claims.claim(connection, owner, 1, known)] == [run_id]


# -- in real workers ---------------------------------------------------------------------------------


def test_a_run_that_must_be_alone_has_its_turn_beside_a_backlog(workers: Workers, effects: ModuleType) -> None:
    """A worker with steps in flight and more behind them takes up nothing else, and then first that run, alone."""
    worker = workers.start("--concurrency", "4")
    before = [workflows.held.start(label) for label in ("one", "two")]
    wait_until(lambda: effects.count("at one") and effects.count("at two"))
    first, second = suspected(priority=-100), suspected(priority=-100)
    wait_until(lambda: "must run alone" in worker.log())
    later = [workflows.held.start(label) for label in ("three", "four")]
    effects.release("one")
    workflows.held.result(before[0], timeout=20)
    assert WorkflowRun.objects.filter(id__in=[first, second, *later], state=PENDING).count() == 4
    effects.release("two")
    wait_until(lambda: WorkflowRun.objects.filter(id=first, state="running").exists())
    wait_until(lambda: effects.count("at suspect") == 1)
    assert not effects.count("at three")
    effects.release("suspect")
    for run_id in (first, second):
        workflows.held.result(run_id, timeout=20)
    for label in ("three", "four"):
        effects.release(label)
    for run_id in later:
        workflows.held.result(run_id, timeout=20)
    lines = [line for line in effects.read() if line.startswith("at ")]
    assert [*sorted(lines[:2]), *lines[2:4]] == ["at one", "at two", "at suspect", "at suspect"]


def test_another_worker_goes_on_meanwhile(workers: Workers, effects: ModuleType) -> None:
    """One makes room, the other works; and the run that must be alone is taken by the first that is empty."""
    labels = [str(number) for number in range(4)]
    runs = {workflows.held.start(label): label for label in labels}
    pair = workers.start_many(2, "--concurrency", "2")
    wait_until(lambda: all(effects.count(f"at {label}") for label in labels))
    owners = dict(WorkflowRun.objects.filter(id__in=runs).values_list("id", "owner_id"))
    assert len(set(owners.values())) == 2
    suspect = suspected()
    wait_until(lambda: any("must run alone" in worker.log() for worker in pair))
    (room,) = [worker for worker in pair if "must run alone" in worker.log()]
    makes_room = Worker.objects.get(pid=room.pid, state="alive").id
    busy = [runs[run_id] for run_id, owner_id in owners.items() if owner_id != makes_room]
    more = workflows.held.start("more")
    effects.release(busy[0])  # Not both: were it empty, it would take that run itself.
    wait_until(lambda: effects.count("at more"))
    assert WorkflowRun.objects.get(id=suspect).state == PENDING
    for run_id, owner_id in owners.items():
        if owner_id == makes_room:
            effects.release(runs[run_id])
    wait_until(lambda: effects.count("at suspect"))
    assert WorkflowRun.objects.get(id=suspect).owner_id == makes_room
    for gate in ("suspect", "more", busy[1]):
        effects.release(gate)
    for run_id in (*runs, more, suspect):
        workflows.held.result(run_id, timeout=30)
