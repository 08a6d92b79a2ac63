"""*Rerun* and *fork*: a new run from an old one, from the start or from a step, with its input or another.

Mixed into the admin of runs, beside `acting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import client, conf
from ..core import channel
from ..exceptions import CanxFlowError
from ..models import StepRecord, WorkflowRun
from ..store import forks
from . import audit, fragments, links
from .acting import ActingMixin, Button
from .input_form import InputForm
from .verbs import ReasonForm, Words

RERUN = Words(
    "rerun",
    gettext_lazy("Rerun from the start"),
    gettext_lazy("Start a new run with the same input?"),
    gettext_lazy("Yes, start it"),
)
FORK = Words(
    "fork",
    gettext_lazy("Fork from a step"),
    gettext_lazy("Start a new run from one of its steps?"),
    gettext_lazy("Yes, fork it"),
)

#: Steps that are listed as kept, or as running again.
_MOST = 20
#: Steps that one may choose from.
_MOST_CHOICES = 500


class ForkingMixin(ActingMixin):
    """Two buttons, each with a page of its own, that start a new run."""

    fork_template = "admin/canx_flow/workflowrun/fork.html"

    def has_rerun_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, "rerun_run", obj)

    def has_fork_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, "fork_run", obj)

    def get_urls(self) -> list[URLPattern]:
        own = [self.own_page("rerun", self.rerun_view), self.own_page("fork", self.fork_view)]
        return [*own, *super().get_urls()]

    def buttons(self, request: HttpRequest, run: WorkflowRun) -> list[Button]:
        """Add those that start a new run, less prominent: they leave this one as it is."""
        more = []
        if self.has_rerun_permission(request, run):
            more.append({**self.button(run, "rerun", RERUN.texts.label), "more": True})
        if self.has_fork_permission(request, run):
            more.append({**self.button(run, "fork", FORK.texts.label), "more": True})
        first = super().buttons(request, run)
        last = [button for button in first if button["name"] == "cancel"]
        return [*(button for button in first if button not in last), *more, *last]

    # -- rerun -----------------------------------------------------------------------------------------

    def rerun_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask on GET, start on POST."""
        return self.with_run(request, object_id, partial(self.has_rerun_permission, request), self._rerun)

    def _rerun(self, request: HttpRequest, run: WorkflowRun) -> HttpResponse:
        form = ReasonForm(request.POST if request.method == "POST" else None, runs=[run])
        if not form.is_valid():
            remark = _(
                "A new run starts from the beginning with the same input, queue, priority and subject. This one stays "
                "as it is, and so does what it has done."
            )
            context = {"verb": RERUN, "title": str(RERUN.question), "remark": remark, "yes": RERUN.yes}
            return self.ask(request, {**context, "form": form, "run": run})
        reason = form.cleaned_data["reason"]
        with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
            new = client.rerun(run.pk, reason, by=request.user)
            self._note(request, run, new, f"Rerun as {new}.", f"Rerun of {run.pk}.", reason)
        return self._begun(request, run, new, _("Started anew, as a rerun of {run}."))

    # -- fork ------------------------------------------------------------------------------------------

    def fork_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask on GET, from which step and with which input; start on POST."""
        return self.with_run(request, object_id, partial(self.has_fork_permission, request), self._fork)

    def _fork(self, request: HttpRequest, run: WorkflowRun) -> HttpResponse:
        steps = forks.names(conf.get().database, run.pk)
        if not steps:
            return self.nothing(request, _("The run has stored no step yet: rerun it instead."), run)
        seen = self.has_payloads_permission(request)  # type: ignore[attr-defined]
        data = request.POST if request.method == "POST" else None
        wanted = (data or request.GET).get("from_step") or (self._failed_step(run) or steps[-1])
        form = InputForm(data, run=run, from_step=wanted, seen=seen)
        if form.is_valid():
            new = self._forked(request, run, form)
            if new is not None:
                return self._begun(request, run, new, _("Forked from {run}."))
        return self.ask(request, _fork_page(run, form, steps, wanted), self.fork_template)

    def _forked(self, request: HttpRequest, run: WorkflowRun, form: InputForm) -> UUID | None:
        """Start the fork; `None` if it was refused: then the form says why."""
        chosen = form.cleaned_data
        try:
            with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
                new = client.fork(
                    run.pk,
                    chosen["from_step"],
                    chosen["reason"],
                    arguments=form.given,
                    version=chosen["version"] if chosen["version"] != run.version else None,
                    queue=chosen["queue"] if chosen["queue"] not in ("", run.queue) else None,
                    by=request.user,
                )
                edited = " With edited input." if form.given is not None else ""
                at = f"at {chosen['from_step']}"
                told = f"Forked {at} as {new}.{edited}", f"Forked from {run.pk} {at}.{edited}"
                self._note(request, run, new, *told, chosen["reason"])
        except (ValueError, TypeError, CanxFlowError) as exc:
            form.refused(exc)
            return None
        return new

    def _failed_step(self, run: WorkflowRun) -> str | None:
        failed = StepRecord.objects.using(conf.get().database).filter(run_id=run.pk, state="failed", kind="step")
        return failed.order_by("-seq").values_list("name", flat=True).first()

    # -- both ------------------------------------------------------------------------------------------

    def _note(self, request: HttpRequest, old: WorkflowRun, new: UUID, of_old: str, of_new: str, reason: str) -> None:
        begun = self.get_queryset(request).get(pk=new)
        audit.note(request, [old], of_old, reason)
        audit.note(request, [begun], of_new, reason)

    def _begun(self, request: HttpRequest, old: WorkflowRun, new: UUID, said: str) -> HttpResponse:
        told = format_html(said, run=links.run_link(self.admin_site, old.pk))
        self.message_user(request, told, messages.SUCCESS)
        return HttpResponseRedirect(links.page(self.admin_site, self.model, new) or self.back(request, None))


def _fork_page(run: WorkflowRun, form: InputForm, steps: Sequence[str], wanted: str) -> dict[str, Any]:
    """Build the page: what the fork is given, what runs again, and the input."""
    place = steps.index(wanted) if wanted in steps else None
    kept, again = (steps[:place], steps[place:]) if place is not None else ((), ())
    return {
        "verb": FORK,
        "title": str(FORK.question),
        "run": run,
        "form": form,
        "yes": FORK.yes,
        "wanted": wanted,
        "choices": steps[-_MOST_CHOICES:],
        "is_known": place is not None,
        "kept": [fragments.name(name) for name in kept[-_MOST:]],
        "kept_before": max(len(kept) - _MOST, 0),
        "again": [fragments.name(name) for name in again[:_MOST]],
        "again_after": max(len(again) - _MOST, 0),
    }
