"""The smallest fragments of HTML: a state's badge, a moment, a name, a link. Called by lists, pages and templates.

Colours and sizes are in static/canx_flow/admin.css; nothing here has a style of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..core import clock
from ..core.pretty import printable
from . import words


def badge(state: str, labels: Mapping[str, Any] = words.RUN_STATES) -> SafeString:
    """Draw a state as a coloured word. The word says it all; the colour only helps the eye."""
    return format_html(
        '<span class="canx-badge canx-{}">{}</span>', state.replace(" ", "-"), labels.get(state, printable(state))
    )


def moment(at: datetime | None, now: datetime | None = None, *, briefly: bool = False) -> SafeString | str:
    """Draw a moment as a distance from now, with date and time in its title."""
    return "" if at is None else _time(at, words.when(at, now or clock.now(), briefly=briefly), "since", briefly)


def due(at: datetime | None, now: datetime | None = None, *, briefly: bool = False) -> SafeString | str:
    """Draw the moment at which a wait ends."""
    return "" if at is None else _time(at, words.due(at, now or clock.now(), briefly=briefly), "due", briefly)


def moment_in_full(at: datetime | None, now: datetime | None = None) -> SafeString | str:
    """Draw a moment as a distance from now, with date and time beside it."""
    return "" if at is None else _with_date(moment(at, now), at)


def due_in_full(at: datetime | None, now: datetime | None = None) -> SafeString | str:
    return "" if at is None else _with_date(due(at, now), at)


def _time(at: datetime, said: str, kind: str, briefly: bool) -> SafeString:
    """Draw it for `live.js`, too, which keeps the distance as it is now."""
    local = timezone.localtime(at)
    title = f"{local:%Y-%m-%d %H:%M:%S} {local.tzname()}"
    return format_html(
        '<time datetime="{}" title="{}" data-canx-tick="{}{}">{}</time>',
        local.isoformat(), title, kind, " brief" if briefly else "", said,
    )  # fmt: skip


def _with_date(said: SafeString | str, at: datetime) -> SafeString:
    written = date_format(timezone.localtime(at), "DATETIME_FORMAT")
    return format_html('{} <span class="canx-quiet">({})</span>', said, written)


def name(text: str) -> SafeString:
    """Draw a name from the project: a step's, an event's, a key."""
    return format_html('<code class="canx-name">{}</code>', printable(text))


def link(url: str | None, text: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', url, text) if url else format_html("{}", text)


def short_id(run_id: UUID) -> SafeString:
    """Draw the beginning of an id, which is its time, and its end, which differs between runs of one moment."""
    text = str(run_id)
    return format_html('<code class="canx-id" title="{}">{}…{}</code>', text, text[:8], text[-4:])
