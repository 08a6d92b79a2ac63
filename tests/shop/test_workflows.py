"""The shop's workflows, through what everybody may call: start, send, and time that passes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from pytest_django import Settings

from canx_flow import get_run, schedule
from canx_flow.core import schedules
from canx_flow.models import WorkflowRun
from canx_flow.status import RunStatus
from canx_flow.testing import advance, run_until_idle
from shop import orders, trips, warehouse
from shop.models import Order, Payment, Subscription, Trip
from shop.payments import Receipt
from shop.products import PRODUCTS
from shop.workflows import daily_report, order_processing, subscription, trip_booking

pytestmark = pytest.mark.django_db

TEAPOT, CABINET = PRODUCTS[2:]


def run_of(subject: Order | Subscription | Trip) -> RunStatus:
    """Where the one run of this order, subscription or trip stands."""
    return get_run(WorkflowRun.objects.for_subject(subject).get().id)


def steps(run_id: UUID) -> list[str]:
    """The names of what the run has recorded, in order."""
    return list(WorkflowRun.objects.get(id=run_id).records.order_by("seq").values_list("name", flat=True))


def books() -> list[tuple[str, str]]:
    """What is in the payment provider's books, the ids of orders counted from one."""
    first = Order.objects.order_by("pk").first()
    entries = [(payment.purpose, str(payment.amount)) for payment in Payment.objects.order_by("pk")]
    return [(purpose.replace(f"order {first.pk}", "order 1") if first else purpose, paid) for purpose, paid in entries]


def sent() -> list[tuple[str, str]]:
    """To whom, and what about, each mail so far."""
    return [(message.to[0], str(message.subject)) for message in mail.outbox]


@pytest.fixture
def subscriber(db: None) -> Subscription:
    """Grace, whose run is started."""
    subscriber = Subscription.objects.create(user="Grace", email="grace@example.com")
    subscription.using(subject=subscriber).start(subscriber.pk, "Grace")
    return subscriber


# -- orders ----------------------------------------------------------------------------------------


def test_a_small_order_is_shipped_at_once(small: Order) -> None:
    """Nobody is asked; things are set aside, charged once and sent, and the customer is told what was ordered."""
    run_until_idle()

    small.refresh_from_db()
    assert (small.status, small.reserved) == ("shipped", True)
    assert run_of(small).result == "shipped"
    done = steps(run_of(small).id)
    assert set(done[1:-6]) == {"stock/reserve", "card/authorise", "#gather"}
    assert done[:1] + done[-6:] == [
        "fetch-order", "charge", "settle-order", "send-confirmation", "shipment", "shipment[result]", "settle-order#2",
    ]  # fmt: skip
    assert books() == [("order 1", "28.00")]
    assert sent() == [("ada@example.com", f"Your order {small.pk} is confirmed")]
    assert "1 x Two cups" in mail.outbox[0].body
    assert "Total: 28.00 €" in mail.outbox[0].body


def test_a_large_order_waits_for_the_manager(large: Order, settings: Settings) -> None:
    """The manager gets a mail with the page's address; the run waits and says so."""
    settings.SHOP_URL = "https://shop.example.com"
    run_until_idle()

    run = run_of(large)
    assert (run.state, run.step) == ("waiting", "approval")
    assert run.progress == {"done": 1, "total": 4, "message": "Waiting for the manager"}
    assert run.attributes == {"customer": "Alan", "total": "1068.00"}
    assert sent() == [("manager@example.com", f"Order {large.pk} needs your approval")]
    assert f"https://shop.example.com/orders/{large.pk}/approval/" in mail.outbox[0].body


def test_an_approved_order_is_shipped(large: Order) -> None:
    """The event lets the run go on, to the last parcel: one for each line, each a child run."""
    run_until_idle()
    order_processing.send(run_of(large).id, "approval", "approved")
    run_until_idle()

    large.refresh_from_db()
    assert large.status == "shipped"
    assert run_of(large).attributes["approval"] == "approved"
    assert sorted(large.parcels.values_list("content", "sent")) == [("1 x Tea cabinet", True), ("2 x Teapot", True)]
    children = WorkflowRun.objects.filter(parent_id=run_of(large).id)
    packed = {get_run(child).result for child in children.values_list("id", flat=True)}
    assert packed == set(large.parcels.values_list("pk", flat=True))
    assert sent()[1:] == [("alan@example.com", f"Your order {large.pk} is confirmed")]


def test_a_rejected_order_is_not_confirmed(large: Order) -> None:
    """The customer is told no, and nothing is confirmed."""
    run_until_idle()
    order_processing.send(run_of(large).id, "approval", "rejected")
    run_until_idle()

    large.refresh_from_db()
    assert large.status == "rejected"
    assert run_of(large).result == "rejected"
    assert sent()[1:] == [("alan@example.com", f"Your order {large.pk} cannot be accepted")]


def test_no_answer_in_a_day_is_a_yes(large: Order) -> None:
    """After 23 hours the order still waits; after 24 it goes on."""
    run_until_idle()
    advance(timedelta(hours=23))
    assert run_of(large).state == "waiting"

    advance(timedelta(hours=1))

    large.refresh_from_db()
    assert large.status == "shipped"
    assert run_of(large).attributes["approval"] == "no answer"
    assert sent()[1:] == [("alan@example.com", f"Your order {large.pk} is confirmed")]


def test_an_answer_before_the_question_counts(large: Order) -> None:
    """A manager who is faster than the worker is heard all the same."""
    order_processing.send(run_of(large).id, "approval", "rejected")
    run_until_idle()

    assert run_of(large).result == "rejected"


def test_an_order_that_is_sold_out_is_called_off(db: None) -> None:
    """Nothing was charged, so the only undo is that the order was taken on: its customer gets an apology."""
    order = orders.place("Alan", "alan@example.com", [(CABINET, CABINET.stock + 1)])
    run_until_idle()
    order_processing.send(run_of(order).id, "approval", "approved")
    run_until_idle()

    order.refresh_from_db()
    assert (run_of(order).state, order.status, order.reserved) == ("failed", "cancelled", False)
    assert run_of(order).error["message"].endswith("3 x Tea cabinet ordered, 2 there")
    assert books() == []
    assert sent()[1:] == [("alan@example.com", f"Your order {order.pk} is called off")]


def test_what_was_set_aside_for_a_bad_card_is_put_back(db: None) -> None:
    """One of two branches fails: what the other one has done is undone."""
    order = orders.place("Alan", "alan@example.com", [(TEAPOT, 99)])
    run_until_idle()
    order_processing.send(run_of(order).id, "approval", "approved")
    run_until_idle()

    order.refresh_from_db()
    assert (run_of(order).state, order.status, order.reserved) == ("failed", "cancelled", False)
    assert steps(run_of(order).id)[-2:] == ["stock/reserve[undo]", "fetch-order[undo]"]
    assert books() == []


def test_an_order_cancelled_while_it_is_shipped_is_undone(small: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parcel is unpacked by the child run; the charge is given back, once."""

    def no_carrier(_parcel: int) -> None:
        raise ConnectionError("the carrier does not answer")

    monkeypatch.setattr(warehouse, "hand_over", no_carrier)
    run_until_idle()
    assert (run_of(small).state, small.parcels.count()) == ("waiting", 1)

    assert order_processing.cancel(run_of(small).id, "by the manager")
    run_until_idle()

    small.refresh_from_db()
    assert (run_of(small).state, small.status, small.reserved) == ("cancelled", "cancelled", False)
    assert books() == [("order 1", "28.00"), ("refund: order 1", "-28.00")]
    assert small.parcels.count() == 0
    assert [subject for _to, subject in sent()][-1].endswith("is called off")


def test_a_mail_that_is_sent_again_has_the_same_id(small: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails after its mail was sent sends it again, and mail programs see one message."""
    send = EmailMessage.send

    def send_and_fail_once(message: EmailMessage) -> None:
        send(message)
        if len(mail.outbox) == 1:
            raise ConnectionResetError

    monkeypatch.setattr(EmailMessage, "send", send_and_fail_once)
    run_until_idle()
    advance(timedelta(seconds=1))

    assert run_of(small).state == "completed"
    first, again = (message.extra_headers["Message-ID"] for message in mail.outbox)
    assert first == again


# -- subscriptions ---------------------------------------------------------------------------------


def test_a_subscription_is_renewed_after_thirty_days(subscriber: Subscription) -> None:
    """One euro at once, nothing for 29 days, then the year and one renewal."""
    run_until_idle()
    subscriber.refresh_from_db()
    assert (run_of(subscriber).state, subscriber.status, subscriber.renewals) == ("sleeping", "trial", 0)

    advance(timedelta(days=29))
    assert [payment.amount for payment in Payment.objects.all()] == [Decimal("1.00")]

    advance(timedelta(days=1))
    subscriber.refresh_from_db()
    assert (run_of(subscriber).state, subscriber.status, subscriber.renewals) == ("completed", "active", 1)
    assert [payment.amount for payment in Payment.objects.order_by("pk")] == [Decimal("1.00"), Decimal("49.00")]


def test_a_charge_whose_answer_was_lost_is_made_once(subscriber: Subscription, settings: Settings) -> None:
    """The provider booked it and then failed: asked again with the same key, it charges nothing more."""
    settings.SHOP_PAYMENT_SECONDS = -1  # time.sleep refuses this, after the booking
    run_until_idle()
    run = run_of(subscriber)
    assert (run.state, run.step, run.attempt) == ("retrying", "charge", 2)

    settings.SHOP_PAYMENT_SECONDS = 0
    advance(timedelta(seconds=1))

    assert run_of(subscriber).state == "sleeping"
    assert [payment.requests for payment in Payment.objects.all()] == [2]


def test_a_cancelled_subscription_is_not_touched_by_a_step_on_its_way(subscriber: Subscription) -> None:
    """The step that was running when the subscriber cancelled does not bring the trial back."""
    Subscription.objects.update(status="cancelled")
    run_until_idle()
    advance(timedelta(days=30))

    subscriber.refresh_from_db()
    assert (subscriber.status, subscriber.renewals) == ("cancelled", 0)


# -- trips -----------------------------------------------------------------------------------------


def booked(destination: str) -> Trip:
    """A trip, whose run is started."""
    trip = Trip.objects.create(customer="Donald", destination=destination)
    trip_booking.using(subject=trip).start(trip.pk, "Donald", destination)
    return trip


def test_a_trip_is_booked_whole(db: None) -> None:
    """Flight, hotel and car, and nothing is given back."""
    trip = booked("Kyoto")
    run_until_idle()

    trip.refresh_from_db()
    assert (run_of(trip).state, trip.status) == ("completed", "booked")
    assert [purpose for purpose, _ in books()] == ["flight to Kyoto", "hotel in Kyoto", "car in Kyoto"]


def test_a_trip_without_a_car_is_undone_newest_first(db: None) -> None:
    """What was booked before the car is cancelled, each once, and then the trip itself."""
    trip = booked("Venice")
    run_until_idle()

    trip.refresh_from_db()
    assert (run_of(trip).state, run_of(trip).reason, trip.status) == ("failed", "StepFailed", "cancelled")
    assert steps(run_of(trip).id) == [
        "take-on", "flight", "hotel", "car", "hotel[undo]", "flight[undo]", "take-on[undo]",
    ]  # fmt: skip
    assert books() == [
        ("flight to Venice", "310.00"), ("hotel in Venice", "240.00"),
        ("refund: hotel in Venice", "-240.00"), ("refund: flight to Venice", "-310.00"),
    ]  # fmt: skip


def test_a_refund_whose_answer_was_lost_is_made_once(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    """The provider gave the money back and then failed: asked again with the same key, it gives back nothing more."""
    trip = booked("Venice")
    cancel, failed = trips.cancel, list[str]()

    def cancel_and_fail_once(booking: Receipt) -> None:
        cancel(booking)
        if not failed:
            failed.append("once")
            raise ConnectionResetError

    monkeypatch.setattr(trips, "cancel", cancel_and_fail_once)
    run_until_idle()
    assert run_of(trip).state == "stopping"
    advance(timedelta(seconds=1))

    trip.refresh_from_db()
    assert (run_of(trip).state, trip.status) == ("failed", "cancelled")
    refunds = Payment.objects.filter(amount__lt=0).order_by("pk")
    assert [(refund.purpose, refund.requests) for refund in refunds] == [
        ("refund: hotel in Venice", 2), ("refund: flight to Venice", 1),
    ]  # fmt: skip


def test_the_daily_report_is_about_the_day_before_its_tick() -> None:
    """However late it runs: what was ordered meanwhile is for the next one."""
    schedule("daily-report", daily_report, cron="0 2 * * *", tz="UTC")
    try:
        run_until_idle()
        orders.place("ann", "ann@example.com", [(TEAPOT, 2)])
        advance(timedelta(days=1))
        run = daily_report.runs.get()
        assert run.scheduled_for is not None
        assert (daily_report.result(run.id), run.scheduled_for.hour) == (1, 2)
        (report,) = [message for message in mail.outbox if str(message.subject).startswith("Orders until")]
        assert "1 orders" in str(report.body)
    finally:
        schedules.forget("daily-report")
