"""What the pages say that ask for confirmation, for one run and for many. Called by `acting`; drawn by confirm.html."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import django
from django import forms
from django.contrib.admin import helpers
from django.contrib.admin.widgets import AdminTextInputWidget
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import states
from . import fragments
from .verbs import Verb


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        help_text=gettext_lazy("Optional. Stored with the run and in its history."),
        required=False,
        max_length=500,
        widget=AdminTextInputWidget(attrs={"autofocus": True}),
    )


@dataclass(frozen=True, slots=True)
class Effect:
    """What will happen to the runs that are in one state now."""

    state: SafeString
    number: int
    what: str


def one(verb: Verb, state: str) -> dict[str, Any]:
    """Build the page for a single run."""
    return {
        "verb": verb,
        "title": str(verb.texts.question),
        "effects": [Effect(fragments.badge(state), 1, verb.effect(state))],
        "yes": verb.texts.yes,
    }


def many(verb: Verb, counts: Mapping[str, int], limit: int, request: HttpRequest) -> dict[str, Any]:
    """Build the page for a selection, or for all that a list's filters let through: as it is now, by state."""
    number = sum(counts[state] for state in counts if verb.applies(state))
    return {
        "verb": verb,
        "title": str(verb.texts.question_many),
        "many": True,
        "headline": verb.texts.extent % {"number": number, "total": sum(counts.values())},
        "effects": [
            Effect(fragments.badge(state), counts[state], verb.effect(state)) for state in states.ALL if state in counts
        ],
        "limited": _("At most %d at once: do it again for the rest.") % limit if number > limit else "",
        "across": _across(request),
        "hidden": _hidden(verb, request),
        "yes": verb.texts.yes_many,
    }


def ticked(request: HttpRequest) -> list[str]:
    """Return the keys of the runs that were ticked one by one; none where the whole list was chosen."""
    return [] if _across(request) else request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)


def _across(request: HttpRequest) -> bool:
    return request.POST.get("select_across") == "1"


def _hidden(verb: Verb, request: HttpRequest) -> list[tuple[str, str]]:
    """Return the selection again, for the POST that confirms it. Of the whole list, Django needs only one key."""
    chosen = ticked(request) or request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)[:1]
    return [
        ("action", f"{verb.name}_runs"),
        ("select_across", "1" if _across(request) else "0"),
        ("confirmed", "yes"),
        *((helpers.ACTION_CHECKBOX_NAME, key) for key in chosen),
    ]


def crumbs_as_list() -> bool:
    """Tell whether breadcrumbs are a list, as Django 6.1 draws them: it styles nothing else."""
    return django.VERSION >= (6, 1)
