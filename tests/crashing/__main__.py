"""A prepared process, from which every crash is forked: Django is set up, the runs are stored, nothing is connected.

    python -m tests.crashing --folder F [--kind async] [--points 50] [--seed 3] [--jobs 6] [--defect torn] …

At each point (right before, or right after, a write of the engine) a forked worker is killed, and the next one goes on.
One life of the runs has a chain of such crashes, far from each other, for what lies before and behind a crash costs as
much as a life without one; then everything must be as it is without any. Of a chain that has changed something each
crash is tried alone. So is one that its chain has not come to: what was rolled back is sent again, and counted again.
Every fault is printed with its points; the exit status tells whether there was one.

Chains are spread over lanes, which crash side by side, each in a database of its own. Called by
tests/faults/test_crashes.py, with the test database.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import django

_BEAT = 'SET "beat"'
_PATIENCE = 240  # seconds for one process, which takes three where nothing else computes
_LANES = 3  # for each processor: in each the worker waits for its database, and for its threads, most of the time
_WORTH_A_DATABASE = 25  # crashes
_numbers = itertools.count()


def main(arguments: Sequence[str] | None = None) -> int:
    """Crash at every point that is asked for; return 1 if that has changed anything."""
    given = _parser().parse_args(arguments)
    django.setup()
    # Here, and not in each forked process.
    from . import broken, driving, judging, reports  # noqa: F401
    from .places import Place

    folder = Path(given.folder)
    origin = Place(folder / "origin")
    origin.folder.mkdir(parents=True)
    _done(_forked(origin.folder, origin.make, given.kind))
    undisturbed, points = _undisturbed(origin, given)
    points = _sample(points, given.points)
    chains = _chains(points, given.chain)
    jobs = given.jobs or _LANES * (os.cpu_count() or 1)
    if not origin.is_file:  # Each lane but the first makes a database for itself, which is to be worth it.
        jobs = min(jobs, 1 + len(points) // _WORTH_A_DATABASE)
    # Mixed, so that each lane has some of what takes long.
    random.Random(given.seed).shuffle(chains)
    began = time.monotonic()
    lanes = [_fork(folder, _lane, n, origin, undisturbed, chains[n::jobs], given) for n in range(jobs)]
    found = [_ended(lane) for lane in lanes]
    seconds = time.monotonic() - began
    print(f"{len(points)} crashes, at {len(undisturbed.writes)} writes, {given.kind}, in {seconds:.0f} s")
    return max(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crashing")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--kind", default="sync", choices=["sync", "async"])
    parser.add_argument("--points", type=int, default=0, help="so many, evenly spread; 0: all")
    parser.add_argument("--at", default="", help="only at writes of which this is a part")
    parser.add_argument("--chain", type=int, default=4, help="so many crashes in one life of the runs")
    parser.add_argument("--seed", type=int, default=17, help="chooses the order of the chains")
    parser.add_argument("--jobs", type=int, default=0, help="crashes at a time; 0: as many as pay")
    parser.add_argument("--defect", default="", help="one of `broken`, which is to be found")
    return parser


def _undisturbed(origin: Any, given: argparse.Namespace) -> tuple[Any, list[Any]]:
    """Return how all stands without a crash, and every point at which there could have been one."""
    place = _fresh(origin, origin.folder.parent / "undisturbed", given.kind)
    _done(_forked(place.folder, _work, place, None, given.defect))
    report = _read(place.folder / "report")
    if report.complaint or report.leftovers:
        sys.exit(f"without a crash: {report.complaint} {report.leftovers} {report.runs}")
    return report, [point for point in _points(report) if given.at in point.write]


def _points(report: Any) -> list[Any]:
    from .writes import AFTER, BEFORE, Point

    # Heart beats come by the clock.
    writes = [(write, number) for write, number in report.writes if number == 1 or _BEAT not in write]
    return [Point(when, write, number) for write, number in writes for when in (BEFORE, AFTER)]


def _sample(points: list[Any], most: int) -> list[Any]:
    if not most or most >= len(points):
        return points
    return [points[n * len(points) // most] for n in range(most)]


def _chains(points: list[Any], most: int) -> list[list[Any]]:
    """Return them in chains of so many, each from the first to the last, as far from each other as can be."""
    number = -(-len(points) // most)
    return [points[n::number] for n in range(number)]


# -- one crash after another, in a process of its own ---------------------------------------------


def _lane(lane: int, origin: Any, undisturbed: Any, chains: Sequence[Any], given: argparse.Namespace) -> None:
    """Crash at each of these points, in the database of this lane; tell of every fault."""
    from .places import Place

    own = Place(origin.folder, lane)
    needs_database = lane > 0 and not origin.is_file
    try:
        if needs_database:
            _done(_forked(origin.folder, own.build))
        wrong = sum(_crash_at_each(lane, origin, undisturbed, chain, given) for chain in chains)
    finally:
        if needs_database:
            _forked(origin.folder, own.demolish)
    if wrong:
        raise SystemExit(1)


def _crash_at_each(lane: int, origin: Any, undisturbed: Any, chain: Sequence[Any], given: argparse.Namespace) -> int:
    """Return how many faults these crashes have, together and, where that says nothing of one, alone."""
    from .judging import faults

    place = _fresh(origin, origin.folder.parent / f"crash-{os.getpid()}-{next(_numbers)}", given.kind, lane)
    told, missed = _crash(place, chain, given.defect)
    report = _read(place.folder / "report") if (place.folder / "report").exists() else None
    found = ["the last worker came to no end"] if report is None else faults(undisturbed, report)
    if found:
        print("\n  ".join([", then ".join(told), *found]), flush=True)
    else:
        shutil.rmtree(place.folder)
    alone = [] if len(chain) == 1 else chain if found else missed
    return bool(found) + sum(_crash_at_each(lane, origin, undisturbed, [point], given) for point in alone)


def _crash(place: Any, chain: Sequence[Any], defect: str) -> tuple[list[str], list[Any]]:
    """Kill a worker at each of these in turn, and go on; return what was done, for people, and what was not come to."""
    note, told, missed = place.folder / "note", [], []
    #: What has been sent by those that were killed: each counts its own.
    sent: Counter[str] = Counter()
    for point in chain:
        own = point._replace(number=point.number - sent[point.write])
        if own.number > 0:
            _forked(place.folder, _work, place, own, defect)
        if own.number > 0 and note.exists():
            death = json.loads(note.read_text())
            note.unlink()
            told.append(death["told"])
            sent.update(death["sent"])
        else:
            missed.append(point)
    _forked(place.folder, _work, place, None, defect)
    return told or [f"no crash at {chain}"], missed


def _fresh(origin: Any, folder: Path, kind: str, lane: int = 0) -> Any:
    """Return a place whose runs have just been started."""
    from .places import Place

    if origin.is_file:
        return origin.copy(folder)
    folder.mkdir()
    place = Place(folder, lane)
    _done(_forked(folder, place.make, kind))
    return place


def _work(place: Any, point: Any, defect: str) -> None:
    """Work until all has ended, or die at this point; leave a report."""
    from django.db import connections

    from .broken import DEFECTS
    from .driving import Driven
    from .reports import calls, report
    from .writes import Writes

    place.use()
    (place.folder / "report").unlink(missing_ok=True)
    befores = place.folder / "before"
    before = [*(_read(befores) if befores.exists() else []), calls()]
    befores.write_bytes(pickle.dumps(before))
    connections.close_all()
    writes = Writes(point, place.folder / "note")
    writes.install()
    del connections["default"]
    if defect:
        DEFECTS[defect]()
    worker = Driven(place.folder / "moved")
    code = worker.run()
    complaint = "nothing happens any more" if worker.is_stuck else f"the worker left with {code}" if code else ""
    if writes.missed:
        complaint += f"these writes pass elsewhere: {writes.missed}"
    told = replace(report(), before=before[1:], writes=writes.order, complaint=complaint)
    (place.folder / "report").write_bytes(pickle.dumps(told))


# -- processes -------------------------------------------------------------------------------------


def _fork(folder: Path, function: Callable[..., object], *arguments: object) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function(*arguments)
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:  # noqa: BLE001 - the process ends here, whatever it is
        (folder / "traceback").write_text(traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(code)


def _forked(folder: Path, function: Callable[..., object], *arguments: object) -> int:
    """Call it in a process of its own, which says what it says to a file; return how that has ended."""

    def called() -> None:
        signal.alarm(_PATIENCE)
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(said, 1)
        os.dup2(said, 2)
        faulthandler.dump_traceback_later(_PATIENCE - 10, file=2)
        function(*arguments)

    return _ended(_fork(folder, called))


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _done(code: int) -> None:
    if code:
        sys.exit(f"a process that prepares has left with {code}")


def _read(file: Path) -> Any:
    return pickle.loads(file.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
