"""The shop's mails, each sent by a step: at least once, with the same Message-ID however often it is tried."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.core.mail import EmailMessage
from django.urls import reverse

from canx_flow import current_step

from .orders import OrderDetails


def ask_manager(order: OrderDetails) -> None:
    page = settings.SHOP_URL + reverse("shop:approval", args=[order.id])
    _send(
        settings.SHOP_MANAGER,
        f"Order {order.id} needs your approval",
        f"{order.customer} ordered for {order.total} €:\n\n{_listed(order)}\n\nApprove or reject it here:\n{page}\n",
    )


def send_report(until: datetime, count: int, total: Decimal) -> None:
    _send(
        settings.SHOP_MANAGER,
        f"Orders until {until:%Y-%m-%d %H:%M %Z}",
        f"On the day before there were {count} orders, for {total} € together.\n",
    )


def send_confirmation(order: OrderDetails) -> None:
    _send(
        order.email,
        f"Your order {order.id} is confirmed",
        f"Dear {order.customer},\n\nwe are packing:\n\n{_listed(order)}\n\nTotal: {order.total} €\n",
    )


def send_refusal(order: OrderDetails) -> None:
    _send(
        order.email,
        f"Your order {order.id} cannot be accepted",
        f"Dear {order.customer},\n\nwe are sorry that we cannot accept your order of:\n\n{_listed(order)}\n",
    )


def send_apology(order: OrderDetails) -> None:
    _send(
        order.email,
        f"Your order {order.id} is called off",
        f"Dear {order.customer},\n\nwe are sorry that we cannot deliver:\n\n{_listed(order)}\n\nNothing is charged.\n",
    )


def _listed(order: OrderDetails) -> str:
    return "\n".join(f"  {line}" for line in order.lines)


def _send(to: str, subject: str, body: str) -> None:
    headers = {"Message-ID": f"<{current_step().idempotency_key}@example.com>"}
    EmailMessage(subject, body, to=[to], headers=headers).send()
