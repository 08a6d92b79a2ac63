"""The open waits of suspended runs. Written where a run suspends, deleted where it wakes."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ..core.columns import NameField, PartialIndex
from .runs import WorkflowRun


class Timer(models.Model):
    """An open wait: for a moment, for an event, or for whichever comes first."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, db_constraint=False, db_index=False, on_delete=models.CASCADE, related_name="timers"
    )
    #: The key of the step that waits; empty for a delayed start and for the deadline.
    step = NameField(max_length=255, blank=True, default="")
    kind = models.CharField(max_length=16)
    #: `None`: only the event ends it.
    due_at = models.DateTimeField(null=True)
    #: Its run is paused or parked: it acts when the run goes on.
    held = models.BooleanField(default=False)
    event = NameField(max_length=255, null=True)
    key = NameField(max_length=255, null=True)

    class Meta:
        verbose_name = _("timer")
        verbose_name_plural = _("timers")
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["run", "kind", "step"], name="canx_timer_run_kind_step")]
        indexes = [
            PartialIndex(fields=["due_at"], where=Q(held=False, due_at__isnull=False), name="canx_timer_due"),
            PartialIndex(fields=["event", "key", "id"], where=Q(event__isnull=False), name="canx_timer_event"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.step}".strip()
