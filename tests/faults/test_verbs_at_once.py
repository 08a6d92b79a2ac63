"""Every verb at once on the same runs, while workers run them: each is answered, soon, and as it is documented."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import transaction
from pytest_django import Settings

from canx_flow import InvalidState, RunNotFound, client, send_event
from canx_flow.models import Timer, WorkflowRun
from canx_flow.states import ENDED

from ..elsewhere import elsewhere
from ..models import Effect
from ..processes import Workers
from ..waiting import wait_until
from ..workflows import restless

THREADS, CALLS, RUNS = 8, 100, 6
#: Seconds within which any call is answered on a busy machine: the verbs lock a row for a moment.
SOON = 15.0


class Runs:
    """The runs that all threads are at; one that has ended for good is replaced."""

    def __init__(self) -> None:
        self._ids = [restless.start(3) for _ in range(RUNS)]

    def any(self, chance: random.Random) -> tuple[int, UUID]:
        place = chance.randrange(RUNS)
        return place, self._ids[place]

    def replace(self, place: int) -> None:
        self._ids[place] = restless.using(delay=0.02).start(3)

    def all(self) -> list[UUID]:
        return list(self._ids)


def _verbs(runs: Runs, chance: random.Random) -> dict[str, Callable[[UUID], object]]:
    """Each verb, as often as it is worth here."""
    return {
        "pause": restless.pause,
        "resume": restless.resume,
        "pause again": client.pause,
        "resume again": client.resume,
        "wake": restless.wake,
        "retry": restless.retry,
        "retry again": restless.retry,
        "send": lambda run_id: restless.send(run_id, "news", 1),
        "send once": lambda run_id: restless.send(run_id, "news", 2, dedup_id=str(chance.randrange(3))),
        "send to all": lambda _: send_event("news", 3, dedup_id=str(chance.randrange(100))),
        "start with a key": lambda _: restless.using(key=str(chance.randrange(5))).start(1),
        "rerun": restless.rerun,
        "cancel": restless.cancel,
        "status": restless.status,
        "cancel all": lambda run_id: restless.runs.filter(id__in=[run_id, *runs.all()[:2]]).cancel(),
        "retry all": lambda _: restless.runs.filter(id__in=runs.all()).retry(),
        "prune": lambda _: call_command("pruneflows", "--older-than", str(1 / 86400), verbosity=0, stdout=_Nowhere()),
    }


class _Nowhere:
    def write(self, _text: str) -> None: ...


def _meddle(runs: Runs, seed: int) -> tuple[Counter[str], dict[str, float]]:
    """Call verbs one after another, half of them in a transaction; how they ended, and the longest time of each."""
    chance = random.Random(seed)
    verbs = _verbs(runs, chance)
    outcomes, longest = Counter[str](), dict[str, float]()
    for number in range(CALLS):
        name = chance.choice(list(verbs))
        place, run_id = runs.any(chance)
        begun = time.monotonic()
        try:
            if chance.random() < 0.5 and name != "prune":
                with transaction.atomic():
                    Effect.objects.create(name=f"{seed} {number}")
                    verbs[name](run_id)
            else:
                verbs[name](run_id)
        except RunNotFound:
            runs.replace(place)
        except InvalidState:
            if name.startswith("send"):  # It is completed or cancelled.
                runs.replace(place)
        except Exception as error:  # noqa: BLE001 - the test names them all
            outcomes[f"{name}: {type(error).__name__} {error}"] += 1
        longest[name] = max(longest.get(name, 0.0), time.monotonic() - begun)
    return outcomes, longest


@pytest.mark.django_db(transaction=True)
def test_every_verb_at_once_beside_workers(workers: Workers, settings: Settings) -> None:
    """Nothing is raised but what the contract names, no call takes long, and every run can still be brought to its
    end."""
    # A lease that a slow machine keeps: no worker dies here.
    settings.CANX_FLOW = {**settings.CANX_FLOW, "LEASE_SECONDS": 10}
    started = workers.start_many(2, "--concurrency", "4", "--poll-interval", "0.1")
    runs = Runs()
    calls = [elsewhere(lambda seed=seed: _meddle(runs, seed)) for seed in range(THREADS)]
    ended = [call.result(240) for call in calls]
    assert sum((outcomes for outcomes, _ in ended), Counter()) == Counter()
    slow = {name: round(took, 1) for _, longest in ended for name, took in longest.items() if took > SOON}
    assert slow == {}
    # Whatever was left paused goes on, whatever is still at work is cancelled.
    for run_id in restless.runs.states("paused").values_list("id", flat=True):
        restless.resume(run_id)
    restless.runs.cancel()
    wait_until(lambda: not restless.runs.exclude(state__in=ENDED).exists(), 60, message="runs do not end")
    assert not Timer.objects.filter(run__state__in=("completed", "cancelled")).exists()
    assert not WorkflowRun.objects.filter(ready=True).exists()
    assert all(worker.alive for worker in started)
    told = [line for worker in started for line in worker.log().splitlines() if "ERROR" in line]
    assert [line for line in told if "of tests.restless failed: " not in line] == []
