"""The row that a step of W9 and W10 writes. Without migrations: made by `--run-syncdb`."""

from __future__ import annotations

from django.db import models


class Row(models.Model):
    name = models.CharField(max_length=200)
    value = models.JSONField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
