"""A day in the shop, as its manager sees it in the admin: the pictures of the docs are taken here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from canx_flow.admin.filters import WorkflowFilter
from canx_flow.core import clock, registry
from canx_flow.models import WorkflowRun
from canx_flow.testing import run_until_idle
from shop import orders
from shop.models import Trip
from shop.products import PRODUCTS
from shop.workflows import subscription, trip_booking

from ..admin import runs
from .chromium import NARROW, Visitor
from .conftest import Door, logged_in

pytestmark = [pytest.mark.browser, pytest.mark.once]

LIST = "/admin/canx_flow/workflowrun/"
PEOPLE = ("Ada", "Alan", "Barbara", "Edsger", "Grace", "Ken", "Radia")
OF_THE_SHOP = ("order-processing", "shipment", "subscription", "trip-booking")
TEA, CUPS, TEAPOT, CABINET = PRODUCTS
KYOTO, LONDON, VENICE = Trip.Destination


@pytest.fixture
def day(server: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quarters of an hour, and a worker that lives to tell of it. The filter leaves out what the suite has."""
    monkeypatch.setattr(WorkflowFilter, "names", lambda _filter: dict.fromkeys(OF_THE_SHOP))
    settings.SHOP_PAYMENT_SECONDS = 0.02
    for hour, customer in enumerate(PEOPLE):
        orders.place(customer, f"{customer.lower()}@example.com", [(TEA, hour + 1), (CUPS, 1)])
        subscription.start(hour, customer)
        travels(customer, KYOTO if hour % 2 else LONDON)
        if hour in (1, 3, 6):
            orders.place(customer, f"{customer.lower()}@example.com", [(CABINET, 1), (TEAPOT, 2)])
            travels(customer, VENICE)
        run_until_idle()
        clock.shift(timedelta(minutes=6 + hour % 3))
    orders.place("Ken", "ken@example.com", [(TEAPOT, 90)])
    run_until_idle()
    runs.a_worker(name="shop-1", workflows=registry.identities())


def travels(customer: str, destination: str) -> None:
    """Book a trip."""
    trip = Trip.objects.create(customer=customer, destination=destination)
    trip_booking.using(subject=trip).start(trip.pk, customer, destination)


@pytest.fixture
def narrow(anybody: Door, manager: User, day: None) -> Visitor:
    """The manager, on the way home."""
    return logged_in(anybody(viewport=NARROW, has_touch=True, color_scheme="dark"), manager)


def test_the_list_begins_with_what_needs_attention(operator: Visitor, day: None) -> None:
    """The trips for which no car can be had, each with its cause; all the others are one tab away."""
    operator.opens(LIST)
    operator.sees("Needs attention", within=".canx-tabs [aria-current]")
    operator.sees("car: shop.trips.NoCarError: no car can be had in Venice", within="#result_list")
    assert operator.number("#result_list tbody tr") == WorkflowRun.objects.states("failed").count() == 3
    operator.shoots("needs-attention", whole=False)
    operator.clicks("All", within=".canx-tabs")
    operator.sees("waiting", within="#result_list")
    operator.shoots("list", whole=False)


def test_the_dashboard_groups_what_has_failed_alike(operator: Visitor, day: None) -> None:
    """One row for the three trips."""
    operator.opens(f"{LIST}dashboard/")
    operator.sees("no car can be had in Venice", within=".canx-alike")
    operator.sees("Retry these 3", within=".canx-alike")
    operator.shoots("dashboard")


def test_a_failed_trip_shows_its_undo_and_its_way(operator: Visitor, day: None) -> None:
    """What was booked before is cancelled, the newest first; the graph shows where this run left the others."""
    operator.opens(LIST)
    operator.do(lambda page: page.locator("#result_list .field-run a").first.click())
    operator.sees("hotel[undo]", within=".canx-chart")
    operator.sees("What it did is undone", within=".canx-advice")
    operator.do(lambda page: page.locator(".canx-failure details[open] > summary").first.click())  # It has a path.
    operator.do(lambda page: page.set_viewport_size({"width": 1280, "height": 1160}))
    operator.shoots("failed-run", whole=False)
    assert operator.number(".canx-mark-failed") == 1


def test_the_graph_of_a_workflow_is_made_of_its_runs(operator: Visitor, day: None) -> None:
    """With the branches of an order, and how many runs went where."""
    operator.opens(f"{LIST}workflows/order-processing/")
    operator.sees("stock/reserve", within=".canx-graph")
    operator.sees("card/authorise", within=".canx-graph")
    operator.shoots("graph", ".canx-graph")


def test_a_phone_shows_each_run_as_a_card(narrow: Visitor) -> None:
    """With its sentence, in the dark."""
    narrow.opens(LIST)
    narrow.sees("no car can be had in Venice", within="#result_list")
    narrow.do(lambda page: page.locator(".canx-nav").scroll_into_view_if_needed())
    narrow.shoots("phone", whole=False)
