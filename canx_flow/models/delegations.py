"""The attempts of delegated steps: which executor has which task, since when, and on which worker of its own."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core.columns import NameField
from ..states import DelegationState
from .runs import WorkflowRun


class Delegation(models.Model):
    """One attempt of a delegated step, from its commit on. Written by `store/delegations`; deleted with its run."""

    #: The id of the message, too: derived from the run, the step and the attempt.
    token = models.UUIDField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, db_constraint=False, db_index=False, on_delete=models.CASCADE, related_name="delegations"
    )
    #: The step's whole key.
    step = NameField(max_length=255)
    attempt = models.IntegerField()
    executor = models.CharField(max_length=100)
    #: As the executor describes it.
    task = models.CharField(max_length=255)
    state = models.CharField(max_length=16, default=DelegationState.OUT)
    #: Seconds of silence after which a started task counts as lost.
    heartbeat = models.FloatField()
    created_at = models.DateTimeField()
    #: When it was last dispatched again, and how often that was.
    again_at = models.DateTimeField(null=True)
    again = models.IntegerField(default=0)
    started_at = models.DateTimeField(null=True)
    #: Which of the executor's workers has started it.
    worker = models.CharField(max_length=255, default="")
    beat_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    #: Of the event by which its run was told what it has come to.
    event_id = models.BigIntegerField(null=True)
    #: Why it was given up; of one that is out, what the last dispatch has met.
    reason = models.TextField(default="")
    #: What came after it was given up: as the event would have told it. Read by no run.
    late = models.TextField(null=True)

    class Meta:
        verbose_name = _("delegation")
        verbose_name_plural = _("delegations")
        default_permissions = ()
        indexes = [models.Index(fields=["run", "step"], name="canx_delegation_run_step")]

    def __str__(self) -> str:
        return f"{self.step} {self.task}".strip()
