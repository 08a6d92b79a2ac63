"""What became of the demo's runs: their steps drawn to one scale, the mails, and a verdict.

The verdict asks those outside: what the customers were told and charged, not what the runs believe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from email import message_from_bytes
from pathlib import Path

from canx_flow.models import WorkflowRun
from shop.models import Order, Payment, Subscription

WIDTH = 52  # characters for the whole demo
#: What Django's file backend writes after each.
_END_OF_A_MAIL = b"-" * 79 + b"\n"
MARKS = {"sleep": "·", "wait": "░", "step": "█"}
#: How each order must end, by its customer.
ORDERS = {"grace": "confirmed", "alan": "confirmed", "joan": "rejected", "edsger": "confirmed"}
#: Whose subscriptions must be renewed, once each.
SUBSCRIBERS = {"ada", "barbara"}
#: Who must be asked, or told, how often.
RECIPIENTS = Counter({"manager@example.com": 3} | {f"{customer}@example.com": 1 for customer in ORDERS})


def chart(killed: float) -> str:
    """Draw a line for each run: when its steps ran, when it slept or waited, and what the kill cut off."""
    runs = list(WorkflowRun.objects.order_by("id"))
    began, end = _seconds(runs[0].created_at), max(_seconds(run.finished_at) for run in runs)

    def column(moment: float) -> int:
        return min(int((moment - began) / (end - began) * WIDTH), WIDTH - 1)

    lines = [f"\n  {'':24}{'':{column(killed)}}↓ kill -9"]
    for run in runs:
        cells = [" "] * WIDTH
        for mark, first, last in _stretches(run, killed):
            for place in range(column(first), column(last) + 1):
                cells[place] = mark
        lines.append(f"  {_name(run):24}{''.join(cells)}")
    lines.append("\n  █ a step   · asleep   ░ waiting for the manager   ▒ cut off by the kill")
    return "\n".join(lines)


def mails(folder: Path) -> str:
    """Return each mail that was sent."""
    return "\n".join(["\n  Mails", *(f"    {to:24}{subject}" for to, subject in _sent(folder))])


def verdict(folder: Path, killed: float) -> tuple[str, bool]:
    """Return the facts, each marked as it should be or not, and whether all are."""
    runs = list(WorkflowRun.objects.values_list("state", flat=True))
    payments = list(Payment.objects.order_by("pk"))
    requests = sum(payment.requests for payment in payments)
    again = [payment for payment in payments if payment.requests > 1]
    interrupted = " and ".join(payment.customer for payment in again) or "nobody"
    facts = [
        (f"{runs.count('completed')} of {len(runs)} runs completed", set(runs) == {"completed"}),
        ("each order ended as it was decided", dict(Order.objects.values_list("customer", "status")) == ORDERS),
        ("each subscription was renewed once", dict.fromkeys(SUBSCRIBERS, 1) == _renewals()),
        ("nobody got a mail twice, everybody got theirs", Counter(to for to, _ in _sent(folder)) == RECIPIENTS),
        (
            f"{len(payments)} charges for {requests} requests: {interrupted} was asked for twice and charged once",
            Counter(payment.customer for payment in payments) == dict.fromkeys(SUBSCRIBERS, 2)
            and [payment.requests for payment in again] == [2]
            and again[0].created_at.timestamp() < killed,
        ),
    ]
    lines = ["", "  Verdict", *(f"    {'✓' if good else '✗'} {fact}" for fact, good in facts)]
    return "\n".join(lines), all(good for _, good in facts)


def _name(run: WorkflowRun) -> str:
    subject = run.subject
    return f"{subject}, {subject.user if isinstance(subject, Subscription) else subject.customer}"


def _stretches(run: WorkflowRun, killed: float) -> Iterator[tuple[str, float, float]]:
    """Yield what the run did, each as a mark with its beginning and end."""
    for record in run.records.exclude(kind="now").order_by("seq"):
        yield MARKS[record.kind], _seconds(record.started_at), _seconds(record.finished_at)
    if isinstance(run.subject, Subscription):
        for payment in Payment.objects.filter(customer=run.subject.user, requests__gt=1):
            yield "▒", _seconds(payment.created_at), killed


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
