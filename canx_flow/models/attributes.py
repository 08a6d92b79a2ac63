"""What runs are found by: their attributes, as numbers. Written by `store/attributes`, deleted with the run."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..core.columns import RowIdField
from .runs import WorkflowRun


class RunAttribute(models.Model):
    """One attribute of a run, for `with_attributes` where the database has no index for JSON: SQLite, MySQL, MariaDB.

    On PostgreSQL, which has one, there are no rows. `WorkflowRun.attributes` says what they are.
    """

    id = RowIdField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, db_constraint=False, db_index=False, on_delete=models.CASCADE, related_name="+"
    )
    #: Of its name and value: `core.entries.entry`.
    entry = models.BigIntegerField()

    class Meta:
        verbose_name = _("run attribute")
        verbose_name_plural = _("run attributes")
        default_permissions = ()
        indexes = [
            models.Index(fields=["entry", "run"], name="canx_attribute_entry"),
            models.Index(fields=["run"], name="canx_attribute_run"),
        ]

    def __str__(self) -> str:
        return f"{self.entry} {self.run_id}"
