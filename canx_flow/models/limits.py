"""The limits of steps: what is reserved of each rate, and who holds a place. Written by `store/limits`."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core.columns import NameField, RowIdField
from .runs import WorkflowRun


class LimitBucket(models.Model):
    """One bucket of a limit: locked by whoever admits steps to it. It may be deleted once its moment has passed."""

    id = RowIdField(primary_key=True)
    name = NameField(max_length=255)
    #: Of the step's `limit=(name, key)`; empty where it names none.
    key = NameField(max_length=255, blank=True, default="")
    #: Up to which moment its rate is reserved, in microseconds since 1970.
    tat = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("limit")
        verbose_name_plural = _("limits")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["name", "key"], name="canx_limit_name_key")]

    def __str__(self) -> str:
        return f"{self.name} {self.key}".strip()


class LimitHolder(models.Model):
    """A call that has a place in a bucket, as long as a worker has its run under this epoch.

    It is deleted with the step's record. Whatever else ends the call takes the owner from the run, or raises the epoch:
    then the row counts for nothing, and the next look at its bucket deletes it.
    """

    id = RowIdField(primary_key=True)
    name = NameField(max_length=255)
    key = NameField(max_length=255, blank=True, default="")
    run = models.ForeignKey(WorkflowRun, db_constraint=False, on_delete=models.CASCADE, related_name="+")
    step = NameField(max_length=255)
    epoch = models.IntegerField()
    since = models.DateTimeField()

    class Meta:
        verbose_name = _("place in a limit")
        verbose_name_plural = _("places in limits")
        default_permissions = ()
        indexes = [models.Index(fields=["name", "key"], name="canx_holder_name_key")]

    def __str__(self) -> str:
        return f"{self.name} {self.step}".strip()
