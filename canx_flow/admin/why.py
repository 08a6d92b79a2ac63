"""Why a run does not move, as HTML: the reasons that `insight.why` finds, with names, moments and links drawn.

Called by the list, and by the head of a run's page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import pgettext_lazy

from ..core.pretty import printable
from ..insight import reasons, speech
from ..insight.advice import Advice, advice
from ..insight.display import ShownError
from ..insight.reasons import Level, Reason
from ..insight.timeline import Timeline
from ..insight.why import Why
from . import fragments, links, words

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite

#: Characters of an error or a reason, in the list and on the page of a run.
IN_LIST, ON_PAGE = 80, 200

_LEVELS = {Level.FINE: "fine", Level.WARN: "warn", Level.BAD: "bad"}
_STUCK = {"stuck": pgettext_lazy("state of a run", "stuck")}


def in_list(why: Why, now: datetime) -> SafeString:
    """Draw it for a row of the list: briefly, with a badge if the run is stuck."""
    return _drawn(why, partial(_value, now=now, limit=IN_LIST, briefly=True, site=None))


def on_page(why: Why, now: datetime, site: AdminSite) -> SafeString:
    """Draw it for the page of the run: with dates, and links to its children."""
    return _drawn(why, partial(_value, now=now, limit=ON_PAGE, briefly=False, site=site))


@dataclass(frozen=True, slots=True)
class Advised:
    """What can be done about a run: a sentence, and the button that does it, else the command."""

    text: str
    command: str
    url: str | None
    label: Any


def advised(timeline: Timeline, buttons: Mapping[str, Mapping[str, Any]]) -> list[Advised]:
    """Return what can be done about the run of this page; `buttons`: what this user may do here, by verb."""
    return [_advised(each, buttons.get(each.verb, {})) for each in advice(timeline)]


def _advised(each: Advice, button: Mapping[str, Any]) -> Advised:
    command = f"manage.py {each.command}" if each.command else ""
    return Advised(printable(each.text), command, button.get("url"), button.get("label"))


def _drawn(why: Why, draw: Any) -> SafeString:
    said = format_html_join("; ", "{}", ((_reason(reason, draw),) for reason in why.reasons))
    return format_html("{} {}", fragments.badge("stuck", _STUCK), said) if why.stuck else said


def _reason(reason: Reason, draw: Any) -> SafeString:
    said = format_html(reason.text, **{name: draw(name, value) for name, value in reason.values().items()})
    return format_html('<span class="canx-reason-{}">{}</span>', _LEVELS[reason.level], said)


def _value(
    name: str, value: Any, *, now: datetime, limit: int, briefly: bool, site: AdminSite | None
) -> SafeString | str:
    match value:
        case datetime():
            return _moment(name, value, now, briefly)
        case float():
            return speech.span(value, briefly=briefly)
        case bool() | None:
            return ""
        case int():
            return speech.number(value)
        case UUID():
            return fragments.short_id(value) if site is None else links.run_link(site, value)
        case ShownError():
            return words.failure(value, limit)
    text = printable(str(value))
    return fragments.name(text) if name in reasons.NAMES else Truncator(text).chars(limit)


def _moment(name: str, at: datetime, now: datetime, briefly: bool) -> SafeString | str:
    if name in reasons.DUE:
        return fragments.due(at, now, briefly=True) if briefly else fragments.due_in_full(at, now)
    return fragments.moment(at, now, briefly=True) if briefly else fragments.moment_in_full(at, now)
