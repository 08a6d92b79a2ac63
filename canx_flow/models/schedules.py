"""The schedules, each with its next tick. Declared ones are written by `store/schedules`, ticks by `store/ticks`."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ..core.clock import now
from ..core.columns import NameField, PartialIndex
from .runs import WorkflowRun


class Schedule(models.Model):
    """When a workflow is started again and again. Code declares most of them; others are made in the admin."""

    #: Where it was made: in code, so that it ticks while a live worker declares it, or in the admin.
    CODE, ADMIN = "code", "admin"

    id = models.BigAutoField(primary_key=True)
    name = NameField(max_length=200, unique=True)
    origin = models.CharField(max_length=8, default=CODE)
    workflow = NameField(max_length=200)
    version = NameField(max_length=100, blank=True, default="")
    arguments = models.TextField(default="[[],{}]")
    #: The rest of the declaration, as JSON: see `core.schedules`.
    spec = models.TextField()
    #: The moment that names the next tick, and when that is due, which may be later by its share of the window.
    nominal_at = models.DateTimeField(null=True)
    next_at = models.DateTimeField(null=True)
    #: When a worker looks at it next: at the next tick, or sooner while ticks wait for a run's end. `None` while it is
    #: paused, and while no live worker declares it.
    due_at = models.DateTimeField(null=True)
    #: The moment of the last tick that started a run, and the last run, which may also be one that was triggered.
    last_at = models.DateTimeField(null=True)
    last_run = models.ForeignKey(
        WorkflowRun, null=True, db_constraint=False, db_index=False, on_delete=models.DO_NOTHING, related_name="+"
    )
    #: Moments of ticks that wait until the run before has ended: JSON.
    buffered = models.TextField(default="[]")
    #: Ticks that started no run since one did last: how many, since when, why the last of them, and which run was in
    #: its way; and how many there were ever.
    skipped = models.IntegerField(default=0)
    skipped_since = models.DateTimeField(null=True)
    skip_reason = models.CharField(max_length=16, blank=True, default="")
    skip_holder = models.UUIDField(null=True)
    skipped_ever = models.IntegerField(default=0)
    paused = models.BooleanField(default=False)
    paused_by = models.CharField(max_length=255, blank=True, default="")
    paused_at = models.DateTimeField(null=True)
    note = models.TextField(blank=True, default="")
    #: Since when no live worker declares it.
    orphaned_at = models.DateTimeField(null=True)
    #: Rises with every change; every write names it.
    revision = models.IntegerField(default=0)
    created_at = models.DateTimeField(default=now)

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        default_permissions = ("view",)
        permissions = [("manage_schedule", "Can manage schedule")]
        indexes = [
            PartialIndex(fields=["due_at"], where=Q(due_at__isnull=False), name="canx_schedule_due"),
            PartialIndex(fields=["last_run"], where=Q(last_run__isnull=False), name="canx_schedule_last_run"),
        ]

    def __str__(self) -> str:
        return str(self.name)
