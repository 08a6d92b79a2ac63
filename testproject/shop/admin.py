"""Orders, subscriptions and trips, to be looked at: made on the shop's pages, and moved on by their runs."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from canx_flow.admin import WorkflowRunInline, WorkflowRunsMixin

from .models import Order, OrderLine, Parcel, Payment, Subscription, Trip


class ReadOnly(admin.ModelAdmin):
    def refused(self, request: HttpRequest, obj: object = None) -> bool:  # noqa: ARG002
        return False

    has_add_permission = has_change_permission = has_delete_permission = refused


class Lines(admin.TabularInline):
    model = OrderLine


class Parcels(admin.TabularInline):
    model = Parcel


@admin.register(Order)
class OrderAdmin(WorkflowRunsMixin, ReadOnly):
    list_display = ["__str__", "customer", "total", "requires_approval", "status", "created_at"]
    list_filter = ["status", "requires_approval"]
    inlines = [Lines, Parcels, WorkflowRunInline]


@admin.register(Subscription)
class SubscriptionAdmin(WorkflowRunsMixin, ReadOnly):
    list_display = ["__str__", "user", "status", "renewals", "created_at"]
    list_filter = ["status"]
    inlines = [WorkflowRunInline]


@admin.register(Trip)
class TripAdmin(WorkflowRunsMixin, ReadOnly):
    list_display = ["__str__", "customer", "destination", "status", "created_at"]
    list_filter = ["status"]
    inlines = [WorkflowRunInline]


@admin.register(Payment)
class PaymentAdmin(ReadOnly):
    list_display = ["__str__", "purpose", "requests", "created_at"]
