"""The shop's two workflows, through what everybody may call: start, send, and time that passes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from pytest_django import Settings

from canx_flow import get_run
from canx_flow.models import WorkflowRun
from canx_flow.status import RunStatus
from canx_flow.testing import advance, run_until_idle
from shop.models import Order, Payment, Subscription
from shop.workflows import order_processing, subscription

pytestmark = pytest.mark.django_db


def run_of(subject: Order | Subscription) -> RunStatus:
    """Where the one run of this order or subscription stands."""
    return get_run(WorkflowRun.objects.for_subject(subject).get().id)


def steps(run_id: UUID) -> list[str]:
    """The names of what the run has recorded, in order."""
    return list(WorkflowRun.objects.get(id=run_id).records.order_by("seq").values_list("name", flat=True))


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


def test_a_small_order_is_confirmed_at_once(small: Order) -> None:
    """Nobody is asked; the customer is told what was ordered."""
    run_until_idle()

    small.refresh_from_db()
    assert small.status == "confirmed"
    assert run_of(small).result == "confirmed"
    assert steps(run_of(small).id) == ["fetch-order", "settle-order", "send-confirmation"]
    assert sent() == [("ada@example.com", f"Your order {small.pk} is confirmed")]
    assert "1 x Two cups" in mail.outbox[0].body
    assert "Total: 28.00 €" in mail.outbox[0].body


def test_a_large_order_waits_for_the_manager(large: Order, settings: Settings) -> None:
    """The manager gets a mail with the page's address; the run waits and says so."""
    settings.SHOP_URL = "https://shop.example.com"
    run_until_idle()

    run = run_of(large)
    assert (run.state, run.step) == ("waiting", "approval")
    assert run.progress == {"done": 1, "total": 3, "message": "Waiting for the manager"}
    assert run.attributes == {"customer": "Alan", "total": "1068.00"}
    assert sent() == [("manager@example.com", f"Order {large.pk} needs your approval")]
    assert f"https://shop.example.com/orders/{large.pk}/approval/" in mail.outbox[0].body


def test_an_approved_order_is_confirmed(large: Order) -> None:
    """The event lets the run go on, to the confirmation."""
    run_until_idle()
    order_processing.send(run_of(large).id, "approval", "approved")
    run_until_idle()

    large.refresh_from_db()
    assert large.status == "confirmed"
    assert run_of(large).attributes["approval"] == "approved"
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
    """After 23 hours the order still waits; after 24 it is confirmed."""
    run_until_idle()
    advance(timedelta(hours=23))
    assert run_of(large).state == "waiting"

    advance(timedelta(hours=1))

    large.refresh_from_db()
    assert large.status == "confirmed"
    assert run_of(large).attributes["approval"] == "no answer"
    assert sent()[1:] == [("alan@example.com", f"Your order {large.pk} is confirmed")]


def test_an_answer_before_the_question_counts(large: Order) -> None:
    """A manager who is faster than the worker is heard all the same."""
    order_processing.send(run_of(large).id, "approval", "rejected")
    run_until_idle()

    assert run_of(large).result == "rejected"


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
