"""The shop's two workflows. canx_flow imports this module of every installed app when Django starts."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings

from canx_flow import Context, workflow

from . import mail, orders, payments, subscriptions
from .orders import OrderDetails


@workflow("subscription")
def subscription(ctx: Context, subscription_id: int, user: str) -> str:
    """Charge, let a trial pass, renew."""
    ctx.progress(0, 3, "Charging the first euro")
    ctx.step("charge", payments.charge, user, Decimal("1.00"))
    ctx.step("begin-trial", subscriptions.begin_trial, subscription_id, atomic=True)

    ctx.log.info("The trial of %s has begun", user)
    ctx.progress(1, 3, "The trial has begun")
    ctx.sleep("trial", settings.SHOP_TRIAL)

    ctx.progress(2, 3, "Renewing")
    receipt = ctx.step("renew", payments.charge, user, Decimal("49.00"))
    ctx.step("extend", subscriptions.renew, subscription_id, atomic=True)
    ctx.log.info("The subscription of %s is renewed", user)
    ctx.progress(3, 3, "Renewed")
    return receipt


@workflow("order-processing")
def order_processing(ctx: Context, order_id: int) -> str:
    """Fetch the order; if it needs approval, wait for it; tell the customer."""
    ctx.progress(0, 3, "Reading the order")
    order = ctx.step("fetch-order", orders.fetch, order_id)
    ctx.set_attributes(customer=order.customer, total=str(order.total))

    if order.requires_approval and not _approved(ctx, order):
        ctx.step("settle-order", orders.settle, order_id, "rejected", atomic=True)
        ctx.step("send-refusal", mail.send_refusal, order)
        ctx.progress(3, 3, "Rejected")
        return "rejected"

    ctx.progress(2, 3, "Confirming the order")
    ctx.step("settle-order", orders.settle, order_id, "confirmed", atomic=True)
    ctx.step("send-confirmation", mail.send_confirmation, order)
    ctx.progress(3, 3, "Confirmed")
    return "confirmed"


def _approved(ctx: Context, order: OrderDetails) -> bool:
    """Ask the manager, and wait a day: no answer counts as yes."""
    ctx.step("wait-approval", mail.ask_manager, order)
    ctx.log.info("Order %s waits for approval", order.id)
    ctx.progress(1, 3, "Waiting for the manager")
    answer = ctx.wait_for("approval", "approval", timeout=settings.SHOP_APPROVAL, default="no answer")
    ctx.set_attributes(approval=answer)
    ctx.log.info("Order %s: %s", order.id, answer)
    return str(answer) != "rejected"
