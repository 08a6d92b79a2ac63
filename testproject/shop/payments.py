"""A payment provider, pretended: slow, and told an idempotency key, so that a repeated call charges once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal

from django.conf import settings
from django.db.models import F

from canx_flow import GiveUp, current_step

from .models import Payment

#: No card is good for more.
LIMIT = Decimal(5000)


class CardDeclinedError(GiveUp):
    """The bank says no, and will say so again: no other attempt is made."""


@dataclass(frozen=True)
class Receipt:
    """What was charged, and so what is given back should it be undone."""

    customer: str
    purpose: str
    amount: Decimal


def authorise(customer: str, amount: Decimal) -> None:
    """Ask whether the card is good for `amount`. Nothing is booked, so nothing has to be undone."""
    time.sleep(settings.SHOP_PAYMENT_SECONDS)
    if amount > LIMIT:
        raise CardDeclinedError(f"the card of {customer} is not good for {amount} €")


def charge(customer: str, purpose: str, amount: Decimal) -> Receipt:
    """Charge `amount`. A step: its idempotency key is the same however often it is tried."""
    _enter(customer, purpose, amount)
    return Receipt(customer, purpose, amount)


def refund(receipt: Receipt) -> None:
    """Give back what was charged. The undo of `charge`, a step too: it has a key of its own."""
    _enter(receipt.customer, f"refund: {receipt.purpose}", -receipt.amount)


def _enter(customer: str, purpose: str, amount: Decimal) -> None:
    """Do what happens at the other end of the line: one entry for each key."""
    entry = {"customer": customer, "purpose": purpose, "amount": amount}
    payment, _new = Payment.objects.get_or_create(key=current_step().idempotency_key, defaults=entry)
    Payment.objects.filter(pk=payment.pk).update(requests=F("requests") + 1)
    time.sleep(settings.SHOP_PAYMENT_SECONDS)
