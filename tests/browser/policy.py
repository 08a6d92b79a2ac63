"""A strict content security policy for pages that are tested, whatever Django's version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse

DJANGOS_OWN = "django.middleware.csp.ContentSecurityPolicyMiddleware"
#: From Django 6.1 on its admin gives every script and style a nonce, so none needs to be trusted for its address.
HAS_NONCES = django.VERSION >= (6, 1)


def strict() -> dict[str, list[str]]:
    """Everything is forbidden but what this site's own pages need."""
    own = ["'self'"]
    scripts = styles = own
    if HAS_NONCES:
        from django.utils.csp import CSP

        scripts, styles = [CSP.NONCE], [CSP.NONCE]
    return {
        "default-src": ["'none'"],
        "script-src": scripts,
        "style-src": styles,
        **dict.fromkeys(("connect-src", "font-src", "form-action", "img-src"), own),
        **{name: ["'none'"] for name in ("base-uri", "frame-ancestors", "object-src")},
    }


def policed(settings: Any) -> None:
    """Have every page sent with SECURE_CSP: by Django's middleware, or on Django 5.2 by the one below."""
    if django.VERSION < (6, 0):
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.send_policy"]
    [templates] = settings.TEMPLATES
    if HAS_NONCES:
        processors = [*templates["OPTIONS"]["context_processors"], "django.template.context_processors.csp"]
        settings.TEMPLATES = [{**templates, "OPTIONS": {**templates["OPTIONS"], "context_processors": processors}}]


def send_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Do what Django's middleware does from 6.0 on."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        rules = [f"{name} {' '.join(sources)}" for name, sources in settings.SECURE_CSP.items()]
        response.headers.setdefault("Content-Security-Policy", "; ".join(rules))
        return response

    return middleware
