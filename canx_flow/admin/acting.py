"""Buttons on a run's page, each behind a permission, a page that asks, and a POST.

Mixed into the admin of runs. What the verbs mean is in `verbs`; here are only requests and answers. `bulk_acting` has
the actions of the list, `forking` and `sending` have pages with forms of their own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from .. import conf
from ..core import channel
from ..models import WorkflowRun
from . import answering, audit, confirming, links
from .verb_cancel import CANCEL
from .verb_holding import PAUSE, RESUME, WAKE
from .verb_retry import RETRY
from .verbs import Verb

if TYPE_CHECKING:
    from .read_only import ReadOnlyMixin as _Base
else:
    _Base = object

Button = dict[str, Any]


class ActingMixin(_Base):
    """The verbs for one run: each has a button, a page that asks and a permission."""

    verbs: tuple[Verb, ...] = (RETRY, RESUME, WAKE, PAUSE, CANCEL)
    confirm_template = "admin/canx_flow/workflowrun/confirm.html"

    # -- who may ---------------------------------------------------------------------------------------

    def has_cancel_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, "cancel_run", obj)

    def has_retry_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, "retry_run", obj)

    def has_pause_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, "pause_run", obj)

    def has_resume_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, "resume_run", obj)

    def has_wake_permission(self, request: HttpRequest, obj: WorkflowRun | None = None) -> bool:
        return self._may(request, "wake_run", obj)

    def has_verb_permission(self, request: HttpRequest, verb: Verb, obj: WorkflowRun | None = None) -> bool:
        """Tell whether the user may call this verb, as `has_cancel_permission` and the like do."""
        return bool(getattr(self, f"has_{verb.name}_permission")(request, obj))

    def _may(self, request: HttpRequest, permission: str, obj: WorkflowRun | None) -> bool:
        granted = request.user.has_perm(f"{self.opts.app_label}.{permission}")
        return granted and self.has_view_permission(request, obj)

    # -- addresses and buttons -------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        return [
            *(self.own_page(verb.name, partial(self.act_view, verb=verb)) for verb in self.verbs),
            *super().get_urls(),
        ]

    def own_page(self, name: str, view: Any) -> URLPattern:
        """Return the address of a page of a single run: `<id>/<name>/`."""
        full_name = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        found: URLPattern = path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=full_name)
        return found

    def buttons(self, request: HttpRequest, run: WorkflowRun) -> list[Button]:
        """Return the buttons for what this user may do to the run in its present state."""
        return [
            self.button(run, verb.name, verb.texts.label)
            for verb in self.verbs
            if verb.applies_to(run) and self.has_verb_permission(request, verb, run)
        ]

    def button(self, run: WorkflowRun, name: str, label: Any) -> Button:
        return {"name": name, "label": label, "url": links.page(self.admin_site, self.model, run.pk, name)}

    # -- one run ---------------------------------------------------------------------------------------

    def act_view(self, request: HttpRequest, object_id: str, *, verb: Verb) -> HttpResponse:
        """Ask on GET, act on POST."""
        may = partial(self.has_verb_permission, request, verb)
        return self.with_run(request, object_id, may, partial(self._act_or_ask, verb=verb))

    def with_run(self, request: HttpRequest, object_id: str, may: Any, answer: Any) -> HttpResponse:
        """Answer with `answer(request, run)`, if this user `may()` do it, and to that run."""
        if (refused := answering.refused(request, may())) is not None:
            return refused
        run = self.get_object(request, unquote(object_id))
        if run is None:
            return self.nothing(request, _("There is no such run."), None)
        if not may(run):
            raise PermissionDenied
        answered: HttpResponse = answer(request, run)
        return answered

    def _act_or_ask(self, request: HttpRequest, run: WorkflowRun, verb: Verb) -> HttpResponse:
        form = verb.form(request.POST if request.method == "POST" else None, runs=[run])
        if form.is_valid():
            return self._act(request, run, verb, form.cleaned_data["reason"], form.options)
        if not verb.applies_to(run):
            return self.nothing(request, verb.outcome("unchanged", run.state).said, run)
        return self.ask(request, {**confirming.one(verb, run), "form": form, "run": run})

    def _act(
        self, request: HttpRequest, run: WorkflowRun, verb: Verb, reason: str, options: dict[str, Any]
    ) -> HttpResponse:
        # Where they share a database, what was done and the entry that says so stand or fall together.
        with transaction.atomic(using=conf.get().database), channel.via(channel.ADMIN):
            became = verb.one(run.pk, reason, request.user, **options)
            now = self.get_queryset(request).filter(pk=run.pk).values_list("state", flat=True).first()
            if became is None or now is None:
                return self.nothing(request, _("There is no such run any more."), None)
            outcome = verb.outcome(became, now)
            audit.log(request, [(run, outcome)], reason)
        self.message_user(request, outcome.said, messages.SUCCESS if outcome.changed else messages.WARNING)
        return HttpResponseRedirect(self.back(request, run))

    def nothing(self, request: HttpRequest, why: str, run: WorkflowRun | None) -> HttpResponse:
        """Say why nothing was done, on the run's page, or in the list if there is no run."""
        self.message_user(request, why, messages.WARNING)
        return HttpResponseRedirect(self.back(request, run))

    def back(self, request: HttpRequest, run: WorkflowRun | None) -> str:
        """Return the address of the run's page, or of the list with its filters."""
        filters = self.get_preserved_filters(request)
        if run is None:
            return links.listing(self.admin_site, self.model) or ""
        url = links.page(self.admin_site, self.model, run.pk) or ""
        return f"{url}?{filters}" if filters else url

    # -- pages of ours ---------------------------------------------------------------------------------

    def ask(self, request: HttpRequest, context: dict[str, Any], template: str | None = None) -> TemplateResponse:
        """Draw a page that asks, of one run or of many."""
        request.current_app = self.admin_site.name  # type: ignore[attr-defined]
        run = context.get("run")
        return TemplateResponse(
            request,
            template or self.confirm_template,
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "media": self.media,
                "writes_title": self.writes_title,
                "crumbs_as_list": confirming.crumbs_as_list(),
                "run_url": links.page(self.admin_site, self.model, run.pk) if run is not None else None,
                "back": self.back(request, run) if run is not None else request.get_full_path(),
                **context,
            },
        )
