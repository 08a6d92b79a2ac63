"""The nouns: a run, its step records, its timers, the events sent to it, and the workers.

Columns, constraints, indexes and read-only scopes. Nothing here changes a row: that is `store`'s work.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, ClassVar

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from . import states
from .core.clock import now
from .core.columns import HasEntry, NameField, PartialIndex, RowIdField
from .core.current import refuse_in_body
from .core.identity import subject_reference, uuid7
from .core.naming import shown
from .core.options import checked_filter


def state_choices() -> list[tuple[str, str]]:
    return [(state, state) for state in states.ALL]


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


class RunQuerySet(models.QuerySet["WorkflowRun"]):
    """Runs, filtered as people ask for them; the two bulk verbs go through `client`."""

    def states(self, *wanted: str) -> RunQuerySet:
        """Runs that are in one of these states."""
        refuse_in_body("states")
        if unknown := [state for state in wanted if state not in states.ALL]:
            raise ValueError(f"there is no state {shown(unknown[0])}: one of {', '.join(states.ALL)}")
        return self.filter(state__in=wanted)

    def for_subject(self, subject: models.Model) -> RunQuerySet:
        """Runs that were started with `using(subject=…)` for this object."""
        refuse_in_body("for_subject")
        label, key = subject_reference(subject)
        return self.filter(subject_type=label, subject_id=key)

    def with_attributes(self, /, **values: Any) -> RunQuerySet:
        """Runs that have every one of these attributes, at most 100, with exactly this value.

        ValueError for what cannot be an attribute, and for an int beyond 64 bits.
        """
        refuse_in_body("with_attributes")
        checked_filter(values)
        return self.filter(*(HasEntry("attributes", name, value) for name, value in values.items()))

    def cancel(self, reason: str = "", *, undo: bool = True, by: Any = None) -> dict[str, int]:
        """Cancel every run of this queryset, in batches; returns how many met each outcome."""
        from . import client

        return client.bulk_cancel(self, reason, undo=undo, by=by)

    cancel.alters_data = True  # type: ignore[attr-defined]

    async def acancel(self, reason: str = "", *, undo: bool = True, by: Any = None) -> dict[str, int]:
        """`cancel` from async code."""
        return await sync_to_async(self.cancel)(reason, undo=undo, by=by)

    acancel.alters_data = True  # type: ignore[attr-defined]

    def retry(self, reason: str = "", *, by: Any = None) -> dict[str, int]:
        """Retry every failed run of this queryset, in batches; returns how many met each outcome."""
        from . import client

        return client.bulk_retry(self, reason, by=by)

    retry.alters_data = True  # type: ignore[attr-defined]

    async def aretry(self, reason: str = "", *, by: Any = None) -> dict[str, int]:
        """`retry` from async code."""
        return await sync_to_async(self.retry)(reason, by=by)

    aretry.alters_data = True  # type: ignore[attr-defined]


if TYPE_CHECKING:

    class RunManager(RunQuerySet, models.Manager["WorkflowRun"]):  # type: ignore[misc]
        """What Django makes of the queryset, which type checkers without its plugin cannot see."""

else:

    class RunManager(models.Manager.from_queryset(RunQuerySet)):
        """`WorkflowRun.objects`: what Django makes of a queryset cannot be given an attribute named `self`."""

        def with_attributes(self, /, **values: Any) -> RunQuerySet:
            """As `RunQuerySet.with_attributes`."""
            return self.all().with_attributes(**values)


class WorkflowRun(models.Model):
    """One run of one workflow: who it is, where it stands, who owns it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workflow = NameField(max_length=200)
    version = NameField(max_length=100, blank=True, default="")
    queue = NameField(max_length=100, default="default")
    priority = models.SmallIntegerField(default=0)
    key = NameField(max_length=255, null=True, blank=True)
    state = models.CharField(max_length=16, default=states.PENDING, choices=state_choices)
    #: May be claimed: pending, or stopping without an owner.
    ready = models.BooleanField(default=True)
    reason = models.TextField(blank=True, default="")
    #: How a stopping run will end.
    ending = models.CharField(max_length=16, blank=True, default="")
    owner = models.ForeignKey(
        Worker, null=True, db_constraint=False, db_index=False, on_delete=models.DO_NOTHING, related_name="runs"
    )
    #: Rises with every claim, recovery and end not made by the owner; every owner's write names it.
    epoch = models.IntegerField(default=0)
    generation = models.IntegerField(default=0)
    #: Since the last stored record: crashes of the owner, and hand-backs because of an outage.
    recoveries = models.IntegerField(default=0)
    outages = models.IntegerField(default=0)
    arguments = models.TextField(default="[[],{}]")
    result = models.TextField(null=True)
    error = models.TextField(null=True)
    attributes = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    first_attributes = models.TextField(null=True)
    progress = models.TextField(null=True)
    subject_type = models.CharField(max_length=200, blank=True, default="")
    subject_id = NameField(max_length=255, blank=True, default="")
    parent = models.ForeignKey(
        "self", null=True, db_constraint=False, db_index=False, on_delete=models.DO_NOTHING, related_name="children"
    )
    #: Seconds from the first activation to the deadline.
    timeout = models.FloatField(null=True)
    deadline_at = models.DateTimeField(null=True)
    #: The last control call from outside, and who made it.
    control = models.CharField(max_length=16, blank=True, default="")
    control_reason = models.TextField(blank=True, default="")
    control_by = models.CharField(max_length=255, blank=True, default="")
    control_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects: ClassVar[RunManager] = RunManager()

    class Meta:
        verbose_name = _("workflow run")
        verbose_name_plural = _("workflow runs")
        default_permissions = ("view",)
        permissions = [("cancel_run", "Can cancel workflow run"), ("retry_run", "Can retry workflow run")]
        constraints = [models.UniqueConstraint(fields=["workflow", "key"], name="canx_run_key")]
        indexes = [
            PartialIndex(
                fields=["ready", "queue", "-priority", "id"], where=Q(ready=True), name="canx_run_ready_queue"
            ),
            PartialIndex(fields=["ready", "-priority", "id"], where=Q(ready=True), name="canx_run_ready"),
            # From the third recovery on: leases.ALONE_FROM.
            PartialIndex(fields=["recoveries"], where=Q(recoveries__gte=3), name="canx_run_alone"),
            PartialIndex(fields=["owner"], where=Q(owner__isnull=False), name="canx_run_owner"),
            PartialIndex(fields=["state", "id"], where=Q(state=states.PARKED), name="canx_run_parked"),
            PartialIndex(fields=["parent"], where=Q(parent__isnull=False), name="canx_run_parent"),
            PartialIndex(fields=["subject_type", "subject_id"], where=~Q(subject_type=""), name="canx_run_subject"),
            # On PostgreSQL the first migration adds canx_run_attributes: GIN, over the runs that have any.
        ]

    def __str__(self) -> str:
        return f"{self.workflow} {self.id}"

    @property
    def subject(self) -> models.Model | None:
        """The object this run was started for, read anew; `None` if there is none or it is gone."""
        from .core.identity import find_subject

        return find_subject(self.subject_type, self.subject_id)


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
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="canx_step_run_name")]

    def __str__(self) -> str:
        return str(self.name)


class Timer(models.Model):
    """An open wait: for a moment, for an event, or for whichever comes first."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, db_constraint=False, db_index=False, on_delete=models.CASCADE, related_name="timers"
    )
    #: The key of the step that waits; empty for a delayed start and for the deadline.
    step = NameField(max_length=255, blank=True, default="")
    kind = models.CharField(max_length=16)
    #: `None`: only the event ends it.
    due_at = models.DateTimeField(null=True)
    #: Its run is paused or parked: it acts when the run goes on.
    held = models.BooleanField(default=False)
    event = NameField(max_length=255, null=True)
    key = NameField(max_length=255, null=True)

    class Meta:
        verbose_name = _("timer")
        verbose_name_plural = _("timers")
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["run", "kind", "step"], name="canx_timer_run_kind_step")]
        indexes = [
            PartialIndex(fields=["held", "due_at"], where=Q(held=False, due_at__isnull=False), name="canx_timer_due"),
            PartialIndex(fields=["event", "key"], where=Q(event__isnull=False), name="canx_timer_event"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.step}".strip()


class Event(models.Model):
    """A message to one run, or to every run that waits for it (`run` is null). Stored before it is waited for."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        WorkflowRun, null=True, db_constraint=False, db_index=False, on_delete=models.CASCADE, related_name="events"
    )
    name = NameField(max_length=255)
    key = NameField(max_length=255, null=True)
    payload = models.TextField(default="null")
    dedup_id = NameField(max_length=255, null=True)
    #: What `dedup_id` is unique in, hashed; null without one.
    fingerprint = models.CharField(max_length=64, null=True, unique=True)
    created_at = models.DateTimeField(default=now)
    #: Nobody needs to look whether it wakes a run any more.
    delivered = models.BooleanField(default=False)
    #: When a worker first saw a broadcast; its fan-out repeats until the lease has passed.
    seen_at = models.DateTimeField(null=True)
    consumed_by = NameField(max_length=255, null=True)
    consumed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        default_permissions = ("view",)
        indexes = [
            PartialIndex(
                fields=["run", "consumed_at"],
                where=Q(run__isnull=False, consumed_at__isnull=True),
                name="canx_event_unread",
            ),
            PartialIndex(fields=["name", "key", "id"], where=Q(run__isnull=True), name="canx_event_broadcast"),
            PartialIndex(fields=["delivered", "id"], where=Q(delivered=False), name="canx_event_undelivered"),
        ]

    def __str__(self) -> str:
        return str(self.name)
