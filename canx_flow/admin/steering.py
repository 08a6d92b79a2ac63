"""*Change* a queue: pause and resume it with a reason, set its limits. From the page of queues, by a form and a POST.

Mixed into the admin of runs. An empty field leaves a limit to the settings. `pausing` does the same for workflows.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from .. import conf
from ..client import queues
from ..core import channel, naming
from ..core.pretty import printable
from ..core.queue_limits import AS_SETTINGS, NAMES, checked
from ..models import Queue
from . import answering, audit

if TYPE_CHECKING:
    from .acting import ActingMixin as _Base
else:
    _Base = object

_PERMISSION = "canx_flow.manage_queue"
#: What stands in a field for no limit at all.
_NONE = "none"


def _limit(label: Any, help_text: Any = "") -> forms.CharField:
    widget = AdminTextInputWidget(attrs={"placeholder": gettext_lazy("as the settings say")})
    return forms.CharField(
        label=label, help_text=help_text, required=False, max_length=40, widget=widget, show_hidden_initial=True
    )


class QueueForm(forms.Form):
    """Whether it is paused, why, and its limits as an operator has set them.

    With each goes what the page has shown: only what differs from that was changed by the person who sends it.
    """

    paused = forms.BooleanField(
        label=gettext_lazy("Paused"),
        help_text=gettext_lazy("Nothing more is claimed from it. What is under way goes on."),
        required=False,
        show_hidden_initial=True,
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        help_text=gettext_lazy("Optional. Shown with the queue while it is paused."),
        required=False,
        max_length=500,
        widget=AdminTextInputWidget(attrs={"autofocus": True}),
    )
    concurrency = _limit(gettext_lazy("At once"), gettext_lazy("Runs that workers own at a moment. “none”: no limit."))
    per_worker = _limit(gettext_lazy("At once in one worker"))
    rate = _limit(gettext_lazy("Rate"), gettext_lazy("Runs that begin, such as 100/m or 5/s."))
    partition_concurrency = _limit(gettext_lazy("At once of each partition"))
    partition_rate = _limit(gettext_lazy("Rate of each partition"))
    aging = _limit(
        gettext_lazy("Share of the oldest"), gettext_lazy("From 0 to 1: claimed by age, whatever its priority.")
    )

    def clean(self) -> dict[str, Any]:
        """Read each limit; say of which it cannot be."""
        found: dict[str, Any] = super().clean() or {}
        for name in NAMES:
            try:
                found[name] = _read(name, found.get(name, ""))
            except (TypeError, ValueError) as exc:
                self.add_error(name, str(exc))
        return found


class SteeringMixin(_Base):
    """The page `queues/<name>/change/`, and what is asked before a workflow is paused, too."""

    queue_template = "admin/canx_flow/queue.html"

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_queue"
        view = self.admin_site.admin_view(self.queue_view)
        return [path("queues/<path:name>/change/", view, name=name), *super().get_urls()]

    def has_manage_queue_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may pause and resume queues and workflows, and limit queues."""
        return bool(request.user.has_perm(_PERMISSION)) and self.has_view_permission(request)

    def queue_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask on GET, act on POST."""
        back = self.queues_url()
        if (refused := answering.refused(request, self.has_manage_queue_permission(request))) is not None:
            return refused
        try:
            naming.checked(name, "the name of a queue", 100)
        except ValueError:
            self.message_user(request, _("There is no such queue."), messages.WARNING)
            return HttpResponseRedirect(back)
        row = Queue.objects.using(conf.get().database).filter(name=name).first() or Queue(name=name)
        form = QueueForm(request.POST if request.method == "POST" else None, initial=_initial(row))
        if form.is_valid():
            done = self._steer(request, row, form.cleaned_data, form.changed_data)
            answering.say(self, request, done, _("Queue {queue} was changed.").format(queue=printable(name)))
            return HttpResponseRedirect(back)
        declared = json.loads(row.declared)
        payloads = self.has_payloads_permission(request)  # type: ignore[attr-defined]
        more = {
            "title": _("Change a queue"), "form": form, "queue": printable(name), "back": back, "yes": _("Save"),
            "paused": paused(row.paused_by, row.paused_reason if payloads else "") if row.paused else "",
            "declared": ", ".join(f"{option} {value}" for option, value in declared.items()),
        }  # fmt: skip
        return self.ask(request, more, self.queue_template)

    def queues_url(self) -> str:
        """Return the address of the page of queues."""
        return reverse("admin:canx_flow_workflowrun_queues", current_app=self.admin_site.name)

    def _steer(self, request: HttpRequest, row: Queue, given: dict[str, Any], changed: Collection[str]) -> bool:
        """Do what was changed in the form, unless it stands so already; return whether there was anything to be done.

        What was not stays as it is, though another has changed it meanwhile.
        """
        done: list[str] = []
        chosen = json.loads(row.chosen)
        limits = {
            name: given[name] for name in NAMES if name in changed and given[name] != chosen.get(name, AS_SETTINGS)
        }
        with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
            if "paused" in changed and self._hold(request, row.name, given):
                done.append("Paused." if given["paused"] else "Resumed.")
            if limits:
                queues.limits(row.name, by=request.user, **limits)
                done.append(f"Limits: {', '.join(f'{name} {_text(value)}' for name, value in limits.items())}.")
            if done:
                audit.note(request, [row], " ".join(done), given["reason"])
        return bool(done)

    def _hold(self, request: HttpRequest, name: str, given: dict[str, Any]) -> bool:
        """Pause or resume it; return whether it was not so before."""
        if given["paused"]:
            return queues.pause(name, given["reason"], by=request.user)
        return queues.resume(name, by=request.user)


def paused(by: str, reason: str) -> SafeString:
    """Say that something is paused, by whom, and why."""
    return format_html("{}{}", pgettext("state of a queue", "paused"), whose(by, reason))


def whose(by: str, reason: str) -> str:
    """Say by whom something was paused, and why."""
    said = " " + _("by {by}").format(by=printable(by)) if by else ""
    return f"{said}: {printable(reason)}" if reason else said


def _initial(row: Queue) -> dict[str, Any]:
    chosen = json.loads(row.chosen)
    limits = {name: _text(chosen[name]) for name in NAMES if name in chosen}
    return {"paused": row.paused, **limits}


def _text(value: Any) -> str:
    return _NONE if value is None else str(value)


def _read(name: str, text: str) -> Any:
    """Return the value of a field: the settings' if it is empty."""
    text = text.strip()
    if text in ("", AS_SETTINGS):
        return AS_SETTINGS
    if text == _NONE:
        return None
    if "rate" in name:
        return checked(name, text)
    try:
        return checked(name, json.loads(text))
    except json.JSONDecodeError:
        return checked(name, text)
