"""What was done to each run, and by whom. Written by `store/history`, deleted with the run."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core.columns import NameField, RowIdField
from .runs import WorkflowRun


class RunHistory(models.Model):
    """A control call that changed a run, or something that the engine did to it beyond its ordinary way.

    What every run does, which is to be claimed, to sleep, to wake and to complete, is told by its own columns and by
    its steps', and has no row here. Neither has an event that code sent: the event is one.
    """

    id = RowIdField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, db_constraint=False, db_index=False, on_delete=models.CASCADE, related_name="history"
    )
    at = models.DateTimeField()
    #: `people` or `engine`.
    actor = models.CharField(max_length=8)
    #: The name that a control call gave; of the engine, the worker that had the run, as far as one had it.
    by = NameField(max_length=255, blank=True, default="")
    #: From where the call came: admin, terminal, code; empty for the engine.
    channel = models.CharField(max_length=16, blank=True, default="")
    verb = models.CharField(max_length=32)
    #: The state after it, where that is always the same.
    state = models.CharField(max_length=16, blank=True, default="")
    #: The first 2,000 characters.
    reason = models.TextField(blank=True, default="")
    #: What the verb was about: the other run of a fork or rerun, the event that was sent, how often it was recovered.
    detail = models.TextField(blank=True, default="")

    class Meta:
        verbose_name = _("history of a run")
        verbose_name_plural = _("history of runs")
        default_permissions = ()
        indexes = [models.Index(fields=["run", "id"], name="canx_history_run")]

    def __str__(self) -> str:
        return f"{self.verb} {self.run_id}"
