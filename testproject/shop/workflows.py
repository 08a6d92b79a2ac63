"""The shop's two workflows. canx_flow imports this module of every installed app when Django starts."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

from canx_flow import Context, workflow

from . import orders, payments


@workflow("subscription")
def subscription(ctx: Context, user: str) -> str:
    """Charge, let a trial pass, renew."""
    ctx.step("charge", payments.charge, user, 100)
    ctx.sleep("trial", timedelta(seconds=settings.SHOP_TRIAL_SECONDS))
    return ctx.step("renew", payments.charge, user, 900)


@workflow("order-processing")
def order_processing(ctx: Context, number: str) -> str:
    """Fetch, reserve, take the money, confirm."""
    order = ctx.step("fetch-order", orders.fetch, number)
    ctx.step("reserve-items", orders.reserve, order["items"])
    receipt = ctx.step("take-payment", payments.charge, order["customer"], int(order["total"] * 100))
    return ctx.step("send-confirmation", orders.send_confirmation, order, receipt)
