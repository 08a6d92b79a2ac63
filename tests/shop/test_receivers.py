"""An order starts its run when it is stored: once, and only if it is stored."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core import serializers
from django.db import transaction

from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle
from shop import orders
from shop.models import Order
from shop.products import PRODUCTS

pytestmark = pytest.mark.django_db


def test_a_stored_order_has_a_run(small: Order) -> None:
    """The run is found by its subject, and has the order's key."""
    run = WorkflowRun.objects.for_subject(small).get()
    assert (run.workflow, run.key, run.state) == ("order-processing", f"order-{small.pk}", "pending")
    assert run.subject == small


def test_an_order_rolled_back_leaves_no_run() -> None:
    """What failed after the order was placed takes its run with it."""
    with transaction.atomic():
        orders.place("Ada", "ada@example.com", [(PRODUCTS[0], 1)])
        assert WorkflowRun.objects.count() == 1
        transaction.set_rollback(True)

    assert (Order.objects.count(), WorkflowRun.objects.count()) == (0, 0)


def test_an_order_saved_again_starts_nothing(small: Order) -> None:
    """Only the first save counts."""
    small.customer = "Ada Lovelace"
    small.save()

    assert WorkflowRun.objects.count() == 1


def test_an_order_loaded_from_a_fixture_starts_nothing(small: Order) -> None:
    """`loaddata` brings rows back; it does not ship their tea again."""
    dumped = serializers.serialize("json", [small])
    small.delete()
    WorkflowRun.objects.all().delete()

    for loaded in serializers.deserialize("json", dumped):
        loaded.save()

    assert (Order.objects.count(), WorkflowRun.objects.count()) == (1, 0)


def test_an_order_stored_without_a_transaction_is_processed_too(small: Order) -> None:
    """A shell that just creates a row gets a run as well."""
    order = Order.objects.create(customer="Bob", email="b@example.com", total=Decimal(1), requires_approval=False)
    run_until_idle()

    order.refresh_from_db()
    assert order.status == "shipped"
