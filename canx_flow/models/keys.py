"""The idempotency keys, and the names that one run at a time holds. Written by `store/starts`.

A key is deleted with its run, a name is freed when its run ends.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core.columns import NameField
from .runs import WorkflowRun


class RunKey(models.Model):
    """The idempotency key of one run, unique within its workflow; a run without a key has no row here.

    It is stored before its run, in the same transaction. The table is small and apart from the runs', which therefore
    have no unique value beside their id and can be partitioned by time. `WorkflowRun.key` is a copy, to be read.
    """

    #: One row per run at most, found by the run where a key is freed.
    run = models.OneToOneField(
        WorkflowRun, primary_key=True, db_constraint=False, on_delete=models.CASCADE, related_name="+"
    )
    workflow = NameField(max_length=200)
    key = NameField(max_length=255)

    class Meta:
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["workflow", "key"], name="canx_key_workflow_key")]

    def __str__(self) -> str:
        return str(self.key)


class RunSingleton(models.Model):
    """The name of `using(singleton=…)` that a run holds which has not ended, unique within its workflow.

    A table of its own, apart from `RunKey`: a key is kept as long as its run, and the rows here go when their runs end,
    so there are never more than there are such runs at work. Ordinary runs never meet it.
    """

    run = models.OneToOneField(
        WorkflowRun, primary_key=True, db_constraint=False, on_delete=models.CASCADE, related_name="+"
    )
    workflow = NameField(max_length=200)
    key = NameField(max_length=255)

    class Meta:
        verbose_name = _("singleton name")
        verbose_name_plural = _("singleton names")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["workflow", "key"], name="canx_singleton_workflow_key")]

    def __str__(self) -> str:
        return str(self.key)
