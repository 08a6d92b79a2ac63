"""*Pause the workflow*, *Resume the workflow*: by its name, whatever the version and queue of its runs.

From the page of the workflow, and from that of queues, which lists those that are paused; by a form and a POST. Mixed
into the admin of runs.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import conf
from ..client import queues
from ..core import channel, naming
from ..core.pretty import printable
from ..models import PausedWorkflow
from . import answering, audit
from .steering import SteeringMixin, paused
from .verbs import ReasonForm, Words

_VERBS = {
    "pause": Words(
        "pause",
        gettext_lazy("Pause the workflow"),
        gettext_lazy("Pause this workflow?"),
        gettext_lazy("Pause the workflow"),
    ),
    "resume": Words(
        "resume",
        gettext_lazy("Resume the workflow"),
        gettext_lazy("Resume this workflow?"),
        gettext_lazy("Resume the workflow"),
    ),
}
_ABOUT = {
    "pause": gettext_lazy("None of its runs is claimed until it is resumed. What is under way goes on."),
    "resume": gettext_lazy("The workflow's runs are claimed again."),
}


class PausingMixin(SteeringMixin):
    """The pages `pause/<workflow>/` and `resume/<workflow>/`."""

    pause_template = "admin/canx_flow/pause.html"

    def get_urls(self) -> list[URLPattern]:
        # Not below `workflows/<name>/`: a name may have a slash, and end with anything.
        return [*(self._pausing(verb) for verb in _VERBS), *super().get_urls()]

    def _pausing(self, verb: str) -> URLPattern:
        view = self.admin_site.admin_view(self.pause_workflow_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_{verb}_workflow"
        return path(f"{verb}/<path:name>/", view, {"verb": verb}, name=name)

    def pause_context(self, request: HttpRequest, name: str) -> dict[str, Any]:
        """Return whether a workflow is paused, in words, and the button that changes it, for who may."""
        row = PausedWorkflow.objects.using(conf.get().database).filter(workflow=name).first()
        payloads = self.has_payloads_permission(request)  # type: ignore[attr-defined]
        said = "" if row is None else paused(row.by, row.reason if payloads else "")
        if not self.has_manage_queue_permission(request):
            return {"paused": said}
        verb = "pause" if row is None else "resume"
        return {"paused": said, "pause_label": _VERBS[verb].label, "pause_url": self.pause_url(verb, name)}

    def pause_url(self, verb: str, name: str) -> str:
        """Return the address of the page that asks."""
        about = f"admin:{self.opts.app_label}_{self.opts.model_name}_{verb}_workflow"
        return reverse(about, args=[name], current_app=self.admin_site.name)

    def pause_workflow_view(self, request: HttpRequest, name: str, *, verb: str) -> HttpResponse:
        """Ask on GET, act on POST."""
        if (refused := answering.refused(request, self.has_manage_queue_permission(request))) is not None:
            return refused
        form = ReasonForm(request.POST if request.method == "POST" else None)
        form.fields["reason"].help_text = _("Optional. Shown with the workflow while it is paused.")
        words = _VERBS[verb]
        if form.is_valid() and self._pause(request, name, form, verb):
            return HttpResponseRedirect(self.queues_url())
        more = {
            "title": words.question, "verb": words, "form": form, "workflow": printable(name), "yes": words.yes,
            "about": _ABOUT[verb], "back": self.queues_url(), "name": verb,
        }  # fmt: skip
        return self.ask(request, more, self.pause_template)

    def _pause(self, request: HttpRequest, name: str, form: ReasonForm, verb: str) -> bool:
        """Do it and say so; `False` if it was refused: then the form says why."""
        reason = form.cleaned_data["reason"]
        try:
            naming.checked(name, "the name of a workflow", 200)
            with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
                if verb == "pause":
                    done, logged = queues.pause_workflow(name, reason, by=request.user), "Paused."
                else:
                    done, logged = queues.resume_workflow(name, by=request.user), "Resumed."
                if done:
                    audit.note(request, [PausedWorkflow(workflow=name)], logged, reason)
        except ValueError as exc:
            form.add_error(None, str(exc))
            return False
        said = _("The workflow is paused.") if verb == "pause" else _("The workflow's runs are claimed again.")
        answering.say(self, request, done, said)
        return True
