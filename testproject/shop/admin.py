"""Orders and subscriptions, to be looked at: both are made on the shop's pages, and moved on by their runs."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from .models import Order, OrderLine, Payment, Subscription


class ReadOnly(admin.ModelAdmin):
    def refused(self, request: HttpRequest, obj: object = None) -> bool:  # noqa: ARG002
        return False

    has_add_permission = has_change_permission = has_delete_permission = refused


class Lines(admin.TabularInline):
    model = OrderLine


@admin.register(Order)
class OrderAdmin(ReadOnly):
    list_display = ["__str__", "customer", "total", "requires_approval", "status", "created_at"]
    list_filter = ["status", "requires_approval"]
    inlines = [Lines]


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnly):
    list_display = ["__str__", "user", "status", "renewals", "created_at"]
    list_filter = ["status"]


@admin.register(Payment)
class PaymentAdmin(ReadOnly):
    list_display = ["__str__", "key", "requests", "created_at"]
