"""What the pages say that ask for confirmation, for one run and for many. Called by `acting`; drawn by confirm.html."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import django
from django.contrib.admin import helpers
from django.http import HttpRequest
from django.utils.safestring import SafeString

from .. import states
from ..insight import speech
from ..models import WorkflowRun
from . import fragments, pins
from .pins import Pin
from .verbs import Verb


@dataclass(frozen=True, slots=True)
class Effect:
    """What will happen to the runs that are in one state now."""

    state: SafeString
    number: int
    what: str


def one(verb: Verb, run: WorkflowRun) -> dict[str, Any]:
    """Build the page for a single run."""
    return {
        "verb": verb,
        "title": str(verb.texts.question),
        "effects": [Effect(fragments.badge(run.state), 1, verb.effect_on(run) or verb.effect(run.state))],
        "remark": verb.remark(run),
        "yes": verb.texts.yes,
    }


def many(verb: Verb, counts: Mapping[str, int], pin: Pin | None, request: HttpRequest) -> dict[str, Any]:
    """Build the page for a selection, or for all that a list's filters let through: as it is now, by state."""
    number = sum(counts[state] for state in counts if verb.applies(state))
    return {
        "verb": verb,
        "title": str(verb.texts.question_many),
        "many": True,
        "headline": str(verb.texts.extent).format(
            number=speech.number(number), total=speech.number(sum(counts.values()))
        ),
        "effects": [
            Effect(fragments.badge(state), counts[state], verb.effect(state)) for state in states.ALL if state in counts
        ],
        "across": is_across(request),
        "hidden": hidden(verb, request, pin),
        "yes": verb.texts.yes_many,
    }


def ticked(request: HttpRequest) -> list[str]:
    """Return the keys of the runs that were ticked one by one; none where the whole list was chosen."""
    return [] if is_across(request) else request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)


def is_across(request: HttpRequest) -> bool:
    return request.POST.get("select_across") == "1"


def hidden(verb: Verb, request: HttpRequest, pin: Pin | None) -> list[tuple[str, str]]:
    """Return the selection again, for the POST that confirms it. Of the whole list, Django needs only one key."""
    chosen = ticked(request) or request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)[:1]
    return [
        ("action", f"{verb.name}_runs"),
        ("select_across", "1" if is_across(request) else "0"),
        ("confirmed", "yes"),
        *((helpers.ACTION_CHECKBOX_NAME, key) for key in chosen),
        *([("pin", pins.written(pin))] if pin is not None else []),
    ]


def crumbs_as_list() -> bool:
    """Tell whether breadcrumbs are a list, as Django 6.1 draws them: it styles nothing else."""
    return django.VERSION >= (6, 1)
