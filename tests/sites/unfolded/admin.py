"""Orders on unfold's pages, in place of the shop's own admin of them."""

from __future__ import annotations

from django.contrib import admin
from unfold.admin import ModelAdmin

from canx_flow.contrib.unfold.admin import WorkflowRunInline, WorkflowRunsMixin
from shop.models import Order

admin.site.unregister(Order)


@admin.register(Order)
class OrderAdmin(WorkflowRunsMixin, ModelAdmin):  # type: ignore[misc]
    list_display = ("__str__", "customer", "total", "status")
    inlines = (WorkflowRunInline,)
