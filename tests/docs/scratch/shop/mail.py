"""Mails of the shop, through Django's."""

from django.core.mail import send_mail


def ask_for_approval(order_id: int | str) -> None:
    """Tell the manager that an order waits."""
    send_mail("Please approve", f"Order {order_id}", "shop@example.com", ["manager@example.com"])


def confirm(order_id: int | str) -> None:
    """Tell the customer that it is done."""
    send_mail("Thank you", f"Order {order_id} is on its way.", "shop@example.com", ["customer@example.com"])


def ask_for_card(customer: str) -> None:
    """Tell the customer that the card was declined."""
    send_mail("Your card", "Please give us another one.", "shop@example.com", [customer])
