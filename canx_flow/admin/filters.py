"""The filters beside the list of runs. Their choices come from the code and the workers, not from a million rows."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, cast

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import conf, states
from ..core import registry
from ..models import RunQuerySet, Worker
from ..models.conditions import in_queue
from ..states import WorkerState
from . import words

#: Beside the states: all those that have not ended.
UNFINISHED = "unfinished"


class StateFilter(admin.SimpleListFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:  # noqa: ARG002
        return [(UNFINISHED, _("not finished")), *((state, words.RUN_STATES[state]) for state in states.ALL)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        state = self.value()
        if state is None:
            return queryset
        if state == UNFINISHED:
            # Not as the states that they are in: `UnfinishedPaginator` asks for one at a time, and SQLite would go
            # through the index of all of them for each.
            return queryset.exclude(state__in=states.ENDED)
        return cast(RunQuerySet, queryset).states(state)


class _NameFilter(admin.SimpleListFilter, ABC):
    """One column, and the names that the code knows for it; the one asked for is always among them."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        names = {*self.names(), *filter(None, [self.value()])}
        return [(name, name) for name in sorted(names)]

    @abstractmethod
    def names(self) -> Iterable[str]:
        """Return the names that the code knows."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        name = self.value()
        return queryset if name is None else queryset.filter(self.condition(name))

    def condition(self, name: str) -> Q:
        return Q(**{str(self.parameter_name): name})


class WorkflowFilter(_NameFilter):
    title = _("workflow")
    parameter_name = "workflow"

    def names(self) -> Iterator[str]:
        return (name for name, _version in registry.identities())


class QueueFilter(_NameFilter):
    title = _("queue")
    parameter_name = "queue"

    def condition(self, name: str) -> Q:
        return in_queue(name)

    def names(self) -> Iterator[str]:
        """Yield the queues of the workflows here, and those that live workers listen to."""
        for name, version in registry.identities():
            workflow = registry.get(name, version)
            if workflow is not None:
                yield workflow.queue
        alive = Worker.objects.using(conf.get().database).filter(state=WorkerState.ALIVE)
        for queues in alive.values_list("queues", flat=True):
            yield from json.loads(queues)
