"""A payment provider, pretended: slow, and told an idempotency key so that a repeated call charges once."""

from __future__ import annotations

import time

from django.conf import settings

from . import ledger


def charge(customer: str, cents: int) -> str:
    """Charge `cents` and return the receipt's number."""
    with ledger.entry():
        time.sleep(settings.SHOP_PAYMENT_SECONDS)
        return f"receipt-{customer}-{cents}"
