"""An order from the shop's page, over the admin, to its parcel."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from shop.models import Order

from ..processes import Workers
from .chromium import Visitor
from .conftest import Door

pytestmark = pytest.mark.browser


def places_an_order(customer: Visitor) -> Order:
    """Buy what is so dear that the manager must approve it."""
    customer.opens("/")
    customer.fills("How many of Tea cabinet", "1")
    customer.fills("How many of Teapot", "2")
    customer.do(lambda page: page.locator("#id_customer").fill("Alan"))
    customer.do(lambda page: page.locator("#id_email").fill("alan@example.com"))
    customer.clicks("Order")
    return Order.objects.get()


def test_an_order_waits_is_approved_in_the_admin_and_completes(anybody: Door, manager: User, workers: Workers) -> None:
    """A customer orders, the manager reads what it waits for and sends that: both see it through, without reloading."""
    workers.start(env={"SHOP_PAYMENT_SECONDS": "0.1"})
    alan, root = anybody(), anybody()
    order = places_an_order(alan)
    alan.sees("Waits for an answer")

    root.opens("/admin/")
    root.fills("Username:", "root")
    root.fills("Password:", "secret")
    root.clicks("Log in")
    root.clicks("Workflow runs", within="#canx_flow-workflowrun")
    root.sees("order-processing", within="#result_list")
    root.sees("approval", within="#result_list .field-goes_on")
    root.do(lambda page: page.locator("#result_list .field-run a").click())
    root.sees("waiting", within=".canx-why")
    root.shoots("waiting-run")
    root.clicks("Send the event…")
    root.fills("Payload", '"approved"')
    root.clicks("Send it")
    root.sees("Delivered: the run goes on")
    root.sees("completed", within=".canx-why")

    alan.sees("Shipped in 2 parcels")
    order.refresh_from_db()
    assert order.status == "shipped"
