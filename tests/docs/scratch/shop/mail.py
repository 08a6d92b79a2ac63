"""Mails of the shop, through Django's."""

from django.core.mail import send_mail


def ask_for_approval(order_id):
    """Tell the manager that an order waits."""
    send_mail("Please approve", f"Order {order_id}", "shop@example.com", ["manager@example.com"])


def confirm(order_id):
    """Tell the customer that it is done."""
    send_mail("Thank you", f"Order {order_id} is on its way.", "shop@example.com", ["customer@example.com"])
