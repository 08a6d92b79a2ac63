"""A stored order starts its run: whoever stores it, the shop's page or a shell. Connected by `apps`."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from .models import Order
from .workflows import order_processing


@receiver(post_save, sender=Order)
def process_order(instance: Order, created: bool, raw: bool, **_kwargs: Any) -> None:
    """Start one run for each order, in the transaction that stores it: rolled back, neither was ever there."""
    if created and not raw:  # raw: loaded from a fixture
        order_processing.using(key=f"order-{instance.pk}", subject=instance).start(instance.pk)
