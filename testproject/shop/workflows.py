"""The shop's workflows. canx_flow imports this module of every installed app when Django starts."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from django.conf import settings

from canx_flow import Context, schedule, workflow

from . import mail, orders, payments, subscriptions, trips, warehouse
from .orders import OrderDetails


@workflow("subscription")
def subscription(ctx: Context, subscription_id: int, user: str) -> str:
    """Charge, let a trial pass, renew."""
    ctx.progress(0, 3, "Charging the first euro")
    ctx.step("charge", payments.charge, user, "trial", Decimal("1.00"), limit="payments")
    ctx.step("begin-trial", subscriptions.begin_trial, subscription_id, atomic=True)

    ctx.log.info("The trial of %s has begun", user)
    ctx.progress(1, 3, "The trial has begun")
    ctx.sleep("trial", settings.SHOP_TRIAL)

    ctx.progress(2, 3, "Renewing")
    ctx.step("renew", payments.charge, user, "year", Decimal("49.00"), limit="payments")
    ctx.step("extend", subscriptions.renew, subscription_id, atomic=True)
    ctx.log.info("The subscription of %s is renewed", user)
    ctx.progress(3, 3, "Renewed")
    return "renewed"


@workflow("order-processing")
def order_processing(ctx: Context, order_id: int) -> str:
    """Have a large order approved; reserve, charge and ship it. If that cannot be, undo what was done of it."""
    ctx.progress(0, 4, "Reading the order")
    order = ctx.step("fetch-order", orders.fetch, order_id, compensate=_call_off)
    ctx.set_attributes(customer=order.customer, total=str(order.total))

    if order.requires_approval and not _approved(ctx, order):
        ctx.step("settle-order", orders.settle, order_id, "rejected", atomic=True)
        ctx.step("send-refusal", mail.send_refusal, order)
        ctx.progress(4, 4, "Rejected")
        return "rejected"

    ctx.progress(2, 4, "Reserving, and asking the bank")
    ctx.gather(  # Side by side: neither needs the other.
        stock=lambda own: own.step("reserve", warehouse.reserve, order_id, atomic=True, compensate=warehouse.release),
        card=lambda own: own.step("authorise", payments.authorise, order.customer, order.total, limit="payments"),
    )
    ctx.step(
        "charge", payments.charge, order.customer, f"order {order_id}", order.total,
        limit="payments", compensate=payments.refund,
    )  # fmt: skip
    ctx.step("settle-order", orders.settle, order_id, "confirmed", atomic=True)
    ctx.step("send-confirmation", mail.send_confirmation, order)

    ctx.progress(3, 4, "Shipping")
    shipments = [ctx.spawn("shipment", shipment, order_id, line) for line in order.lines]
    parcels = [parcel.result() for parcel in shipments]
    ctx.step("settle-order", orders.settle, order_id, "shipped", atomic=True)
    ctx.progress(4, 4, f"Shipped in {len(parcels)} parcels" if len(parcels) > 1 else "Shipped")
    return "shipped"


def _approved(ctx: Context, order: OrderDetails) -> bool:
    """Ask the manager, and wait a day: no answer counts as yes."""
    ctx.step("wait-approval", mail.ask_manager, order)
    ctx.log.info("Order %s waits for approval", order.id)
    ctx.progress(1, 4, "Waiting for the manager")
    answer = ctx.wait_for("approval", "approval", timeout=settings.SHOP_APPROVAL, default="no answer")
    ctx.set_attributes(approval=answer)
    ctx.log.info("Order %s: %s", order.id, answer)
    return str(answer) != "rejected"


def _call_off(order: OrderDetails) -> None:
    """Undo that the order was taken on. Its result is the oldest, so this comes after every other undo."""
    orders.settle(order.id, "cancelled")
    mail.send_apology(order)


@workflow("shipment")
def shipment(ctx: Context, order_id: int, content: str) -> int:
    """Pack a parcel and have it collected: a child run, one for each line of an order."""
    parcel = ctx.step("pack", warehouse.pack, order_id, content, compensate=warehouse.unpack)
    ctx.step("hand-over", warehouse.hand_over, parcel)
    return parcel


@workflow("trip-booking")
def trip_booking(ctx: Context, trip_id: int, customer: str, destination: str) -> None:
    """Book all of a trip or nothing: if one part cannot be had, those booked before are cancelled, the newest first."""
    ctx.step("take-on", trips.take_on, trip_id, compensate=trips.call_off)
    ctx.step("flight", trips.book_flight, customer, destination, compensate=trips.cancel)
    ctx.step("hotel", trips.book_hotel, customer, destination, compensate=trips.cancel)
    ctx.step("car", trips.book_car, customer, destination, compensate=trips.cancel)
    ctx.step("confirm", trips.confirm, trip_id, atomic=True)


@workflow("daily-report")
def daily_report(ctx: Context) -> int:
    """Tell the manager what was ordered on the day before: of its tick's moment, not of whenever it comes to run."""
    until = ctx.scheduled_for or ctx.now()
    count, total = ctx.step("add-up", orders.placed_in, until - timedelta(days=1), until)
    ctx.step("send-report", mail.send_report, until, count, total)
    return count


if settings.SHOP_REPORT:
    schedule("daily-report", daily_report, cron=settings.SHOP_REPORT)
