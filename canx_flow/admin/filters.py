"""The filters beside the list of runs. Their choices come from the code, the workers and jumps through indexes, not
from a million rows."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, cast

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .. import conf, states
from ..core import clock, registry
from ..core.columns import OneOfFew
from ..core.identity import first_id_at
from ..core.pretty import printable
from ..insight import distinct, overdue, queues
from ..models import RunQuerySet, Worker
from ..models.conditions import DEFAULT_QUEUE, failed_like, failed_with, in_queue
from ..models.failing import HasFailedAttempts
from ..states import WorkerState
from . import tabs, words
from .counting import CappedPaginator


class StateFilter(admin.SimpleListFilter):
    """One state, or a group of them. The tabs above the list are choices of this filter; it offers the others."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        return [(state, words.RUN_STATES[state]) for state in states.ALL if state not in tabs.LABELS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        state = self.value()
        if state is None or state == tabs.ALL:
            return queryset
        if state == tabs.UNFINISHED:
            # Not as the states that they are in: `PartsPaginator` asks for one at a time, and SQLite would go through
            # the index of all of them for each.
            return queryset.exclude(state__in=states.ENDED)
        if state in tabs.GROUPS:
            return queryset.filter(reduce(or_, tabs.conditions(state)))
        return cast(RunQuerySet, queryset).states(state) if state in states.ALL else queryset.none()

    def choices(self, changelist: Any) -> Iterator[Any]:
        _all, *others = super().choices(changelist)  # Which is a tab, too.
        yield from others


class _NameFilter(admin.SimpleListFilter, ABC):
    """One column, and the names that it may have; the one asked for is always among them."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        names = {**dict.fromkeys(filter(None, [self.value()])), **self.names()}
        return [(name, self._label(name, note)) for name, note in sorted(names.items())]

    @abstractmethod
    def names(self) -> dict[str, Any]:
        """Return the names, each with what is wrong with it; `None` if nothing is."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        name = self.value()
        return queryset if name is None else queryset.filter(self.condition(name))

    def condition(self, name: str) -> Q:
        return Q(**{str(self.parameter_name): name})

    def _label(self, name: str, note: Any) -> Any:
        return printable(name) if note is None else format_lazy("{} ({})", printable(name), note)


class WorkflowFilter(_NameFilter):
    title = _("workflow")
    parameter_name = "workflow"

    def names(self) -> dict[str, Any]:
        """Return those that the code knows, and those that runs have."""
        known = {name for name, _version in registry.identities()}
        stored = distinct.values(conf.get().database, "workflow")
        return {**{name: None if name in known else _("no code") for name in stored}, **dict.fromkeys(known)}


class QueueFilter(_NameFilter):
    title = _("queue")
    parameter_name = "queue"

    def condition(self, name: str) -> Q:
        return in_queue(name)

    def names(self) -> dict[str, Any]:
        """Return the queues of the workflows here, those that live workers listen to, and those that runs are in.

        It is said which of them no worker serves; not of a queue in which nothing is left to do.
        """
        served = [json.loads(queues) for queues in _alive().values_list("queues", flat=True)]
        everywhere = any(not queues for queues in served)
        listened = {queue for queues in served for queue in queues}
        stored = distinct.values(conf.get().database, "queue")
        wanted = {DEFAULT_QUEUE, *_of_code(), *listened}
        if not everywhere:
            wanted |= queues.with_work_left(conf.get().database, [name for name in stored if name not in wanted])
        unserved = set() if everywhere else wanted - listened
        return {name: _("no worker") if name in unserved else None for name in {*wanted, *stored}}


def _alive() -> QuerySet[Worker]:
    return Worker.objects.using(conf.get().database).filter(state=WorkerState.ALIVE)


def _of_code() -> Iterable[str]:
    for name, version in registry.identities():
        workflow = registry.get(name, version)
        if workflow is not None:
            yield workflow.queue


class DueFilter(admin.SimpleListFilter):
    """Runs that may be claimed now; of very many, those that come first. With a queue, of this one."""

    title = pgettext_lazy("filter", "due")
    parameter_name = "due"
    #: Runs that are looked for: a list counts no more.
    most = CappedPaginator.limit + 1

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        return [("now", _("due now"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() != "now":
            return queryset
        queue = request.GET.get(str(QueueFilter.parameter_name))
        due = overdue.ready(conf.get().database, [queue] if queue else ()).order_by("-priority", "id")
        return queryset.filter(OneOfFew("id", due.values("id")[: self.most]))


class ErrorFilter(_NameFilter):
    """The types of the errors with which runs have failed."""

    title = _("error")
    parameter_name = "error_type"
    of_payloads = True

    def names(self) -> dict[str, Any]:
        return dict.fromkeys(distinct.values(conf.get().database, "error_type"))

    def condition(self, name: str) -> Q:
        return failed_with(name)


class AlikeFilter(admin.SimpleListFilter):
    """Runs that have failed alike, by `error_print`. It has no choices of its own: the dashboard leads to it.

    Where `REDACT` hides what errors say, it finds nothing: whether a guess is right would tell it.
    """

    title = _("failed alike")
    parameter_name = "alike"
    of_payloads = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        chosen = self.value()
        return [(chosen, _("as those chosen"))] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        chosen = self.value()
        if not chosen:
            return queryset
        return queryset.none() if conf.get().redact else queryset.filter(failed_like(chosen))


class CreatedFilter(admin.SimpleListFilter):
    """Since when: ids begin with the time, so this is a range of the primary key."""

    title = pgettext_lazy("filter", "created")
    parameter_name = "created"
    _spans = {
        "hour": (_("in the last hour"), timedelta(hours=1)),
        "day": (_("in the last day"), timedelta(days=1)),
        "week": (_("in the last week"), timedelta(days=7)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        return [(name, label) for name, (label, _span) in self._spans.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        chosen = self._spans.get(self.value() or "")
        return queryset if chosen is None else queryset.filter(id__gte=first_id_at(clock.now() - chosen[1]))


class AttemptsFilter(admin.SimpleListFilter):
    """Runs of which a step has failed, be it that it succeeded later."""

    title = _("failed attempts")
    parameter_name = "attempts"
    permission = "canx_flow.view_steprecord"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        return [("failed", _("has failed attempts"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        return queryset.filter(HasFailedAttempts()) if self.value() == "failed" else queryset


class _TypedFilter(admin.SimpleListFilter):
    """One whose value is typed; `example` says how."""

    template = "admin/canx_flow/typed_filter.html"
    example: Any

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        return []

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        others = {name: value for name, value in changelist.get_filters_params().items() if name != self.parameter_name}
        yield {
            "hidden": [(name, value) for name, values in others.items() for value in _several(values)],
            "value": self.value() or "",
            "clear": changelist.get_query_string(remove=[str(self.parameter_name)]),
            "example": self.example,
        }


class PeriodFilter(_TypedFilter):
    """`from..to`: dates or moments in the reader's time zone, of which one may be left out; a date is the whole day."""

    title = _("period")
    parameter_name = "between"
    example = "2026-11-01..2026-11-30"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        if not self.value():
            return queryset
        first, _dots, last = (self.value() or "").partition("..")
        try:
            since, until = _moment(first, timedelta(0)), _moment(last, timedelta(days=1))
        except (OverflowError, ValueError):
            return queryset.none()
        queryset = queryset if since is None else queryset.filter(id__gte=first_id_at(since))
        return queryset if until is None else queryset.filter(id__lt=first_id_at(until))


class AttributeFilter(_TypedFilter):
    """`name=value`; a value that is JSON is what it says, any other is a text."""

    title = _("attribute")
    parameter_name = "attribute"
    example = _("name=value")
    of_payloads = True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        name, found, value = (self.value() or "").partition("=")
        if not found:
            return queryset
        try:
            return cast(RunQuerySet, queryset).with_attributes(**{name.strip(): _typed(value.strip())})
        except (TypeError, ValueError):
            return queryset.none()


def _moment(text: str, day: timedelta) -> datetime | None:
    """Read a moment, or a date: its begin, or with `day` its end. ValueError for what is neither."""
    text = text.strip()
    if not text:
        return None
    if (date := parse_date(text)) is not None:
        return timezone.make_aware(datetime(date.year, date.month, date.day)) + day  # noqa: DTZ001 - made aware
    moment = parse_datetime(text)
    if moment is None:
        raise ValueError(text)
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def _typed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _several(values: Any) -> Iterable[Any]:
    return values if isinstance(values, list) else [values]
