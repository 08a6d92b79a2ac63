"""A prepared process, from which every crash is forked: Django is set up, the runs are stored, nothing is connected.

    python -m tests.crashing --folder F [--kind async] [--points 50] [--seed 3] [--jobs 2] [--defect torn] …

At each point (right before, or right after, a write of the engine) a forked worker is killed; the next one goes on
until all has ended, and every second time it is killed as well, at a write that `--seed` chooses. Then everything must
be as it is without a crash. Every fault is printed with its point; the exit status tells whether there was one.
Called by tests/faults/test_crashes.py, with the test database.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import pickle
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import django

_BEAT = 'SET "beat"'
_PATIENCE = 50  # seconds for one process


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
    jobs = given.jobs if origin.is_file else 1
    # Mixed, so that each lane has some of what takes long.
    random.Random(given.seed).shuffle(points)
    lanes = [_fork(folder, _lane, origin, undisturbed, points[n::jobs], given) for n in range(jobs)]
    found = [_ended(lane) for lane in lanes]
    print(f"{len(points)} crashes, at {undisturbed.writes.total()} writes, {given.kind}")
    return max(found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.crashing")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--kind", default="sync", choices=["sync", "async"])
    parser.add_argument("--points", type=int, default=0, help="so many, evenly spread; 0: all")
    parser.add_argument("--at", default="", help="only at writes of which this is a part")
    parser.add_argument("--seed", type=int, default=17, help="chooses the second crashes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time; on SQLite only")
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
    numbers = {write: 1 if _BEAT in write else number for write, number in report.writes.items()}
    return [
        Point(when, write, number + 1)
        for write, most in numbers.items()
        for number in range(most)
        for when in (BEFORE, AFTER)
    ]


def _sample(points: list[Any], most: int) -> list[Any]:
    if not most or most >= len(points):
        return points
    return [points[n * len(points) // most] for n in range(most)]


# -- one crash after another, in a process of its own ---------------------------------------------


def _lane(origin: Any, undisturbed: Any, points: Sequence[Any], given: argparse.Namespace) -> None:
    """Crash at each of these points; tell of every fault."""
    from .judging import faults

    wrong = 0
    for number, point in enumerate(points):
        place = _fresh(origin, origin.folder.parent / f"crash-{os.getpid()}-{number}", given.kind)
        told = _crash(place, point, undisturbed, given)
        report = _read(place.folder / "report") if (place.folder / "report").exists() else None
        found = ["the last worker came to no end"] if report is None else faults(undisturbed, report)
        if found:
            wrong += 1
            print("\n  ".join([told, *found]), flush=True)
        if not found:
            shutil.rmtree(place.folder)
    if wrong:
        raise SystemExit(1)


def _crash(place: Any, point: Any, undisturbed: Any, given: argparse.Namespace) -> str:
    """Kill a worker there, and go on; return what was done, for people."""
    monkey = random.Random(f"{given.seed} {point}")
    note, told = place.folder / "note", []
    fatal = point
    for _ in range(monkey.randint(1, 2)):
        _forked(place.folder, _work, place, fatal, given.defect)
        if not note.exists():
            return ", then ".join(told) or f"no crash at {point}"
        told.append(note.read_text())
        note.unlink()
        fatal = monkey.choice(_points(undisturbed))
    _forked(place.folder, _work, place, None, given.defect)
    return ", then ".join(told)


def _fresh(origin: Any, folder: Path, kind: str) -> Any:
    """Return a place whose runs have just been started."""
    from .places import Place

    if origin.is_file:
        return origin.copy(folder)
    folder.mkdir()
    place = Place(folder)
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
    before = calls()
    connections.close_all()
    writes = Writes(point, place.folder / "note")
    writes.install()
    del connections["default"]
    if defect:
        DEFECTS[defect]()
    worker = Driven()
    code = worker.run()
    complaint = "nothing happens any more" if worker.is_stuck else f"the worker left with {code}" if code else ""
    if writes.missed:
        complaint += f"these writes pass elsewhere: {writes.missed}"
    told = replace(report(), before=before, writes=writes.sent, complaint=complaint)
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
