"""What the demo tells of the mails that were sent, and of what is in the payment provider's books."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend

import report
from shop.models import Payment

pytestmark = pytest.mark.once


def test_mails_that_share_a_file_are_told_one_by_one(tmp_path: Path) -> None:
    """Django names a file by the second and an object's address, which two mails of one second may have."""
    backend = EmailBackend(file_path=str(tmp_path))
    for number in (2, 4):
        backend.send_messages([EmailMessage(f"Order {number}", "Yes?", to=["manager@example.com"])])
        backend.close()
    assert len(list(tmp_path.iterdir())) == 1
    told = [line.split() for line in report.mails(tmp_path).splitlines()]
    assert told[-2:] == [["manager@example.com", "Order", "2"], ["manager@example.com", "Order", "4"]]


ENTRIES = [
    ("ada", "trial"), ("ada", "year"), ("barbara", "trial"), ("barbara", "year"), ("grace", "order 1"),
    ("alan", "order 2"), ("edsger", "order 4"), *(("donald", purpose) for purpose in report.TRIP),
]  # fmt: skip


@pytest.fixture
def entered(db: None) -> None:
    """The books as they are when all went well: two entries were asked for twice."""
    for number, (customer, purpose) in enumerate(ENTRIES):
        requests = 1 + ((customer, purpose) in report.CUT_OFF)
        Payment.objects.create(key=number, customer=customer, purpose=purpose, amount=1, requests=requests)


def twice(customer: str) -> None:
    """The last entry of this customer stands there twice."""
    entry = Payment.objects.filter(customer=customer).latest("pk")
    Payment.objects.create(key="more", customer=customer, purpose=entry.purpose, amount=1, requests=1)


@pytest.mark.parametrize(
    ("spoil", "good"),
    [
        (lambda: None, True),
        (lambda: twice("donald"), False),
        (lambda: twice("grace"), False),
        (lambda: Payment.objects.filter(customer="alan").delete(), False),
        (lambda: Payment.objects.filter(purpose="refund: hotel in Venice").update(requests=1), False),
        (lambda: Payment.objects.filter(customer="grace").update(requests=3), False),
    ],
    ids=["right", "undone twice", "charged twice", "not charged", "not asked again", "asked too often"],
)
def test_the_verdict_sees_what_is_wrong_in_the_books(entered: None, spoil: Callable[[], object], good: bool) -> None:
    """Each charge and each undo is there once, and only what a kill cut off was asked for twice."""
    spoil()
    told, is_good = report._charges([time.time() + 1])
    assert is_good is good
    assert told.startswith(f"{Payment.objects.count()} entries for ")


@pytest.mark.parametrize(("columns", "drawn"), [([3], 3), ([0, 20], 20), ([5, 9], 9)])
def test_the_kills_stand_above_their_columns(columns: list[int], drawn: int) -> None:
    """However near to each other: the arrow of the last one is where it belongs."""
    line = report._above(columns)
    assert line.rindex("↓") == drawn
    assert line.endswith("↓ kill -9")
