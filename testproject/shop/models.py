"""What the shop keeps: orders and their lines, subscriptions, and the books of the pretended payment provider."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.urls import reverse


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        CONFIRMED = "confirmed"
        REJECTED = "rejected"

    customer = models.CharField(max_length=100)
    email = models.EmailField("e-mail")
    total = models.DecimalField(max_digits=10, decimal_places=2)
    requires_approval = models.BooleanField()
    status = models.CharField(max_length=16, choices=Status, default=Status.PLACED)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        permissions = [("approve_order", "Can approve or reject an order")]

    def __str__(self) -> str:
        return f"Order {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("shop:order", args=[self.pk])


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.CharField(max_length=100)
    quantity = models.PositiveSmallIntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product}"

    @property
    def amount(self) -> Decimal:
        return self.price * self.quantity


class Subscription(models.Model):
    class Status(models.TextChoices):
        NEW = "new"
        TRIAL = "trial"
        ACTIVE = "active"
        CANCELLED = "cancelled"

    user = models.CharField(max_length=100)
    email = models.EmailField("e-mail")
    status = models.CharField(max_length=16, choices=Status, default=Status.NEW)
    renewals = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Subscription {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("shop:subscription", args=[self.pk])


class Payment(models.Model):
    """One charge in the provider's books. In real life these are somewhere else, behind an API."""

    key = models.CharField("idempotency key", max_length=64, unique=True)
    customer = models.CharField(max_length=100)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    requests = models.PositiveIntegerField(default=0, help_text="How often the shop asked for this one charge.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.amount} of {self.customer}"
