"""What the shop does with an order, each function one step of the workflow."""

from __future__ import annotations

from decimal import Decimal
from typing import TypedDict

from . import ledger


class Order(TypedDict):
    """An order as its run sees it: the values of the moment it was fetched."""

    number: str
    customer: str
    items: list[str]
    total: Decimal


def fetch(number: str) -> Order:
    """Look the order up."""
    with ledger.entry():
        return Order(number=number, customer="alice", items=["tea", "cups"], total=Decimal("42.50"))


def reserve(items: list[str]) -> str:
    """Put the items aside and return the shelf they are on."""
    with ledger.entry():
        return f"shelf-{len(items)}"


def send_confirmation(order: Order, receipt: str) -> str:
    """Tell the customer, and return what was said."""
    with ledger.entry():
        return f"Dear {order['customer']}, order {order['number']} is paid ({receipt})."
