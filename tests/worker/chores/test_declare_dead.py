"""The judge of heartbeats, with time as an argument: no database, no clock."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from canx_flow.models import Worker
from canx_flow.states import WorkerState
from canx_flow.store import host
from canx_flow.worker.chores.declare_dead import DeclareDead, Watcher, next_of_host

pytestmark = pytest.mark.once

LEASE, INTERVAL = 30.0, 5.0


class World:
    """Some workers, their counters, and one watcher that looks every INTERVAL seconds."""

    def __init__(self, number: int = 1, *, watching: bool = False) -> None:
        self.rows = [Worker(id=uuid4(), beat=1) for _ in range(number)]
        self.own = Worker(id=uuid4(), beat=1)
        self.gone: set[UUID] = set()
        self.now = 1_000.0
        self.watching = watching
        self.watcher = Watcher(
            lease=LEASE,
            interval=INTERVAL,
            own_id=self.own.id if watching else None,
            is_gone=lambda row: row.id in self.gone,
        )

    def beat(self, *rows: Worker) -> None:
        for row in rows:
            row.beat += 1

    def look(self) -> list[UUID]:
        return self.watcher.find_dead([*self.rows, *([self.own] if self.watching else [])], self.now)

    def pass_time(self, seconds: float, *beating: Worker) -> list[UUID]:
        """Look every INTERVAL seconds while `beating` beat; returns whom it found dead at last."""
        dead: list[UUID] = []
        for _ in range(int(seconds / INTERVAL)):
            self.now += INTERVAL
            self.beat(*beating)
            dead = self.look()
        return dead


def test_a_counter_that_stands_still_for_a_lease_is_dead() -> None:
    """C097: not before the lease is over, and then at the next look."""
    world = World()
    assert world.look() == []
    assert world.pass_time(LEASE - INTERVAL) == []
    assert world.pass_time(INTERVAL) == [world.rows[0].id]


def test_a_counter_that_rises_is_alive() -> None:
    """C099: for as long as it rises, and each beat starts the lease anew."""
    world = World()
    world.look()
    assert world.pass_time(10 * LEASE, world.rows[0]) == []
    assert world.pass_time(LEASE - INTERVAL) == []
    world.beat(world.rows[0])
    assert world.pass_time(LEASE) == []
    assert world.pass_time(INTERVAL) == [world.rows[0].id]


def test_only_the_one_that_stands_still_is_dead() -> None:
    """Its neighbours' leases are their own."""
    world = World(3)
    world.look()
    assert world.pass_time(LEASE, world.rows[0], world.rows[2]) == [world.rows[1].id]


def test_clocks_do_not_matter() -> None:
    """P15: what the other's clock says is never read: ten minutes of difference kill nobody, and save nobody."""
    world = World(2)
    for row, minutes in zip(world.rows, (-10, 10), strict=True):
        row.beat_at += timedelta(minutes=minutes)
    world.look()
    assert world.pass_time(LEASE, world.rows[0]) == [world.rows[1].id]


def test_time_without_a_look_is_not_counted() -> None:
    """P16: after an outage of an hour nobody is dead: everybody gets the rest of its lease to beat again."""
    world = World(3)
    world.look()
    world.pass_time(INTERVAL)
    world.now += 3600
    assert world.look() == []
    assert world.pass_time(LEASE, *world.rows) == []


def test_after_an_outage_the_dead_are_found_all_the_same() -> None:
    """C100: who died during the outage is found when its lease has passed in time that counts."""
    world = World(2)
    world.look()
    world.now += 3600
    world.look()
    assert world.pass_time(LEASE, world.rows[0]) == [world.rows[1].id]


def test_time_in_which_nobody_could_write_is_not_counted() -> None:
    """P16: where rows can be read but no beat written, as behind SQLite's lock, its own counter stands, too."""
    world = World(2, watching=True)
    world.look()
    assert world.pass_time(10 * LEASE) == []
    assert world.pass_time(2 * INTERVAL, world.own) == []
    assert world.pass_time(LEASE, world.own, world.rows[0]) == [world.rows[1].id]


def test_a_watcher_that_was_found_dead_judges_nobody() -> None:
    """Without a row of its own it has no word to say."""
    world = World(1, watching=True)
    world.look()
    world.gone.add(world.rows[0].id)
    world.watching = False
    assert world.pass_time(2 * LEASE) == []


def test_it_never_judges_itself() -> None:
    """Its own death is for others to find."""
    world = World(0, watching=True)
    world.gone.add(world.own.id)
    assert world.look() == []


def test_a_process_that_is_gone_is_dead_at_once() -> None:
    """C097: on the same host no lease is waited for."""
    world = World(2)
    world.gone.add(world.rows[1].id)
    assert world.look() == [world.rows[1].id]


def test_the_first_look_condemns_nobody() -> None:
    """A watcher that has just started knows nothing of the time before."""
    world = World(3)
    for row in world.rows:
        row.beat = 10_000
    assert world.look() == []


def test_a_worker_that_has_never_beaten_is_given_time() -> None:
    """Seen: 64 that started at once on a busy machine found one another dead. It owns nothing before its first beat."""
    world = World(2)
    world.rows[0].beat = 0
    world.look()
    assert world.pass_time(3 * LEASE, world.rows[1]) == []
    assert world.pass_time(LEASE, world.rows[1]) == [world.rows[0].id]


def test_processes_are_looked_at_only_when_asked() -> None:
    """Heartbeats are judged all the same."""
    world = World(2)
    world.gone.add(world.rows[0].id)
    assert world.watcher.find_dead(world.rows, world.now, processes=False) == []


def test_each_worker_looks_at_the_next_few_of_its_host() -> None:
    """However many there are; and each is looked at by as many others, those at the ends, too."""
    rows = [Worker(id=UUID(int=number), boot_id="here", pid_namespace="1") for number in range(10)]
    there = [Worker(id=UUID(int=100 + number), boot_id="there", pid_namespace="1") for number in range(3)]
    looked_at = [[row.id.int for row in next_of_host(worker.id, [*reversed(rows), *there])] for worker in rows]
    assert looked_at == [[(number + step) % 10 for step in (1, 2, 3)] for number in range(10)]
    assert [row.id.int for row in next_of_host(there[1].id, [*rows, *there])] == [102, 100]
    assert next_of_host(UUID(int=7777), rows) == ()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this host."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.skipif(not host.identify().boot_id, reason="this system has no /proc to look processes up in")
@pytest.mark.django_db
def test_all_that_have_died_together_are_found_by_the_next_poll(process: subprocess.Popen[bytes]) -> None:
    """More than each worker looks at; no lease and no other look is waited for."""
    here = host.identify()
    own = Worker.objects.create(**asdict(here))
    found = host._look_up(str(process.pid))
    assert found is not None
    there = asdict(here) | {"pid": process.pid, "process_started": found.started}
    others = [Worker.objects.create(**there).id for _ in range(6)]
    declare_dead = DeclareDead(own.id, 1.0)
    assert not declare_dead.run_once(1000.0)
    assert not declare_dead.run_once(1001.0)
    process.kill()
    process.wait()
    assert declare_dead.run_once(1002.0)
    assert set(Worker.objects.filter(state=WorkerState.DEAD).values_list("id", flat=True)) == set(others)
