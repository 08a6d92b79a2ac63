"""Fixtures of the shop's tests: a provider that answers at once, and orders small and large."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pytest_django import Settings

from shop import orders
from shop.models import Order
from shop.products import PRODUCTS


@pytest.fixture(autouse=True)
def _quick_provider(settings: Settings) -> None:
    settings.SHOP_PAYMENT_SECONDS = 0


@pytest.fixture
def small(db: None) -> Order:
    """Two cups, placed."""
    order = orders.place("Ada", "ada@example.com", [(PRODUCTS[1], 1)])
    assert not order.requires_approval
    return order


@pytest.fixture
def large(db: None) -> Order:
    """A cabinet and its teapot, placed: the manager must approve."""
    order = orders.place("Alan", "alan@example.com", [(PRODUCTS[3], 1), (PRODUCTS[2], 2)])
    assert order.requires_approval
    assert order.total == Decimal("1068.00")
    return order
