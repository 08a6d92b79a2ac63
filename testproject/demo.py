"""`make demo`: a day in the shop. One worker is killed in the middle of a charge, the next one in the middle of an
undo, and what became of it all is counted.

On a SQLite file of its own in .demo/, which stays there to be looked at. Exit status 1 unless everything came out
right. `--serve` (make demo SERVE=1) then starts the shop and its admin, until Ctrl-C.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from django.test import Client

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".demo"
DATABASE = FOLDER / "demo.sqlite3"
MAILS = FOLDER / "mails"
PASSWORD = secrets.token_urlsafe(9)
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "testproject.settings",
    "DATABASE_URL": f"sqlite:///{DATABASE}",
    "EMAIL_URL": f"filemail:///{MAILS}",
    "SECRET_KEY": secrets.token_urlsafe(),
    "SHOP_PAYMENT_SECONDS": "2",
    "SHOP_TRIAL_SECONDS": "4",
    "SHOP_APPROVAL_SECONDS": "12",
    "DEBUG": "0",
    "PYTHONUNBUFFERED": "1",
}
LIMIT = 30.0  # seconds that nothing here may take

T = TypeVar("T")


class StuckError(Exception):
    """Something that should have happened did not."""


class Stage:
    """The processes, and what is told while they work, in seconds since the beginning."""

    def __init__(self) -> None:
        self.began = time.time()
        self._processes: list[tuple[subprocess.Popen[bytes], Path]] = []

    def tell(self, line: str) -> None:
        print(f"  {time.time() - self.began:5.1f} s  {line}", flush=True)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start `manage.py command`; what it says goes to .demo/<name>.log. Ctrl-C is the demo's matter, not its."""
        log = FOLDER / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "manage.py"), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append((process, log))
        return process

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start a real worker process, and wait for its banner."""
        worker = self.start(name, "runflowworker", "--no-reload", "--name", name)

        def banner() -> bool:
            return "canx_flow " in (FOLDER / f"{name}.log").read_text()

        self.until(banner, "the worker's banner")
        self.tell(f"{name} works, pid {worker.pid}")
        return worker

    def until(self, fact: Callable[[], T], what: str) -> T:
        """Wait for the first true answer of `fact`, which the process started last is to bring about, and return it."""
        process, log = self._processes[-1]
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            if answer := fact():
                return answer
            if process.poll() is not None:
                break
            time.sleep(0.02)
        last = (log.read_text().splitlines() or [""])[-1]
        raise StuckError(f"{what} did not come; {FOLDER.name}/{log.name} ends with: {last}")

    def end(self) -> None:
        """Leave no process behind."""
        running = [process for process, _log in self._processes if process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def prepare() -> None:
    """Make an empty folder, settings for this process and those it starts, a migrated database and a manager."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    MAILS.mkdir(parents=True)
    os.environ.update(ENVIRONMENT)

    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)

    from django.contrib.auth import get_user_model

    get_user_model()._default_manager.create_superuser("admin", "manager@example.com", PASSWORD)


def visitor(*, manager: bool = False) -> Client:
    """Somebody who uses the shop's pages."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    client = Client(SERVER_NAME="localhost")
    if manager:
        client.force_login(get_user_model()._default_manager.get(username="admin"))
    return client


def order(customer: str, **quantities: int) -> None:
    visitor().post("/orders/", {"customer": customer, "email": f"{customer}@example.com", **quantities})


def subscribe(user: str) -> None:
    visitor().post("/subscriptions/", {"subscription-user": user, "subscription-email": f"{user}@example.com"})


def travel(customer: str, destination: str) -> None:
    visitor().post("/trips/", {"trip-customer": customer, "trip-destination": destination})


def decide(customer: str, answer: str) -> None:
    from shop.models import Order

    page = f"/orders/{Order.objects.get(customer=customer).pk}/approval/"
    visitor(manager=True).post(page, {"answer": answer})


def play(stage: Stage) -> list[float]:
    """Play every scene; return the moments of the two kills."""
    from shop.models import Order, Trip

    worker = stage.start_worker("worker-1")
    open_the_shop(stage)
    kills = [kill_in_a_charge(stage, worker)]
    decide("alan", "approved")
    decide("joan", "rejected")
    travel("donald", "Venice")
    stage.tell("nobody works; the manager approves alan's order, rejects joan's; donald books a trip to Venice")

    worker = stage.start_worker("worker-2")
    kills.append(kill_in_an_undo(stage, worker))

    stage.start_worker("worker-3")
    stage.until(lambda: Trip.objects.get().status == "cancelled", "the end of donald's trip")
    stage.tell("donald's hotel is cancelled, then his flight: no trip, and nothing paid")
    stage.until(lambda: not Order.objects.filter(status__in=["placed", "confirmed"]), "the end of edsger's order")
    stage.tell("the manager's time was up: edsger's order counted as approved, and is shipped")
    stage.until(lambda: not unfinished(), "the subscriptions' end")
    stage.tell("both trials are over; both subscriptions are renewed")
    return kills


def open_the_shop(stage: Stage) -> None:
    """Let the first customers come, and wait until all that can be done for them is done."""
    from shop.models import Order, Subscription

    def all_under_way() -> bool:
        trials, shipped = Subscription.objects.filter(status="trial"), Order.objects.filter(status="shipped")
        return unfinished().count("waiting") == 3 and trials.exists() and shipped.exists()

    subscribe("ada")
    order("grace", tea=2, teapot=1)
    stage.tell("ada subscribes; grace orders tea and a teapot")
    for customer in ("alan", "joan", "edsger"):
        order(customer, cabinet=1)
    stage.tell("alan, joan and edsger order a cabinet each, which needs approval")
    stage.until(all_under_way, "the end of grace's order")
    stage.tell("grace's two parcels are shipped; ada's trial runs; the manager has mail")


def kill_in_a_charge(stage: Stage, worker: subprocess.Popen[bytes]) -> float:
    """Kill the worker while it waits for the payment provider's answer."""
    subscribe("barbara")
    stage.tell("barbara subscribes")
    stage.until(lambda: half_done("barbara", "trial"), "barbara's charge")
    return kill(stage, worker, "in the middle of barbara's charge")


def kill_in_an_undo(stage: Stage, worker: subprocess.Popen[bytes]) -> float:
    """Kill the worker while it cancels the first of the two bookings that are to be undone."""
    stage.until(lambda: half_done("donald", "refund: hotel in Venice"), "the cancelling of donald's hotel")
    stage.tell("alan's order is shipped, joan's is rejected; donald has a flight and a hotel, but no car")
    return kill(stage, worker, "in the middle of cancelling donald's hotel")


def half_done(customer: str, purpose: str) -> bool:
    """Tell whether the provider was asked for this half a second ago; it takes two seconds to answer."""
    from shop.models import Payment

    asked = Payment.objects.filter(customer=customer, purpose=purpose).values_list("created_at", flat=True).first()
    return asked is not None and time.time() > asked.timestamp() + 0.5


def kill(stage: Stage, worker: subprocess.Popen[bytes], where: str) -> float:
    """Kill it so that it can tidy nothing up; return when."""
    worker.kill()
    worker.wait()
    killed = time.time()
    stage.tell(f"kill -9 {worker.pid}: the worker dies {where}")
    return killed


def unfinished() -> list[str]:
    """Return the state of each run that has not ended."""
    from canx_flow.models import WorkflowRun
    from canx_flow.states import UNFINISHED

    return list(WorkflowRun.objects.states(*UNFINISHED).values_list("state", flat=True))


def show() -> None:
    """Show the trip's run, with the command that shows any run in a terminal."""
    from django.core.management import call_command

    from canx_flow.models import WorkflowRun

    run = WorkflowRun.objects.get(workflow="trip-booking")
    print("\n  donald's run, by `manage.py flow show`:\n", flush=True)
    call_command("flow", "show", str(run.id))


def serve(stage: Stage) -> None:
    """Serve the shop beside a worker on the demo's database, with something to decide, until Ctrl-C."""
    port = _free_port()
    os.environ.update(SHOP_URL=f"http://127.0.0.1:{port}", SHOP_TRIAL_SECONDS="60", SHOP_APPROVAL_SECONDS="86400")
    stage.end()
    stage.start_worker("worker-3")
    # Without DEBUG, but with its static files.
    server = stage.start("server", "runserver", "--noreload", "--insecure", str(port))
    stage.until(lambda: _answers(port), "the server")
    order("katherine", cabinet=1)
    subscribe("margaret")
    travel("frances", "Venice")
    print(
        f"\n  The shop    http://127.0.0.1:{port}/"
        f"\n  The admin   http://127.0.0.1:{port}/admin/   user admin, password {PASSWORD}"
        "\n\n  katherine's order waits for approval; margaret's trial takes a minute;"
        "\n  frances would like a car in Venice."
        f"\n  Mails are in {FOLDER.name}/mails. Ctrl-C ends it all.",
        flush=True,
    )
    with suppress(KeyboardInterrupt):
        server.wait()


def _free_port() -> int:
    """Return 8000, or any other port that is free."""
    if _answers(8000):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port: int = taken.getsockname()[1]
            return port
    return 8000


def _answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def perform(stage: Stage, serving: bool) -> int:
    """Perform the whole demo and return its exit status."""
    import report

    kills = play(stage)
    verdict, good = report.verdict(MAILS, kills)
    print(report.chart(kills), report.mails(MAILS), report.books(), verdict, sep="\n", flush=True)
    show()
    if serving:
        serve(stage)
    else:
        print(f"  The database, the logs and the mails are in {FOLDER.name}/. To look at its runs:")
        url = f"sqlite:///$PWD/{FOLDER.name}/{DATABASE.name}"
        print(f"    DATABASE_URL={url} .venv/bin/python testproject/manage.py flow list")
        print("  make demo SERVE=1 ends with the shop and its admin in your browser.", flush=True)
    return 0 if good else 1


def main() -> int:
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:
            signal.signal(ending, signal.default_int_handler)
    print("\ncanx_flow: a day in the tea shop, and two kill -9\n\n  Preparing a database …", flush=True)
    stage = Stage()
    try:
        prepare()
        return perform(stage, serving="--serve" in sys.argv)
    except StuckError as stuck:
        print(f"\n✗ {stuck}", flush=True)
        return 1
    except KeyboardInterrupt:
        print("\n✗ ended before its end", flush=True)
        return 1
    finally:
        stage.end()


if __name__ == "__main__":
    sys.exit(main())
