"""What a step may do to a database, to be counted afterwards. Without migrations: made by `--run-syncdb`."""

from __future__ import annotations

from django.db import models


class Effect(models.Model):
    """One row per deed of a step. `once` may be taken by one row only: the second breaks on it."""

    name = models.CharField(max_length=200)
    value = models.TextField(default="")
    once = models.CharField(max_length=200, null=True, unique=True)

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


class Watch(models.Model):
    """Refers to some runs only. By a hidden relation: from a run nothing leads here, not even its deletion."""

    run = models.ForeignKey(
        "canx_flow.WorkflowRun", models.DO_NOTHING, null=True, related_name="+", db_constraint=False,
        limit_choices_to={"workflow__startswith": "admin."},
    )  # fmt: skip

    def __str__(self) -> str:
        return str(self.run_id)
