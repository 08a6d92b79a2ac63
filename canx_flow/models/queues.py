"""The queues that have limits or are paused, and the workflows that are paused. Written by `store/queues`."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core.clock import now
from ..core.columns import NameField
from ..core.queue_limits import Limits, in_force


class Queue(models.Model):
    """What is known of a queue: its limits, and whether it is paused. A queue without a row has neither."""

    name = NameField(max_length=100, primary_key=True)
    #: What the settings say, and what an operator has set: JSON objects of options. An operator's value holds, also
    #: `null`, which is no limit; a deploy changes the other only.
    declared = models.TextField(default="{}")
    chosen = models.TextField(default="{}")
    #: It has limits or is paused, so claims for all queues leave it out.
    apart = models.BooleanField(default=False)
    paused = models.BooleanField(default=False)
    paused_reason = models.TextField(blank=True, default="")
    paused_by = models.CharField(max_length=255, blank=True, default="")
    paused_at = models.DateTimeField(null=True)
    #: How many runs were first claimed of late: `core.windows.Window`.
    window = models.TextField(blank=True, default="")

    class Meta:
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        default_permissions = ("view",)
        permissions = [("manage_queue", "Can pause, resume and limit queues and workflows")]

    def __str__(self) -> str:
        return str(self.name)

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return in_force(self.declared, self.chosen)


class PausedWorkflow(models.Model):
    """A workflow, by its name, of which no run is claimed."""

    workflow = NameField(max_length=200, primary_key=True)
    reason = models.TextField(blank=True, default="")
    by = models.CharField(max_length=255, blank=True, default="")
    at = models.DateTimeField(default=now)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.workflow)


class PartitionWindow(models.Model):
    """How many runs of one partition of a queue were first claimed of late. Deleted when its window has passed."""

    queue = NameField(max_length=100)
    partition = NameField(max_length=255, db_column="partition_key")
    window = models.TextField()
    #: When its last count no longer matters, by the clock that counts.
    ends_at = models.FloatField()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["queue", "partition"], name="canx_partition_window")]
        indexes = [models.Index(fields=["queue", "ends_at"], name="canx_partition_window_ends")]

    def __str__(self) -> str:
        return f"{self.queue} {self.partition}"
