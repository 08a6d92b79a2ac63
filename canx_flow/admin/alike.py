"""The failures of the dashboard: a row for all that failed alike, with the way to them and a button that retries them.

The button posts what the list would post for all that match a filter, with a pin of what was there when the dashboard
was drawn: it leads to the page that asks. Called by `dashboard`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.admin import helpers
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from .. import conf
from ..core.pretty import printable
from ..insight import alike, throughput
from ..insight.alike import Failed, Group
from ..insight.speech import number
from ..states import FAILED
from . import fragments, links, pins, plot
from .filters import AlikeFilter, ErrorFilter, StateFilter
from .pins import Pin
from .verb_retry import RETRY

if TYPE_CHECKING:
    from .acting import ActingMixin

#: Characters of what messages have in common; workflows that are named.
_FIT, _NAMED = 160, 3


@dataclass(frozen=True, slots=True)
class Row:
    """What failed alike. `first` may be preceded by others, which were not looked at, if not `whole`."""

    error: SafeString
    pattern: str
    where: SafeString
    number: str
    first: SafeString | str
    last: SafeString | str
    whole: bool
    day: SafeString
    example: SafeString
    show: str
    retry: Retry | None
    #: Of no other row: by it the page knows the row again.
    key: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The button that leads to the page that asks: its label, where it posts, and what."""

    label: str
    url: str
    hidden: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Failures:
    """The rows, how many runs were looked at, whether there may be more, and how many kinds are left out."""

    rows: Sequence[Row]
    seen: int
    cut: bool
    left_out: int


def by_type_alone(request: HttpRequest) -> bool:
    """Tell whether this user may know of errors no more than their types: without payloads, and under `REDACT`."""
    return not _sees_payloads(request) or bool(conf.get().redact)


def _sees_payloads(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("canx_flow.view_payloads"))


def failures(
    admin: ActingMixin, request: HttpRequest, failed: Sequence[Failed], groups: Sequence[Group], now: datetime
) -> Failures:
    """Draw the groups of these runs, made as far as this user may know their errors."""
    rows = list(_rows(admin, request, groups, now, payloads=_sees_payloads(request)))
    left_out = alike.kinds(failed, by_type=by_type_alone(request)) - len(rows)
    return Failures(rows, len(failed), len(failed) >= alike.MOST_RUNS, left_out)


def _rows(
    admin: ActingMixin, request: HttpRequest, groups: Sequence[Group], now: datetime, *, payloads: bool
) -> Iterator[Row]:
    site = admin.admin_site
    may_retry = payloads and RETRY in admin.verbs and admin.has_verb_permission(request, RETRY)
    may_retry = may_retry and f"{RETRY.name}_runs" in (admin.actions or ())
    filters = {getattr(item, "parameter_name", None) for item in admin.get_list_filter(request)}
    for group in groups:
        moments = group.moments
        show = _url(admin, group, filters) if payloads else ""
        yield Row(
            error=_error(group), pattern=Truncator(printable(group.pattern)).chars(_FIT), where=_where(group),
            number=f"≥{number(alike.MOST_COUNTED)}" if group.number > alike.MOST_COUNTED else number(group.number),
            first=fragments.moment(moments[0], now, briefly=True) if moments else "",
            last=fragments.moment(moments[-1], now, briefly=True) if moments else "",
            whole=group.is_whole, day=plot.small(throughput.hourly(now, moments)),
            example=links.run_link(site, group.example.id), show=show,
            retry=_retry(group, show, now, request) if may_retry and show else None,
            key=f"{group.type} {group.fingerprint}",
        )  # fmt: skip


def _error(group: Group) -> SafeString:
    if group.type is None:
        return format_html("{}", pgettext("error", "unknown"))
    kind = printable(group.type)
    return format_html('<code class="canx-name" title="{}">{}</code>', kind, kind.rpartition(".")[2] or kind)


def _where(group: Group) -> SafeString:
    """Name the workflows, and the step in which the newest of the runs failed."""
    names = [fragments.name(name) for name in group.workflows[:_NAMED]]
    said = format_html_join(", ", "{}", ((name,) for name in names))
    more = len(group.workflows) - len(names)
    if more:
        said = format_html(_("{names} and {number} more"), names=said, number=number(more))
    step = group.error.step if group.error is not None else None
    return format_html(_("{workflow} / {step}"), workflow=said, step=fragments.name(step)) if step else said


def _url(admin: ActingMixin, group: Group, filters: set[Any]) -> str:
    """Return the list of these runs; empty where the list has no filter for them."""
    url = links.listing(admin.admin_site, admin.model)
    by, value = (
        (AlikeFilter, group.fingerprint) if group.fingerprint is not None else (ErrorFilter, group.type)
    )  # fmt: skip
    if url is None or value is None or not {by.parameter_name, StateFilter.parameter_name} <= filters:
        return ""
    return f"{url}?{urlencode({StateFilter.parameter_name: FAILED, str(by.parameter_name): value})}"


def _retry(group: Group, url: str, now: datetime, request: HttpRequest) -> Retry:
    pin = Pin(RETRY.name, str(request.user.pk), now.isoformat(), str(group.upto))
    hidden = [
        ("action", f"{RETRY.name}_runs"), ("select_across", "1"), ("index", "0"),
        (helpers.ACTION_CHECKBOX_NAME, str(group.example.id)), ("pin", pins.written(pin)),
    ]  # fmt: skip
    label = ngettext("Retry this one", "Retry these {number}", group.number).format(number=number(group.number))
    return Retry(_("Retry all of these") if group.number > alike.MOST_COUNTED else label, url, hidden)
