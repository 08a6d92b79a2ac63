"""The actions of the list: a verb for the runs that were ticked, or for all that match, in requests of bounded size.

The page that asks pins what is there (`pins`). Each request then takes at most `bulk_limit` runs; if there are more, a
page shows how far it is and has a button to go on, which a script presses. At the end there is a report.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.forms import Media
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.translation import gettext as _

from .. import conf
from ..core import channel
from ..insight import speech
from ..models import WorkflowRun
from . import audit, bulk, confirming, links, outcomes, pins
from .acting import ActingMixin
from .pins import Pin
from .verb_cancel import CANCEL
from .verb_holding import PAUSE, RESUME, WAKE
from .verb_retry import RETRY
from .verbs import ReasonForm, Verb


class BulkActingMixin(ActingMixin):
    """Cancel, retry, pause, resume and wake for many runs."""

    actions: tuple[str, ...] = ("retry_runs", "resume_runs", "wake_runs", "pause_runs", "cancel_runs")
    #: Runs that one request changes at most.
    bulk_limit = 500
    progress_template = "admin/canx_flow/workflowrun/bulk.html"
    report_template = "admin/canx_flow/workflowrun/report.html"

    @admin.action(permissions=["cancel"], description=CANCEL.texts.action)
    def cancel_runs(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> HttpResponse | None:
        return self.act_on(request, queryset, CANCEL)

    @admin.action(permissions=["retry"], description=RETRY.texts.action)
    def retry_runs(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> HttpResponse | None:
        return self.act_on(request, queryset, RETRY)

    @admin.action(permissions=["pause"], description=PAUSE.texts.action)
    def pause_runs(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> HttpResponse | None:
        return self.act_on(request, queryset, PAUSE)

    @admin.action(permissions=["resume"], description=RESUME.texts.action)
    def resume_runs(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> HttpResponse | None:
        return self.act_on(request, queryset, RESUME)

    @admin.action(permissions=["wake"], description=WAKE.texts.action)
    def wake_runs(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> HttpResponse | None:
        return self.act_on(request, queryset, WAKE)

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_report"
        return [path("report/", self.admin_site.admin_view(self.report_view), name=name), *super().get_urls()]

    # -- ask first, then act ---------------------------------------------------------------------------

    def act_on(self, request: HttpRequest, queryset: QuerySet[WorkflowRun], verb: Verb) -> HttpResponse | None:
        """Ask first; once that is confirmed, act on what was there when the page asked."""
        if not self.has_verb_permission(request, verb):
            raise PermissionDenied
        queryset = self._chosen(request, queryset)
        pin = pins.read(request.POST.get("pin", ""), verb.name, request)
        if pin is not None and pin.after:
            return self._go_on(request, queryset, verb, pin)
        # All that match are meant as they were pinned; those that were ticked are named one by one.
        confirmed = "confirmed" in request.POST and (pin is not None or not confirming.is_across(request))
        pin = pin or pins.make(verb.name, queryset, request)
        counts = bulk.by_state(pin.limit(queryset)) if pin is not None else {}
        if pin is None or not any(map(verb.applies, counts)):
            gone = _("the chosen runs are no longer there")
            self.message_user(request, outcomes.nothing_to_do(verb, counts, gone), messages.WARNING)
            return None
        form = self._form(request, queryset, verb, pin, confirmed=confirmed)
        if not form.is_valid():
            return self.ask(request, {**confirming.many(verb, counts, pin, request), "form": form})
        return self._go_on(request, queryset, verb, _begun(pin, verb, form, counts))

    def _form(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun], verb: Verb, pin: Pin, *, confirmed: bool
    ) -> ReasonForm:
        risky = 0 if verb.risky is None else pin.limit(queryset).filter(verb.risky).count()
        return verb.form(request.POST if confirmed else None, runs=(), risky=risky)

    def _chosen(self, request: HttpRequest, queryset: QuerySet[WorkflowRun]) -> QuerySet[WorkflowRun]:
        """Return the runs that were ticked; the list's filters may have dropped one since."""
        ticked = confirming.ticked(request)
        return self.get_queryset(request).filter(pk__in=ticked) if ticked else queryset

    def _go_on(
        self, request: HttpRequest, queryset: QuerySet[WorkflowRun], verb: Verb, pin: Pin
    ) -> HttpResponse | None:
        """Act on the next runs; show how far it is, or what came of it."""
        chosen = bulk.applicable(verb, pin.rest(queryset), risky=pin.risky)
        ids = bulk.first(chosen, self.bulk_limit)
        allowed, forbidden = bulk.permitted(ids, partial(self.has_verb_permission, request, verb))
        with (
            transaction.atomic(using=conf.get().database),
            channel.via(channel.ADMIN),
        ):  # As for one run: with the entries that say so.
            done = bulk.perform(verb, allowed, pin.reason, request.user, **pin.options)
            # Of two who confirm the same, each has in the log what this very call has changed.
            audit.log(request, [(run, outcome) for run, outcome in done if outcome.changed], pin.reason)
        if ids:
            counted, samples = bulk.count(done), bulk.samples(done)
            if forbidden:
                counted["forbidden"], samples["forbidden"] = len(forbidden), list(map(str, forbidden))
            pin = pin.then(ids[-1], counted, samples)
        if len(ids) == self.bulk_limit:
            return self._progress(request, verb, pin)
        return self._end(request, pin)

    def _progress(self, request: HttpRequest, verb: Verb, pin: Pin) -> HttpResponse:
        context = {
            "verb": verb,
            "title": str(verb.texts.question_many),
            "hidden": confirming.hidden(verb, request, pin),
            "done": min(pin.done, pin.total),
            "total": pin.total,
            "numbers": {"done": speech.number(min(pin.done, pin.total)), "total": speech.number(pin.total)},
            "said": outcomes.summary(pin.counts),
            "media": self.media + Media(js=["canx_flow/bulk.js"]),
        }
        return self.ask(request, context, self.progress_template)

    def _end(self, request: HttpRequest, pin: Pin) -> HttpResponse:
        report = self._report_url(pin)
        said = format_html('{} <a href="{}">{}</a>', outcomes.summary(pin.counts) or "0", report, _("Which?"))
        self.message_user(request, said, messages.SUCCESS)
        large = pin.total > self.bulk_limit
        return HttpResponseRedirect(report if large else request.get_full_path())

    # -- the report ------------------------------------------------------------------------------------

    def _report_url(self, pin: Pin) -> str:
        url = links.listing(self.admin_site, self.model) or ""
        return f"{url}report/?pin={pins.written(pin)}"

    def report_view(self, request: HttpRequest) -> HttpResponse:
        """Draw what became of the runs of one action, with links to some of each."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        pin = pins.opened(request.GET.get("pin", ""), request)
        verb = next((verb for verb in self.verbs if pin is not None and verb.name == pin.verb), None)
        if pin is None or verb is None:
            return self.nothing(request, _("There is no such report any more."), None)
        context = {
            "verb": verb,
            "title": _("What became of them"),
            "reason": pin.reason,
            "rows": [self._row(code, pin) for code in outcomes.COUNTED if pin.counts.get(code)],
            "back": links.listing(self.admin_site, self.model),
        }
        return self.ask(request, context, self.report_template)

    def _row(self, code: str, pin: Pin) -> dict[str, Any]:
        ids = pin.samples.get(code, [])
        return {
            "said": outcomes.summary({code: pin.counts[code]}),
            "changed": code not in outcomes.UNCHANGED,
            "runs": [links.run_link(self.admin_site, run_id) for run_id in ids],
            "more": pin.counts[code] - len(ids),
        }


def _begun(pin: Pin, verb: Verb, form: ReasonForm, counts: dict[str, int]) -> Pin:
    """Return the pin with what was confirmed; what the verb does not apply to is counted as left alone."""
    rest = {state: number for state, number in counts.items() if not verb.applies(state)}
    left = dict(outcomes.left_alone(verb, rest))
    total = sum(counts.values()) - sum(rest.values())
    if form.risky and not form.takes_risky:
        left["risky"], total = form.risky, total - form.risky
    return pin.confirmed(form.cleaned_data["reason"], form.options, form.takes_risky, total, left)
