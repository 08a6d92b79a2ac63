"""`make demo`: a worker is killed in the middle of a step, another goes on, and what happened is shown.

On a SQLite file of its own in .demo/, which stays there to be looked at. Exit status 1 unless every step ran once,
except the one that was interrupted, which ran twice.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".demo"
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "testproject.settings",
    "DATABASE_URL": f"sqlite:///{FOLDER / 'demo.sqlite3'}",
    "SHOP_LEDGER": str(FOLDER / "ledger"),
    "SHOP_TRIAL_SECONDS": "6",
    "SHOP_PAYMENT_SECONDS": "1",
    "DEBUG": "0",
    "PYTHONUNBUFFERED": "1",
}
LIMIT = 30.0  # seconds that nothing here may take

T = TypeVar("T")
Runs = dict[UUID, str]


class StuckError(Exception):
    """Something that should have happened did not."""


class Story:
    """What is told while it happens, in seconds since the beginning."""

    def __init__(self) -> None:
        self.began = time.time()
        self.workers: list[subprocess.Popen[bytes]] = []

    def tell(self, line: str) -> None:
        print(f"  {time.time() - self.began:5.1f} s  {line}", flush=True)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a real worker process, and wait for its banner."""
        log = FOLDER / f"worker-{len(self.workers) + 1}.log"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, str(HERE / "manage.py"), "runflowworker", "--no-reload"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(worker)

        def banner() -> str:
            return next((line for line in log.read_text().splitlines() if line.startswith("canx_flow ")), "")

        self.tell(self.until(banner, "the worker's banner"))
        return worker

    def until(self, fact: Callable[[], T], what: str) -> T:
        """The first true answer of `fact`, which the worker started last is to bring about."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if answer := fact():
                return answer
            if self.workers[-1].poll() is not None:
                raise StuckError(f"the worker left before {what}; {self.last_words()}")
            time.sleep(0.02)
        raise StuckError(f"{what} did not come within {LIMIT:g} s; {self.last_words()}")

    def last_words(self) -> str:
        """Where the last worker's log is, and its last line."""
        log = FOLDER / f"worker-{len(self.workers)}.log"
        lines = log.read_text().splitlines() or [""]
        return f"{FOLDER.name}/{log.name} ends with: {lines[-1]}"

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def end(self) -> None:
        """Leave no process behind."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers:
            try:
                worker.wait(LIMIT)
            except subprocess.TimeoutExpired:
                worker.kill()


def prepare() -> None:
    """An empty folder, settings for this process and its workers, and a migrated database."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    os.environ.update(ENVIRONMENT)

    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def play(story: Story) -> tuple[Runs, float]:
    """Everything that happens: the runs with their names, and the moment of the kill."""
    from django.conf import settings

    from canx_flow import get_run
    from shop import ledger
    from shop.workflows import order_processing, subscription

    def states(*runs: UUID) -> set[str]:
        return {get_run(run).state for run in runs}

    def half_paid() -> bool:
        payment = (str(second), "take-payment")
        began = [line.at for line in ledger.read() if (line.run, line.step) == payment]
        return bool(began) and time.time() > began[0] + settings.SHOP_PAYMENT_SECONDS / 2

    first_worker = story.start_worker()
    ada, grace = subscription.start("ada"), subscription.start("grace")
    first = order_processing.start("1001")
    runs = {ada: "subscription of ada", grace: "subscription of grace", first: "order 1001"}
    for run, name in runs.items():
        story.tell(f"started {name}, run {run}")
    story.until(lambda: states(ada, grace) == {"sleeping"} and states(first) == {"completed"}, "the first order's end")
    story.tell("order 1001 is completed; both subscriptions sleep through their trial")

    second = order_processing.start("1002")
    runs[second] = "order 1002"
    story.tell(f"started order 1002, run {second}")
    story.until(half_paid, "the second order's payment")
    story.kill(first_worker)
    killed = time.time()
    story.tell(f"kill -9 {first_worker.pid}, in the middle of order 1002's take-payment")

    story.start_worker()
    story.until(lambda: states(second) == {"completed"}, "the second order's end")
    story.tell("order 1002 is completed")
    story.until(lambda: states(*runs) == {"completed"}, "the subscriptions' end")
    story.tell("both subscriptions are renewed")
    return runs, killed


def main() -> int:
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    print("\ncanx_flow: two workflows, one kill -9\n", flush=True)
    prepare()
    story = Story()
    try:
        runs, killed = play(story)
    except StuckError as stuck:
        print(f"\n✗ {stuck}", flush=True)
        return 1
    finally:
        story.end()

    import report

    print(report.timelines(runs, story.began, killed))
    verdict, good = report.verdict(runs, killed)
    print(verdict)
    print(f"\nThe database and the worker's logs are in {FOLDER.name}/ to look at.", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
