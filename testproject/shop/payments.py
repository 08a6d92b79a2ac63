"""A payment provider, pretended: slow, and told an idempotency key, so that a repeated call charges once."""

from __future__ import annotations

import time
from decimal import Decimal

from django.conf import settings
from django.db.models import F

from canx_flow import current_step

from .models import Payment


def charge(customer: str, amount: Decimal) -> str:
    """Charge `amount` and return the receipt's number. A step: its key is the same however often it is tried."""
    return _ask_provider(current_step().idempotency_key, customer, amount)


def _ask_provider(key: str, customer: str, amount: Decimal) -> str:
    """Do what happens at the other end of the line."""
    payment, _new = Payment.objects.get_or_create(key=key, defaults={"customer": customer, "amount": amount})
    Payment.objects.filter(pk=payment.pk).update(requests=F("requests") + 1)
    time.sleep(settings.SHOP_PAYMENT_SECONDS)
    return f"receipt {payment.pk}"
