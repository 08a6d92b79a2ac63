"""The events sent to runs. Written by `store/events`."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ..core.clock import now
from ..core.columns import NameField, PartialIndex
from .runs import WorkflowRun


class Event(models.Model):
    """A message to one run, or to every run that waits for it (`run` is null). Stored before it is waited for."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, null=True, db_constraint=False, db_index=False, on_delete=models.CASCADE, related_name="events"
    )
    name = NameField(max_length=255)
    key = NameField(max_length=255, null=True)
    payload = models.TextField(default="null")
    dedup_id = NameField(max_length=255, null=True)
    #: What `dedup_id` is unique in, hashed; null without one.
    fingerprint = models.CharField(max_length=64, null=True)
    created_at = models.DateTimeField(default=now)
    #: Nobody needs to look whether it wakes a run any more.
    delivered = models.BooleanField(default=False)
    #: When a worker took a broadcast to deliver it; null: none has.
    seen_at = models.DateTimeField(null=True)
    consumed_by = NameField(max_length=255, null=True)
    consumed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        default_permissions = ("view",)
        # Not `unique=True`: for that PostgreSQL gets another index, for LIKE.
        constraints = [models.UniqueConstraint(fields=["fingerprint"], name="canx_event_fingerprint")]
        indexes = [
            PartialIndex(
                fields=["run", "name", "id"],
                where=Q(run__isnull=False, consumed_at__isnull=True),
                name="canx_event_unread",
            ),
            PartialIndex(
                fields=["name", "key", "created_at", "id"], where=Q(run__isnull=True), name="canx_event_broadcast"
            ),
            PartialIndex(fields=["seen_at", "id"], where=Q(delivered=False), name="canx_event_undelivered"),
        ]

    def __str__(self) -> str:
        return str(self.name)
