"""The step records: the journal of each run. Written by the checkpoints of `store`."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core.columns import NameField, RowIdField, SparseIndex
from .runs import WorkflowRun


class StepRecord(models.Model):
    """What is known of one step, sleep or wait of a run; its name is its identity there."""

    id = RowIdField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, db_constraint=False, db_index=False, on_delete=models.CASCADE, related_name="records"
    )
    #: Order of storing within the run, from 1.
    seq = models.IntegerField()
    name = NameField(max_length=255)
    kind = models.CharField(max_length=16)
    state = models.CharField(max_length=16)
    #: Recorded attempts: failures, plus the success.
    attempts = models.IntegerField(default=0)
    #: Of the owner that wrote it last.
    epoch = models.IntegerField(default=0)
    result = models.TextField(null=True)
    errors = models.TextField(null=True)
    #: The event that a wait consumed.
    event_id = models.BigIntegerField(null=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("step record")
        verbose_name_plural = _("step records")
        default_permissions = ("view",)
        # What has failed, at least once, is little beside what has not. `models.failing` asks for it.
        indexes = [SparseIndex(fields=["run"], where=models.Q(errors__isnull=False), name="canx_step_failures")]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="canx_step_run_name")]

    def __str__(self) -> str:
        return str(self.name)
