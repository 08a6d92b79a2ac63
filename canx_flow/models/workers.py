"""The workers, each with its lease. Written by `store/leases`."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from .. import states
from ..core.clock import now


class Worker(models.Model):
    """A worker process and its lease: the heartbeat counter that every other worker watches."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200, blank=True, default="")
    state = models.CharField(max_length=16, default=states.WorkerState.ALIVE)
    host = models.CharField(max_length=255, default="")
    pid = models.IntegerField(default=0)
    #: Which machine and which PID namespace `pid` means: only where both are ours may we look it up.
    boot_id = models.CharField(max_length=64, default="")
    pid_namespace = models.CharField(max_length=64, default="")
    process_started = models.CharField(max_length=32, default="")
    queues = models.TextField(default="[]")
    workflows = models.TextField(default="[]")
    #: The names of the schedules that it declares; of a worker from before there were any, `None`.
    schedules = models.TextField(null=True)
    concurrency = models.IntegerField(default=0)
    version = models.CharField(max_length=32, default="")
    beat = models.BigIntegerField(default=0)
    beat_at = models.DateTimeField(default=now)
    started_at = models.DateTimeField(default=now)
    ended_at = models.DateTimeField(null=True)
    socket = models.CharField(max_length=255, default="")
    #: What it is doing now, as of the last heartbeat: JSON, run id → {"step": …, "progress": …}.
    activity = models.TextField(default="{}")
    abandoned = models.IntegerField(default=0)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ("view",)
        indexes = [models.Index(fields=["state"], name="canx_worker_state")]

    def __str__(self) -> str:
        return self.name or f"{self.host}:{self.pid}"
