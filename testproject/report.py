"""What became of the demo's runs: their steps drawn to one scale, the mails, the books, and a verdict.

The verdict asks those outside: what the customers were told, sent and charged, not what the runs believe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from email import message_from_bytes
from pathlib import Path

from canx_flow.insight import timeline
from canx_flow.models import WorkflowRun
from shop.models import Order, Parcel, Payment, Subscription

WIDTH = 52  # characters for the whole demo
#: What Django's file backend writes after each.
_END_OF_A_MAIL = b"-" * 79 + b"\n"
MARKS = {"sleep": "·", "wait": "░", "step": "█", "undo": "◂"}
#: How each order must end, by its customer.
ORDERS = {"grace": "shipped", "alan": "shipped", "joan": "rejected", "edsger": "shipped"}
#: What must have left the house, once each.
PARCELS = Counter({"2 x Green tea": 1, "1 x Teapot": 1, "1 x Tea cabinet": 2})
#: Whose subscriptions must be renewed, once each.
SUBSCRIBERS = {"ada", "barbara"}
#: What must be undone of donald's trip, in this order.
TRIP = ["flight to Venice", "hotel in Venice", "refund: hotel in Venice", "refund: flight to Venice"]
#: How often each customer must be in the provider's books, whatever was asked for twice.
ENTRIES = Counter({"ada": 2, "barbara": 2, "grace": 1, "alan": 1, "edsger": 1, "donald": len(TRIP)})
#: What the kills have cut off, and so was asked for twice.
CUT_OFF = {("barbara", "trial"), ("donald", "refund: hotel in Venice")}
#: Who must be asked, or told, how often.
RECIPIENTS = Counter({"manager@example.com": 3} | {f"{customer}@example.com": 1 for customer in ORDERS})


def chart(kills: list[float]) -> str:
    """Draw a line for each run: when its steps ran, when it slept or waited, and what a kill cut off."""
    runs = sorted(WorkflowRun.objects.all(), key=lambda run: (run.parent_id or run.id, run.id))
    began, end = _seconds(runs[0].created_at), max(_seconds(run.finished_at) for run in runs)

    def column(moment: float) -> int:
        return min(int((moment - began) / (end - began) * WIDTH), WIDTH - 1)

    lines = ["", f"  {'':24}{_above([column(moment) for moment in kills])}"]
    for run in runs:
        cells = [" "] * WIDTH
        for mark, first, last in _stretches(run, kills):
            for place in range(column(first), column(last) + 1):
                cells[place] = mark
        lines.append(f"  {_name(run):24}{''.join(cells)}")
    lines.append("\n  █ a step   · asleep   ░ waiting for the manager   ◂ an undo   ▒ cut off by a kill")
    return "\n".join(lines)


def mails(folder: Path) -> str:
    """Return each mail that was sent."""
    return "\n".join(["\n  Mails", *(f"    {to:24}{subject}" for to, subject in _sent(folder))])


def books() -> str:
    """Return each entry in the payment provider's books, and how often it was asked for where that was not once."""
    lines = ["\n  The payment provider's books"]
    for entry in Payment.objects.order_by("pk"):
        asked = "" if entry.requests == 1 else f"   asked for {entry.requests} times, entered once"
        lines.append(f"    {entry.customer:10}{entry.purpose:26}{entry.amount:>9} €{asked}")
    return "\n".join(lines)


def verdict(folder: Path, kills: list[float]) -> tuple[str, bool]:
    """Return the facts, each marked as it should be or not, and whether all are."""
    runs = list(WorkflowRun.objects.values_list("workflow", "state"))
    ended = Counter(state for _workflow, state in runs)
    facts = [
        (
            f"{ended['completed']} of {len(runs)} runs completed; donald's trip failed, as no car was to be had",
            ended == {"completed": len(runs) - 1, "failed": 1} and ("trip-booking", "failed") in runs,
        ),
        ("each order ended as it was decided", dict(Order.objects.values_list("customer", "status")) == ORDERS),
        ("each parcel was packed once, and sent", _parcels() == PARCELS),
        ("each subscription was renewed once", dict.fromkeys(SUBSCRIBERS, 1) == _renewals()),
        ("nobody got a mail twice, everybody got theirs", Counter(to for to, _ in _sent(folder)) == RECIPIENTS),
        ("donald's hotel and flight were cancelled once each, the hotel first", _entries("donald") == TRIP),
        _charges(kills),
    ]
    lines = ["", "  Verdict", *(f"    {'✓' if good else '✗'} {fact}" for fact, good in facts)]
    return "\n".join(lines), all(good for _, good in facts)


def _charges(kills: list[float]) -> tuple[str, bool]:
    """Return what the provider's books say of the two calls that a kill has cut off, and of all others."""
    entries = list(Payment.objects.order_by("pk"))
    again = [entry for entry in entries if entry.requests > 1]
    good = (
        Counter(entry.customer for entry in entries) == ENTRIES
        and {(entry.customer, entry.purpose) for entry in again} >= CUT_OFF
        and all(entry.requests == 2 and _seconds(entry.created_at) < max(kills) for entry in again)
    )
    requests = sum(entry.requests for entry in entries)
    return (
        f"{len(entries)} entries for {requests} requests: what the kills cut off was asked for again, entered once",
        good,
    )


def _parcels() -> Counter[str]:
    """Return how often each was packed; what was not sent is told apart."""
    return Counter(parcel.content if parcel.sent else f"{parcel.content}, not sent" for parcel in Parcel.objects.all())


def _entries(customer: str) -> list[str]:
    return list(Payment.objects.filter(customer=customer).order_by("pk").values_list("purpose", flat=True))


def _name(run: WorkflowRun) -> str:
    return f"{run.subject}, {_customer(run)}" if run.subject else f"  {run.workflow}"


def _customer(run: WorkflowRun) -> str:
    subject = run.subject
    return str(subject.user if isinstance(subject, Subscription) else subject.customer) if subject else ""


def _above(columns: list[int]) -> str:
    """Write `kill -9` above each of these columns."""
    line = ""
    for column in columns:
        line = f"{line:{column}}"[:column] + "↓ kill -9"
    return line


def _stretches(run: WorkflowRun, kills: list[float]) -> Iterator[tuple[str, float, float]]:
    """Yield what the run did, each as a mark with its beginning and end."""
    for row in timeline.load(run.id).rows:
        if row.kind in MARKS and row.ended is not None:
            yield MARKS[row.kind], _seconds(row.began), _seconds(row.ended)
    for entry in Payment.objects.filter(customer=_customer(run), requests__gt=1):
        began = _seconds(entry.created_at)
        yield "▒", began, min(killed for killed in kills if killed > began)


def _sent(folder: Path) -> Iterable[tuple[str, str]]:
    """Return to whom each was sent, and what about, in order."""
    for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns):
        # Django names a file by the second and by an object's address, so that mails of one second may share one.
        for text in file.read_bytes().split(_END_OF_A_MAIL)[:-1]:
            mail = message_from_bytes(text)
            yield mail["To"], mail["Subject"]


def _renewals() -> dict[str, int]:
    return dict(Subscription.objects.values_list("user", "renewals"))


def _seconds(moment: datetime | None) -> float:
    assert moment is not None
    return moment.timestamp()
