"""The runs, and the queryset by which projects find them. Written by `store`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .. import states
from ..core.clock import now
from ..core.columns import HasEntry, HasNoted, NameField, OneOfFew, PartialIndex
from ..core.current import refuse_in_body
from ..core.identity import subject_reference, uuid7
from ..core.naming import shown
from ..core.options import checked_filter
from ..core.twins import twin
from .conditions import (
    DEFAULT_QUEUE,
    HAS_ERROR,
    HAS_OWNER,
    HAS_PRINT,
    HAS_SUBJECT,
    OTHER_QUEUE,
    UNUSUAL,
    about,
    in_states,
)
from .workers import Worker

#: What people may do to a run, each with a permission of its own.
_VERBS = ("cancel", "retry", "rerun", "fork", "pause", "resume", "wake")
#: Of how many attributes a query asks `RunAttribute`: MariaDB joins 61 tables at most.
_MOST_NOTED = 8


def state_choices() -> list[tuple[str, str]]:
    return [(state, state) for state in states.ALL]


class RunQuerySet(models.QuerySet["WorkflowRun"]):
    """Runs, filtered as people ask for them; the two bulk verbs go through `client`."""

    #: The database that it was told to use, if it was: Django's own, and unknown to its stubs.
    _db: str | None

    def states(self, *wanted: str) -> RunQuerySet:
        """Find the runs that are in one of these states."""
        refuse_in_body("states")
        if unknown := [state for state in wanted if state not in states.ALL]:
            raise ValueError(f"there is no state {shown(unknown[0])}: one of {', '.join(states.ALL)}")
        if wanted != (states.RUNNING,):
            return self.filter(in_states(*wanted)) if wanted else self.none()
        # Few, and found by their owners: else SQLite would go through all runs in the order that is asked for.
        running = self.model._base_manager.using(self._db).filter(HAS_OWNER, state=states.RUNNING)
        return self.filter(OneOfFew("id", running.values("id")))

    def for_subject(self, subject: models.Model) -> RunQuerySet:
        """Find the runs that were started with `using(subject=…)` for this object."""
        refuse_in_body("for_subject")
        label, key = subject_reference(subject)
        return self.filter(about(label, key))

    def with_attributes(self, /, **values: Any) -> RunQuerySet:
        """Filter as `RunQuerySet.with_attributes` does.

        ValueError for what cannot be an attribute, and for an int beyond 64 bits.
        """
        refuse_in_body("with_attributes")
        checked_filter(values)
        noted = [HasNoted("id", name, value) for name, value in islice(values.items(), _MOST_NOTED)]
        return self.filter(*noted, *(HasEntry("attributes", name, value) for name, value in values.items()))

    def cancel(self, reason: str = "", *, undo: bool = True, by: Any = None) -> dict[str, int]:
        """Cancel every run of this queryset, in batches; return how many met each outcome."""
        from .. import client

        return client.bulk_cancel(self, reason, undo=undo, by=by)

    cancel.alters_data = True  # type: ignore[attr-defined]

    acancel = twin(cancel)  # Which has `alters_data`, too, as everything that it wraps has.

    def retry(self, reason: str = "", *, by: Any = None) -> dict[str, int]:
        """Retry every failed run of this queryset, in batches; return how many met each outcome."""
        from .. import client

        return client.bulk_retry(self, reason, by=by)

    retry.alters_data = True  # type: ignore[attr-defined]

    aretry = twin(retry)


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
    queue = NameField(max_length=100, default=DEFAULT_QUEUE)
    priority = models.SmallIntegerField(default=0)
    #: Runs of one partition share its queue's limits for each. To MySQL, PARTITION is a word of its own.
    partition = NameField(max_length=255, null=True, blank=True, db_column="partition_key")
    key = NameField(max_length=255, null=True, blank=True)
    state = models.CharField(max_length=16, default=states.PENDING, choices=state_choices)
    #: May be claimed: pending, or stopping without an owner and without a timer that its undo waits for.
    ready = models.BooleanField(default=True)
    reason = models.TextField(blank=True, default="")
    #: How a stopping run will end.
    ending = models.CharField(max_length=16, blank=True, default="")
    #: A step with `compensate` was called or is on record: before its end there may be something to undo. Stored before
    #: the first such call, so that a cancel or a deadline which finds it False may end the run at once.
    has_undo = models.BooleanField(default=False)
    owner = models.ForeignKey(
        Worker, null=True, db_constraint=False, db_index=False, on_delete=models.DO_NOTHING, related_name="runs"
    )
    #: Rises with every claim, recovery and end not made by the owner; every owner's write names it.
    epoch = models.IntegerField(default=0)
    #: How often its body has begun anew by `continue_as_new`.
    generation = models.IntegerField(default=0)
    #: When it has last done so.
    continued_at = models.DateTimeField(null=True)
    #: Of the workflow's function, as it was when the run was started; and whether it went on with another one since.
    fingerprint = models.CharField(max_length=64, blank=True, default="")
    code_changed = models.BooleanField(default=False)
    #: Since the last stored record: crashes of the owner, and hand-backs because of an outage.
    recoveries = models.IntegerField(default=0)
    outages = models.IntegerField(default=0)
    arguments = models.TextField(default="[[],{}]")
    result = models.TextField(null=True)
    error = models.TextField(null=True)
    #: Of the error, or of the last attempt of the step that failed; and a hash of that and of its message's pattern
    #: (`core.failures.kind_of`), by which runs that failed alike are found.
    error_type = NameField(max_length=200, null=True, editable=False)
    error_print = models.CharField(max_length=16, null=True, editable=False)
    attributes = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    #: Those with which it was started, or with which its generation has begun.
    first_attributes = models.TextField(null=True)
    progress = models.TextField(null=True)
    subject_type = models.CharField(max_length=200, blank=True, default="")
    subject_id = NameField(max_length=255, blank=True, default="")
    parent = models.ForeignKey(
        "self", null=True, db_constraint=False, db_index=False, on_delete=models.DO_NOTHING, related_name="children"
    )
    #: The run whose records this one was given, and the step before which they end: empty for a run that began anew.
    forked_from = models.ForeignKey(
        "self", null=True, db_constraint=False, db_index=False, on_delete=models.DO_NOTHING, related_name="forks"
    )
    forked_at = NameField(max_length=255, blank=True, default="")
    #: The run in whose place a fork derives its UUIDs and random numbers, so that what it was given replays the same.
    seed = models.UUIDField(null=True, editable=False)
    #: A child that goes on where its parent is cancelled.
    abandoned = models.BooleanField(default=False)
    #: What `using` has set of `core.policies`, as JSON; `None` for most. Its end does more for a run that has any.
    policies = models.TextField(null=True, editable=False)
    #: Seconds from the first activation to the deadline.
    timeout = models.FloatField(null=True)
    deadline_at = models.DateTimeField(null=True)
    #: Of a run that a schedule started: the moment that its tick is named by.
    scheduled_for = models.DateTimeField(null=True)
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
        permissions = [
            ("view_payloads", "Can view values, errors, attributes, progress and events of workflow runs"),
            ("start_run", "Can start workflow run"),
            *((f"{verb}_run", f"Can {verb} workflow run") for verb in _VERBS),
            ("send_event", "Can send event"),
        ]
        indexes = [
            # What lists ask for, the newest first. Each write of a run is a write to every index that has it, so these
            # leave out what most runs have; ids begin with the time, so "since" is a range of each.
            models.Index(fields=["workflow", "id"], name="canx_run_workflow"),
            PartialIndex(fields=["state", "id"], where=UNUSUAL, name="canx_run_unusual"),
            PartialIndex(fields=["queue", "id"], where=OTHER_QUEUE, name="canx_run_queue"),
            # To find a run by its key; `RunKey` is what makes keys unique.
            PartialIndex(fields=["key"], where=Q(key__isnull=False), name="canx_run_key"),
            PartialIndex(fields=["queue", "-priority", "id"], where=Q(ready=True), name="canx_run_ready_queue"),
            # Each is for the queries that say what holds for every run, `epoch >= 0` or `generation >= 0`: else
            # PostgreSQL, as long as it believes that nothing is ready, takes any index of ready runs for any question
            # about them, and reads it from end to end.
            PartialIndex(fields=["-priority", "id"], where=Q(ready=True, epoch__gte=0), name="canx_run_ready"),
            PartialIndex(
                fields=["workflow", "version", "-priority", "id", "queue"],
                where=Q(ready=True, generation__gte=0),
                name="canx_run_ready_code",
            ),
            PartialIndex(
                fields=["queue", "partition", "-priority", "id"],
                where=Q(ready=True, partition__isnull=False),
                name="canx_run_ready_partition",
            ),
            # From the third recovery on: store.db.ready.ALONE_FROM.
            PartialIndex(fields=["recoveries"], where=Q(recoveries__gte=3), name="canx_run_alone"),
            PartialIndex(fields=["error_type", "id"], where=HAS_ERROR, name="canx_run_error"),
            PartialIndex(fields=["error_print", "id"], where=HAS_PRINT, name="canx_run_error_print"),
            PartialIndex(fields=["owner"], where=Q(owner__isnull=False), name="canx_run_owner"),
            PartialIndex(fields=["workflow", "version", "id"], where=Q(state=states.PARKED), name="canx_run_parked"),
            PartialIndex(fields=["parent", "id"], where=Q(parent__isnull=False), name="canx_run_parent"),
            PartialIndex(fields=["seed"], where=Q(seed__isnull=False), name="canx_run_seed"),
            PartialIndex(fields=["forked_from", "id"], where=Q(forked_from__isnull=False), name="canx_run_forked_from"),
            PartialIndex(fields=["subject_type", "subject_id"], where=HAS_SUBJECT, name="canx_run_subject"),
            # On PostgreSQL the first migration adds canx_run_attributes: GIN, over the runs that have any. Elsewhere
            # there is `RunAttribute`.
        ]

    def __str__(self) -> str:
        return f"{self.workflow} {self.id}"

    @property
    def subject(self) -> models.Model | None:
        """The object this run was started for, read anew; `None` if there is none or it is gone."""
        from ..core.identity import find_subject

        return find_subject(self.subject_type, self.subject_id)
