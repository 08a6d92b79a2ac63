"""Values that are too long for their page, at an address of their own: as plain text, to those who may see them.

The pages cut what is long before it is formatted, and link here. Mixed into the admin of runs and of events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path

from ..core import naming
from ..insight import display
from ..insight.display import Shown, ShownError
from ..insight.names import RunNames, payload, workflows_of
from ..models import Event, StepRecord, WorkflowRun
from . import links

if TYPE_CHECKING:
    from .read_only import ReadOnlyMixin as _Base
else:
    _Base = object


class WholeMixin(_Base):
    """An address for each value of an object: `…/value/<what>/`."""

    def get_urls(self) -> list[URLPattern]:
        address = path(
            "<path:object_id>/value/<str:what>/",
            self.admin_site.admin_view(self.value_view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_value",
        )
        return [address, *super().get_urls()]

    def value_view(self, request: HttpRequest, object_id: str, what: str) -> HttpResponse:
        """Show the whole of a value."""
        if not (self.has_view_permission(request) and self.has_payloads_permission(request)):
            raise PermissionDenied
        thing = self.get_object(request, unquote(object_id))
        if thing is None:
            raise Http404(f"there is no {self.opts.verbose_name} {object_id!r}")
        if not (self.has_view_permission(request, thing) and _may(request, thing, what)):
            raise PermissionDenied
        text = _text(thing, what)
        if text is None:
            raise Http404(f"it has no value {what!r}")
        # Plain text, whatever it holds: no browser may take it for a page.
        return HttpResponse(
            text, content_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"}
        )


def _may(request: HttpRequest, thing: WorkflowRun | Event, what: str) -> bool:
    """Tell whether the user may look at the kind of row that this value is of."""
    kinds = {"step": StepRecord, "attempts": StepRecord, "event": Event}
    kind = kinds.get(what.partition("-")[0]) if isinstance(thing, WorkflowRun) else None
    return kind is None or links.may_look(request.user, kind)


def _text(thing: WorkflowRun | Event, what: str) -> str | None:
    if isinstance(thing, Event):
        return _payload(thing, None) if what == "payload" else None
    name, _dash, number = what.partition("-")
    if number:
        return _of_row(thing, name, int(number)) if number.isascii() and number.isdecimal() else None
    match name:
        case "arguments":
            return str(display.arguments(thing.arguments, RunNames(thing.workflow).arguments, limit=None))
        case "result":
            return _said(display.shown(thing.result, RunNames(thing.workflow).result, limit=None))
        case "attributes":
            return _said(display.value(thing.attributes, RunNames(thing.workflow).attributes, limit=None))
    return None


def _of_row(run: WorkflowRun, name: str, number: int) -> str | None:
    alias = run._state.db
    if name == "event":
        event = Event.objects.using(alias).filter(id=number).first()
        reader = StepRecord.objects.using(alias).filter(run_id=run.id, event_id=number).first()
        # What was sent to other runs is not shown here, unless this one has read it.
        if event is None or (event.run_id != run.id and reader is None):
            return None
        return _payload(event, run)
    record = StepRecord.objects.using(alias).filter(run_id=run.id, id=number).first()
    if record is None:
        return None
    match name:
        case "step":
            return _said(display.shown(record.result, _whose(run, record).of_record(record), limit=None))
        case "attempts":
            return "\n\n".join(map(_attempt, display.step_errors(record.errors, run.workflow, record.name)))
    return None


def _whose(run: WorkflowRun, record: StepRecord) -> RunNames:
    """Return the names of a run's values, with the event that this record has read."""
    alias = run._state.db or "default"
    event = Event.objects.using(alias).filter(id=record.event_id).first() if record.event_id is not None else None
    child = naming.child_of(event.name) if event is not None else None
    events = {event.id: event} if event is not None else {}
    return RunNames(run.workflow, False, events, workflows_of(alias, {child} if child is not None else set()))


def _payload(event: Event, run: WorkflowRun | None) -> str | None:
    if run is None and event.run_id is not None:
        run = WorkflowRun.objects.using(event._state.db).filter(id=event.run_id).only("workflow").first()
    workflow = run.workflow if run is not None and event.run_id is not None else None
    return _said(display.shown(event.payload, payload(event.name, workflow), limit=None))


def _said(shown: Shown | None) -> str | None:
    return None if shown is None else str(shown)


def _attempt(error: ShownError) -> str:
    number = f"attempt {error.attempt}, " if error.attempt is not None else ""
    return f"{number}{error.at.isoformat() if error.at is not None else '?'}: {error.summary}\n{error.traceback}"
