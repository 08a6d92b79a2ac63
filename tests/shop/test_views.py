"""The shop's pages, as a visitor and a manager use them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.test import Client

from canx_flow.models import WorkflowRun
from canx_flow.store import leases
from canx_flow.testing import advance, run_until_idle
from shop import views
from shop.models import Order, Payment, Subscription, Trip

pytestmark = pytest.mark.django_db

ORDER = {"customer": "Ada", "email": "ada@example.com"}
TRIP = {"trip-customer": "Donald", "trip-destination": "Venice"}
SUBSCRIPTION = {"subscription-user": "Grace", "subscription-email": "grace@example.com"}


@pytest.fixture
def manager(client: Client) -> Client:
    """Logged in, with the one permission that it takes."""
    user = User.objects.create_user("manager")
    user.user_permissions.add(Permission.objects.get(codename="approve_order"))
    client.force_login(user)
    return client


@pytest.fixture
def subscriber(client: Client) -> Subscription:
    """Grace, who subscribed on the page."""
    client.post("/subscriptions/", SUBSCRIPTION)
    return Subscription.objects.get()


def shown(response: Any) -> str:
    """A page's text, once it is known to be one."""
    assert response.status_code == 200
    return str(response.content.decode())


# -- orders ----------------------------------------------------------------------------------------


def test_an_order_placed_on_the_page_is_confirmed_by_mail_and_shipped(client: Client) -> None:
    """From the form to the mail: the page of the order shows how it ended."""
    response = client.post("/orders/", {**ORDER, "tea": "2", "cups": "1"}, follow=True)
    order = Order.objects.get()
    assert response.redirect_chain == [(f"/orders/{order.pk}/", 302)]
    assert "A worker will take this on." in shown(response)
    assert "2 x Green tea" in shown(response)

    run_until_idle()

    assert "Shipped" in shown(client.get(f"/orders/{order.pk}/"))
    assert [message.to for message in mail.outbox] == [["ada@example.com"]]
    assert f"Order {order.pk}</a>" in shown(client.get("/"))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (ORDER, "Choose something first."),
        ({**ORDER, "tea": "-1"}, "greater than or equal to 0"),
        ({**ORDER, "tea": "1", "email": "ada"}, "valid email address"),
        ({"tea": "1"}, "This field is required."),
    ],
)
def test_an_order_that_cannot_be_is_explained(client: Client, data: dict[str, str], complaint: str) -> None:
    """The form comes back with what is wrong; nothing is stored, nothing started."""
    assert complaint in shown(client.post("/orders/", data))
    assert (Order.objects.count(), WorkflowRun.objects.count()) == (0, 0)


def test_the_manager_approves(manager: Client, large: Order) -> None:
    """The approval page shows the order; its button lets the order go on."""
    run_until_idle()
    assert "1 x Tea cabinet" in shown(manager.get(f"/orders/{large.pk}/approval/"))

    response = manager.post(f"/orders/{large.pk}/approval/", {"answer": "approved"}, follow=True)
    run_until_idle()

    assert f"Order {large.pk} is approved." in shown(response)
    large.refresh_from_db()
    assert large.status == "shipped"
    assert mail.outbox[-1].subject == f"Your order {large.pk} is confirmed"


def test_the_manager_rejects(manager: Client, large: Order) -> None:
    """The other button ends the order, and the customer is told."""
    run_until_idle()
    response = manager.post(f"/orders/{large.pk}/approval/", {"answer": "rejected"}, follow=True)
    run_until_idle()

    assert f"Order {large.pk} is rejected." in shown(response)
    large.refresh_from_db()
    assert large.status == "rejected"
    assert mail.outbox[-1].subject == f"Your order {large.pk} cannot be accepted"


@pytest.mark.parametrize("waited", [timedelta(0), timedelta(hours=24)])
def test_the_first_decision_counts(manager: Client, large: Order, waited: timedelta) -> None:
    """A second click, or a click after the day was over, changes nothing and is told so."""
    manager.post(f"/orders/{large.pk}/approval/", {"answer": "approved"})
    advance(waited)

    response = manager.post(f"/orders/{large.pk}/approval/", {"answer": "rejected"}, follow=True)
    run_until_idle()

    assert f"Order {large.pk} was decided before." in shown(response)
    large.refresh_from_db()
    assert large.status == "shipped"


def test_no_answer_is_no_answer(manager: Client, large: Order) -> None:
    """A form without a decision, or with a strange one, shows the page again and sends nothing."""
    for data in ({}, {"answer": "perhaps"}):
        assert "Reject" in shown(manager.post(f"/orders/{large.pk}/approval/", data))
    run_until_idle()

    assert WorkflowRun.objects.get().state == "waiting"


def test_only_a_manager_decides(client: Client, large: Order) -> None:
    """A visitor is asked to log in; a user without the permission is refused."""
    page = f"/orders/{large.pk}/approval/"
    assert client.post(page, {"answer": "approved"}).headers["Location"] == f"/admin/login/?next={page}"

    client.force_login(User.objects.create_user("visitor"))
    assert client.post(page, {"answer": "approved"}).status_code == 403


def test_a_small_order_has_nothing_to_approve(manager: Client, small: Order) -> None:
    """Its approval page does not exist."""
    assert manager.get(f"/orders/{small.pk}/approval/").status_code == 404


# -- subscriptions ---------------------------------------------------------------------------------


def test_a_subscription_from_the_page_is_renewed(client: Client, subscriber: Subscription) -> None:
    """It sleeps through its trial, and its page says when that ends and that it did."""
    page = f"/subscriptions/{subscriber.pk}/"
    run_until_idle()
    assert "Sleeps for another" in shown(client.get(page))
    assert "Cancel the subscription" in shown(client.get(page))

    advance(timedelta(days=30))

    assert "Active" in shown(client.get(page))
    assert "nothing left to cancel" in shown(client.get(page))


def test_a_subscription_without_a_name_is_explained(client: Client) -> None:
    """The form comes back; neither a row nor a run is there."""
    assert "This field is required." in shown(client.post("/subscriptions/", {"subscription-email": "g@example.com"}))
    assert (Subscription.objects.count(), WorkflowRun.objects.count()) == (0, 0)


def test_a_cancelled_subscription_is_charged_no_more(client: Client, subscriber: Subscription) -> None:
    """The run is cancelled with its reason, and thirty days later nothing happens."""
    run_until_idle()
    response = client.post(f"/subscriptions/{subscriber.pk}/cancel/", follow=True)
    advance(timedelta(days=30))

    assert f"Subscription {subscriber.pk} is cancelled." in shown(response)
    run = WorkflowRun.objects.for_subject(subscriber).get()
    assert (run.state, run.control_reason) == ("cancelled", "by the subscriber")
    assert Payment.objects.count() == 1


def test_a_renewed_subscription_cannot_be_cancelled(client: Client, subscriber: Subscription) -> None:
    """What has ended stays as it ended."""
    advance(timedelta(days=30))
    client.post(f"/subscriptions/{subscriber.pk}/cancel/")

    subscriber.refresh_from_db()
    assert subscriber.status == "active"


def test_after_cancel_there_is_no_second_button(client: Client, subscriber: Subscription) -> None:
    """Nor while the step in flight has not ended yet; a click all the same is told that it came too late."""
    page = f"/subscriptions/{subscriber.pk}/"
    owner = leases.register(host="here", pid=1)
    WorkflowRun.objects.update(state="running", ready=False, owner=owner, epoch=1)
    assert "Cancel the subscription" in shown(client.get(page))
    cancelled = shown(client.post(f"{page}cancel/", follow=True))
    assert WorkflowRun.objects.get().state == "stopping"
    assert "It is being cancelled" in cancelled
    assert "Cancel the subscription" not in cancelled
    assert f"Subscription {subscriber.pk} has ended before." in shown(client.post(f"{page}cancel/", follow=True))


# -- trips -----------------------------------------------------------------------------------------


def test_a_trip_from_the_page_that_cannot_be_is_undone(client: Client) -> None:
    """Its page says what was undone, and that nothing is left of it."""
    response = client.post("/trips/", TRIP, follow=True)
    trip = Trip.objects.get()
    assert response.redirect_chain == [(f"/trips/{trip.pk}/", 302)]
    assert "A worker will take this on." in shown(response)

    run_until_idle()

    page = shown(client.get(f"/trips/{trip.pk}/"))
    assert "It is called off, and what was done of it is undone." in page
    assert "hotel[undo]" in page
    assert "data-ended" in shown(client.get(f"/trips/{trip.pk}/run/"))
    assert "Cancelled</span>" in shown(client.get("/"))


def test_a_trip_that_is_being_undone_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an undo waits for its next attempt the trip is neither on nor over."""

    def no_answer(_booking: object) -> None:
        raise ConnectionError("the hotel does not answer")

    monkeypatch.setattr("shop.trips.cancel", no_answer)
    client.post("/trips/", TRIP)
    run_until_idle()

    page = shown(client.get(f"/trips/{Trip.objects.get().pk}/run/"))
    assert "It is called off: what was done of it is being undone." in page
    assert "data-ended" not in page


def test_a_trip_to_nowhere_is_explained(client: Client) -> None:
    """The form comes back; neither a row nor a run is there."""
    page = shown(client.post("/trips/", {**TRIP, "trip-destination": "Atlantis"}))
    assert "Atlantis is not one of the available choices" in page
    assert (Trip.objects.count(), WorkflowRun.objects.count()) == (0, 0)


@pytest.mark.parametrize("pk", [7, 2**63, 10**30, "9" * 5000])
def test_a_wrong_id_is_not_found(manager: Client, pk: int | str) -> None:
    """On every page, whatever the number."""
    pages = (
        "orders/{}/", "orders/{}/run/", "orders/{}/approval/", "subscriptions/{}/", "subscriptions/{}/run/",
        "trips/{}/", "trips/{}/run/",
    )  # fmt: skip
    assert {manager.get("/" + page.format(pk)).status_code for page in pages} == {404}
    assert manager.post(f"/subscriptions/{pk}/cancel/").status_code == 404
    assert manager.post(f"/orders/{pk}/approval/", {"answer": "approved"}).status_code == 404


def test_a_run_that_is_deleted_meanwhile_is_no_longer_kept(
    client: Client, subscriber: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for it and the question how it stands: the page says so."""
    run = WorkflowRun.objects.get()
    monkeypatch.setattr(views, "_run", lambda _subject: run)
    WorkflowRun.objects.all().delete()
    assert "Its run is no longer kept." in shown(client.get(f"/subscriptions/{subscriber.pk}/"))
    cancelled = client.post(f"/subscriptions/{subscriber.pk}/cancel/", follow=True)
    assert f"Subscription {subscriber.pk} is cancelled." in shown(cancelled)


# -- every page ------------------------------------------------------------------------------------


def test_the_live_part_tells_where_the_run_stands(client: Client, large: Order) -> None:
    """State, step and progress, never from a cache, and a mark once there is nothing more to ask for."""
    run_until_idle()
    response = client.get(f"/orders/{large.pk}/run/")
    assert "no-store" in response.headers["Cache-Control"]
    assert "Waits for an answer, 23" in shown(response)
    assert "<code>approval</code>" in shown(response)
    assert '<progress max="4" value="1">' in shown(response)
    assert "data-ended" not in shown(response)

    advance(timedelta(hours=24))

    assert "data-ended" in shown(client.get(f"/orders/{large.pk}/run/"))


def test_the_live_part_tells_of_a_step_that_is_tried_again(
    client: Client, subscriber: Subscription, settings: Any
) -> None:
    """A failed attempt is shown with the time of the next."""
    settings.SHOP_PAYMENT_SECONDS = -1
    run_until_idle()

    assert "Attempt 2 of charge comes in" in shown(client.get(f"/subscriptions/{subscriber.pk}/run/"))


def test_an_order_outlives_its_run(manager: Client, large: Order) -> None:
    """Runs are deleted some day; the pages still answer, and there is nobody left to tell."""
    WorkflowRun.objects.all().delete()

    assert "data-ended" in shown(manager.get(f"/orders/{large.pk}/"))
    response = manager.post(f"/orders/{large.pk}/approval/", {"answer": "approved"}, follow=True)
    assert "was decided before" in shown(response)


@pytest.mark.parametrize(
    "page", ["/orders/", "/subscriptions/", "/subscriptions/1/cancel/", "/orders/1/approval/", "/trips/"]
)
def test_nothing_happens_without_a_token(page: str, admin_user: User) -> None:
    """Every action is a POST that another site cannot send."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)

    assert client.post(page, {}).status_code == 403


@pytest.mark.parametrize("page", ["/orders/", "/subscriptions/", "/subscriptions/1/cancel/", "/trips/"])
def test_nothing_happens_on_a_get(client: Client, page: str) -> None:
    """A link, a crawler or a reload acts on nothing."""
    assert client.get(page).status_code == 405


def test_the_admin_shows_the_shop_and_changes_nothing(
    admin_client: Client, large: Order, subscriber: Subscription
) -> None:
    """Lists and pages of all models answer; nothing can be added."""
    trip = Trip.objects.create(customer="Donald", destination="Kyoto")
    run_until_idle()
    shown_there = {"order": large, "subscription": subscriber, "trip": trip, "payment": Payment.objects.get()}
    for model, pk in [(model, row.pk) for model, row in shown_there.items()]:
        assert admin_client.get(f"/admin/shop/{model}/").status_code == 200
        assert admin_client.get(f"/admin/shop/{model}/{pk}/change/").status_code == 200
        assert admin_client.get(f"/admin/shop/{model}/add/").status_code == 403
