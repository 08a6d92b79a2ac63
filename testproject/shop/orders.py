"""What happens to an order: placed by the view; fetched and settled by steps of the workflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.db.models import Sum

from .models import Order, OrderLine
from .products import Product

#: From this total on, the manager is asked.
APPROVAL_FROM = Decimal(500)


@dataclass(frozen=True)
class OrderDetails:
    """An order as its run saw it: stored as the result of `fetch-order`, and the same at every replay."""

    id: int
    customer: str
    email: str
    lines: list[str]
    total: Decimal
    requires_approval: bool


def place(customer: str, email: str, lines: Iterable[tuple[Product, int]]) -> Order:
    """Store an order with its lines; the receiver starts its run in the same transaction."""
    lines = list(lines)
    total = sum((product.price * quantity for product, quantity in lines), Decimal(0))
    with transaction.atomic():
        order = Order.objects.create(
            customer=customer, email=email, total=total, requires_approval=total >= APPROVAL_FROM
        )
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product=product.name, price=product.price, quantity=quantity)
            for product, quantity in lines
        )
    return order


def fetch(order_id: int) -> OrderDetails:
    """Look the order up."""
    order = Order.objects.get(pk=order_id)
    lines = [str(line) for line in order.lines.order_by("pk")]
    return OrderDetails(order.pk, order.customer, order.email, lines, order.total, order.requires_approval)


def settle(order_id: int, status: str) -> None:
    """Write down how the order stands."""
    Order.objects.filter(pk=order_id).update(status=status)


def placed_in(begin: datetime, end: datetime) -> tuple[int, Decimal]:
    """Return how many orders were placed between two moments, and what they came to."""
    placed = Order.objects.filter(created_at__gte=begin, created_at__lt=end)
    return placed.count(), placed.aggregate(total=Sum("total"))["total"] or Decimal(0)
