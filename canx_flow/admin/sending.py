"""*Send an event*: to one run from its page, or to every run that waits, from the list of events.

The form has a new dedup id, so what is sent twice by a double click is stored once. Mixed into the admins of runs and
events.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import client, conf, states
from ..core import channel
from ..exceptions import CanxFlowError
from ..models import Event, Timer, WorkflowRun
from ..states import Kind
from . import answering, audit, confirming, links
from .acting import ActingMixin, Button
from .call_form import TOO_DEEP
from .verbs import ReasonForm, Words

if TYPE_CHECKING:
    from .read_only import ReadOnlyMixin as _Base
else:
    _Base = object

#: States in which a run may still read an event.
_READS = tuple(state for state in states.ALL if state not in (states.COMPLETED, states.CANCELLED))
_PERMISSION = "canx_flow.send_event"

SEND = Words(
    "send",
    gettext_lazy("Send an event"),
    gettext_lazy("Send this run an event"),
    gettext_lazy("Send it"),
)
BROADCAST = Words(
    "send",
    gettext_lazy("Send an event"),
    gettext_lazy("Send an event to every run that waits for it"),
    gettext_lazy("Send it"),
)


class SendForm(ReasonForm):
    """Event, payload and dedup id; of a broadcast the key, too."""

    field_order = ("event", "key", "payload", "dedup_id", "reason")

    event = forms.CharField(label=gettext_lazy("Event"), max_length=255, strip=False, widget=AdminTextInputWidget)
    key = forms.CharField(
        label=gettext_lazy("Key"),
        help_text=gettext_lazy("Empty: for waits without a key."),
        required=False,
        max_length=255,
        strip=False,
        widget=AdminTextInputWidget,
    )
    payload = forms.CharField(
        label=gettext_lazy("Payload"),
        help_text=gettext_lazy("JSON; null if left empty."),
        required=False,
        widget=AdminTextareaWidget(attrs={"rows": 6, "spellcheck": "false", "class": "canx-json"}),
    )
    dedup_id = forms.CharField(
        label=gettext_lazy("Dedup id"),
        help_text=gettext_lazy("Sent again with the same one, the event is not stored again."),
        required=False,
        max_length=255,
        widget=AdminTextInputWidget,
    )

    def __init__(self, data: Any = None, *, run: WorkflowRun | None = None, event: str = "", key: str | None = None):
        """Ask for an event to this run, or to all; where an open wait is meant, its event and key stand fixed."""
        super().__init__(data, runs=() if run is None else [run])
        self.initial = {"event": event, "key": key or "", "payload": "null", "dedup_id": str(uuid4())}
        if event:
            self.fields["event"].widget.attrs["readonly"] = True
            self.fields["key"].widget.attrs["readonly"] = True
        if run is not None and not key:  # Sent to one run, an event is read by any wait for it, whatever its key.
            del self.fields["key"]
        elif run is not None:
            self.fields["key"].help_text = _("Of the wait. Sent to one run, an event needs none.")

    def clean_payload(self) -> Any:
        text = self.cleaned_data["payload"].strip()
        if not text:
            return None
        try:
            return json.loads(text, parse_constant=_no_constant)
        except ValueError as exc:
            raise forms.ValidationError(_("This is no JSON: {error}").format(error=exc)) from None
        except RecursionError:
            raise forms.ValidationError(str(TOO_DEEP)) from None

    def refused(self, exc: Exception) -> None:
        """Put what `client` has refused to the field that it names."""
        about = next((name for name in ("dedup_id", "key", "payload") if name in str(exc)), "event")
        self.add_error(about if about in self.fields else None, str(exc))


class SendingMixin(ActingMixin):
    """The button on a run's page."""

    send_template = "admin/canx_flow/workflowrun/send.html"

    def has_send_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return bool(request.user.has_perm(_PERMISSION)) and self.has_view_permission(request, obj)

    def get_urls(self) -> list[URLPattern]:
        return [self.own_page("send", self.send_view), *super().get_urls()]

    def buttons(self, request: HttpRequest, run: WorkflowRun) -> list[Button]:
        """Add the button where the run may read an event; first where it waits for one."""
        found = super().buttons(request, run)
        if run.state not in _READS or not self.has_send_permission(request, run):
            return found
        button = self.button(run, "send", SEND.texts.label)
        if run.state == states.WAITING:
            return [button, *found]
        place = next((n for n, other in enumerate(found) if other.get("more")), len(found))
        return [*found[:place], {**button, "more": True}, *found[place:]]

    def send_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask on GET, send on POST."""
        return self.with_run(request, object_id, partial(self.has_send_permission, request), self._send)

    def _send(self, request: HttpRequest, run: WorkflowRun) -> HttpResponse:
        wait = _wait(run, request.GET.get("step")) if request.GET.get("step") else None
        event, key = (wait.event or "", wait.key) if wait is not None else ("", None)
        form = SendForm(request.POST if request.method == "POST" else None, run=run, event=event, key=key)
        if form.is_valid():
            said = self._sent(request, run, form)
            if said is not None:
                self.message_user(request, said, messages.SUCCESS)
                return HttpResponseRedirect(self.back(request, run))
        waits = _open_waits(run) if wait is None else []
        if len(waits) == 1:  # A proposal, which may be replaced.
            form.initial["event"] = waits[0].event
        context = {"verb": SEND, "title": str(SEND.question), "run": run, "form": form, "yes": SEND.yes}
        return self.ask(request, {**context, "waits": waits}, self.send_template)

    def _sent(self, request: HttpRequest, run: WorkflowRun, form: SendForm) -> str | None:
        """Send it; say what became of it, `None` if it was refused: then the form says why."""
        given = form.cleaned_data
        name = given["event"]
        try:
            with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
                waits = any(wait.event == name for wait in _open_waits(run))
                stored = client.send(
                    run.pk,
                    name,
                    given["payload"],
                    dedup_id=given["dedup_id"] or None,
                    reason=given.get("reason", ""),
                    by=request.user,
                )
                if stored:
                    audit.note(request, [run], f"Event {name} sent.", given["reason"])
        except (ValueError, TypeError, CanxFlowError) as exc:
            form.refused(exc)
            return None
        return _answer(stored, waits, self._state(request, run))

    def _state(self, request: HttpRequest, run: WorkflowRun) -> str:
        return self.get_queryset(request).filter(pk=run.pk).values_list("state", flat=True).first() or ""


class BroadcastingMixin(_Base):
    """The button above the list of events."""

    broadcast_template = "admin/canx_flow/event/send.html"
    change_list_template = "admin/canx_flow/event/change_list.html"

    def has_send_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(_PERMISSION)) and self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_send"
        return [path("send/", self.admin_site.admin_view(self.send_view), name=name), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = capfirst(self.opts.verbose_name_plural)
        more = {"title": title, "may_send": self.has_send_permission(request), **(extra_context or {})}
        return super().changelist_view(request, more)

    def send_view(self, request: HttpRequest) -> HttpResponse:
        """Ask on GET, send on POST."""
        if (refused := answering.refused(request, self.has_send_permission(request))) is not None:
            return refused
        form = SendForm(request.POST if request.method == "POST" else None)
        if form.is_valid() and self._sent(request, form):
            return HttpResponseRedirect(links.listing(self.admin_site, Event) or "../")
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "media": self.media, "verb": BROADCAST,
            "title": BROADCAST.question, "form": form, "yes": BROADCAST.yes, "writes_title": self.writes_title,
            "crumbs_as_list": confirming.crumbs_as_list(), "back": links.listing(self.admin_site, Event),
        }  # fmt: skip
        return TemplateResponse(request, self.broadcast_template, context)

    def _sent(self, request: HttpRequest, form: SendForm) -> bool:
        given = form.cleaned_data
        key = given["key"] or None
        try:
            with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
                stored = client.send_event(
                    given["event"], given["payload"], key=key, dedup_id=given["dedup_id"] or None
                )
                if stored:
                    event = Event.objects.using(conf.get().database).filter(run=None, name=given["event"])
                    audit.note(request, list(event.order_by("-id")[:1]), "Broadcast.", given["reason"])
        except (ValueError, TypeError, CanxFlowError) as exc:
            form.refused(exc)
            return False
        said = _("Sent: workers hand it to every run that waits for it.") if stored else _ALREADY
        self.message_user(request, str(said), messages.SUCCESS if stored else messages.WARNING)
        return True


_ALREADY = gettext_lazy("It was sent before with this dedup id: nothing was stored again.")


def _answer(stored: bool, waits: bool, state: str) -> str:
    if not stored:
        return str(_ALREADY)
    if not waits:
        return _("Stored; the run does not wait for it yet.")
    if state in (states.PAUSED, states.PARKED):
        return _("Stored: the run reads it when it goes on.")
    return _("Delivered: the run goes on.")


def _open_waits(run: WorkflowRun) -> list[Timer]:
    """Return the run's open waits for events, in the order in which they are served."""
    timers = Timer.objects.using(conf.get().database).filter(run_id=run.pk, kind=Kind.WAIT).order_by("id")
    return list(timers[:50])


def _wait(run: WorkflowRun, step: str | None) -> Timer | None:
    return next((wait for wait in _open_waits(run) if wait.step == step), None)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
