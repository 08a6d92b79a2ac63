"""*Start a run*: a form on the page of a workflow, and on a page of its own where something is wrong with it.

Mixed into the admin of runs. The form has a new key, so what is sent twice by a double click is started once.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import client, conf
from ..core import channel, registry
from ..core.pretty import printable
from ..exceptions import AlreadyStarted, CanxFlowError
from . import answering, audit, links
from .acting import ActingMixin
from .start_form import StartForm
from .verbs import Words

START = Words(
    "start",
    gettext_lazy("Start a run"),
    gettext_lazy("Start a run"),
    gettext_lazy("Start it"),
)


class StartingMixin(ActingMixin):
    """An address for each workflow that the code knows: `start/<name>/`."""

    start_template = "admin/canx_flow/start.html"

    def has_start_permission(self, request: HttpRequest) -> bool:
        return self._may(request, "start_run", None)

    def get_urls(self) -> list[URLPattern]:
        # Not below `workflows/<name>/`: a name may have a slash, and end with anything.
        view, name = self.admin_site.admin_view(self.start_view), f"{self.opts.app_label}_{self.opts.model_name}_start"
        return [path("start/<path:name>/", view, name=name), *super().get_urls()]

    def start_context(self, request: HttpRequest, name: str) -> dict[str, Any]:
        """Return what the page of a workflow draws the form with; nothing for who may not start a run of it."""
        if not (_is_known(name) and self.has_start_permission(request)):
            return {}
        return {"form": StartForm(name=name), "start_url": self._start_url(name), "verb": START}

    def start_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask on GET, start on POST."""
        if (refused := answering.refused(request, self.has_start_permission(request))) is not None:
            return refused
        if not _is_known(name):
            raise Http404(_("The code here knows no such workflow."))
        form = StartForm(request.POST if request.method == "POST" else None, name=name)
        if form.is_valid() and (run_id := self._started(request, form)) is not None:
            return HttpResponseRedirect(links.page(self.admin_site, self.model, run_id) or self.back(request, None))
        about = reverse(self._named("workflow"), args=[name], current_app=self.admin_site.name)
        context = {
            **self.start_context(request, name), "form": form, "title": printable(name), "back": about,
            "workflow_url": about,
        }  # fmt: skip
        return self.ask(request, context, self.start_template)

    def _started(self, request: HttpRequest, form: StartForm) -> UUID | None:
        """Start it, or find what was started with its key; `None` if it was refused: then the form says why."""
        reason = form.cleaned_data["reason"]
        try:
            with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
                run_id = client.start(form.workflow, *form.call, form.start_options, reason, by=request.user)
                audit.note(request, [self.get_queryset(request).get(pk=run_id)], "Started.", reason)
        except AlreadyStarted as there:
            said = _("It was started before with this key: no other run was started.")
            self.message_user(request, said, messages.WARNING)
            return UUID(str(there.run_id))
        except (ValueError, TypeError, CanxFlowError) as exc:
            form.refused(exc)
            return None
        told = format_html(_("Started: {run}"), run=links.run_link(self.admin_site, run_id))
        self.message_user(request, told, messages.SUCCESS)
        return run_id

    def _start_url(self, name: str) -> str:
        return reverse(self._named("start"), args=[name], current_app=self.admin_site.name)

    def _named(self, what: str) -> str:
        return f"admin:{self.opts.app_label}_{self.opts.model_name}_{what}"


def _is_known(name: str) -> bool:
    return any(known == name for known, _version in registry.identities())
