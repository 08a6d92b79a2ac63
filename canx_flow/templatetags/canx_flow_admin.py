"""Tags for templates of the admin: the banner, the switch for refreshing and the keys, which our own pages have, and
`{% canx_dashboard %}`, for the index of any site; `{% canx_media %}`, for pages of ours that are none of Django's."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from .. import conf
from ..core import clock

register = template.Library()


@register.simple_tag(takes_context=True)
def canx_media(context: Any, media: Any) -> Any:
    """Draw the links to the files of a page, with the nonce of its policy where Django gives it one."""
    try:
        nonce_attr = import_string("django.utils.csp.nonce_attr")
    except ImportError:  # Before Django 6.1, whose own pages have none for such files either.
        return media
    return nonce_attr(context, media)


@register.inclusion_tag("admin/canx_flow/banner.html", takes_context=True)
def canx_banner(context: Any) -> dict[str, Any]:
    """Show what keeps runs from getting done, to people who may see runs."""
    # Django imports this module in projects without the admin, too.
    from ..admin import banner

    return {"lines": banner.lines() if _may_see(context) else []}


@register.inclusion_tag("admin/canx_flow/live.html", takes_context=True)
def canx_live(context: Any, *, every: float | None = None, banner: bool = False) -> dict[str, Any]:
    """Show the switch by which a page refreshes itself, `every` so many seconds; with `banner`, only its banner.

    What may change on the page has an attribute `data-canx-live`, each with a name of its own.
    """
    from ..admin import live

    address = _banner_address(context) if banner else ""
    if address is None or not (_may_see(context) or "original" in context or "cl" in context):
        return {}
    listed = context["cl"].opts.model_name if context.get("cl") is not None else ""
    return {
        "every": every or live.seconds(context.get("original")),
        "url": address,
        "now": clock.now().isoformat(),
        "words": live.words(listed),
        "listed": listed,
        "more": bool(listed) and context["cl"].multi_page,
        "here": context["request"].get_full_path(),
    }


@register.inclusion_tag("admin/canx_flow/keys.html", takes_context=True)
def canx_keys(context: Any) -> dict[str, Any]:
    """Show a button for the list of keys, unless `ADMIN_KEYS` turns them off. They lead to pages; none acts."""
    keys = {
        "/": _("Search"), "j k": _("Next and previous row"), "x": _("Tick the row"), "Enter": _("Open it"),
        "n p": _("Older and newer run of this list"), "r": _("Retry"), "c": _("Cancel"),
        "l": _("Refresh by itself, or not"), "?": _("This list"),
    }  # fmt: skip
    unused = ("n p", "r", "c") if context.get("cl") is not None else ("/", "j k", "x", "Enter")
    return {"on": conf.get().admin_keys, "keys": [(key, said) for key, said in keys.items() if key not in unused]}


@register.inclusion_tag("admin/canx_flow/dashboard_block.html", takes_context=True)
def canx_dashboard(context: Any) -> dict[str, Any]:
    """Show the dashboard in short, to people who may see runs, where the site that draws the page has them."""
    from ..admin import dashboard

    request = context.get("request")
    return dict(dashboard.block(request)) if request is not None else {}


def _may_see(context: Any) -> bool:
    request = context.get("request")
    return request is not None and bool(request.user.has_perm("canx_flow.view_workflowrun"))


def _banner_address(context: Any) -> str | None:
    """Return where the banner alone is to be had; `None` on a site without runs."""
    current = getattr(context.get("request"), "current_app", None)
    try:
        return reverse("admin:canx_flow_workflowrun_banner", current_app=current)
    except NoReverseMatch:
        return None
