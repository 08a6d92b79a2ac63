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
