"""What the shop keeps: orders, their lines and parcels, subscriptions, trips, and a payment provider's books."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.urls import reverse


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        CONFIRMED = "confirmed"
        REJECTED = "rejected"
        SHIPPED = "shipped"
        CANCELLED = "cancelled"

    customer = models.CharField(max_length=100)
    email = models.EmailField("e-mail")
    total = models.DecimalField(max_digits=10, decimal_places=2)
    requires_approval = models.BooleanField()
    status = models.CharField(max_length=16, choices=Status, default=Status.PLACED)
    reserved = models.BooleanField(default=False, help_text="Whether its things are set aside.")
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


class Parcel(models.Model):
    """A parcel of an order, packed by the warehouse and handed to the carrier."""

    key = models.CharField("idempotency key", max_length=64, unique=True)
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="parcels")
    content = models.CharField(max_length=150)
    sent = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"Parcel {self.pk}: {self.content}"


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


class Trip(models.Model):
    class Status(models.TextChoices):
        NEW = "new"
        BOOKED = "booked"
        CANCELLED = "cancelled"

    class Destination(models.TextChoices):
        KYOTO = "Kyoto"
        LONDON = "London"
        VENICE = "Venice", "Venice, where no car can be had"

    customer = models.CharField(max_length=100)
    destination = models.CharField(max_length=16, choices=Destination)
    status = models.CharField(max_length=16, choices=Status, default=Status.NEW)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Trip {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("shop:trip", args=[self.pk])


class Payment(models.Model):
    """One charge, or one refund (below zero), in the provider's books. In real life these are behind an API."""

    key = models.CharField("idempotency key", max_length=64, unique=True)
    customer = models.CharField(max_length=100)
    purpose = models.CharField(max_length=100, default="")
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    requests = models.PositiveIntegerField(default=0, help_text="How often the shop asked for this one entry.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.amount} of {self.customer}"
