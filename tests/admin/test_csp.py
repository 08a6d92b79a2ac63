"""Clean under a strict Content-Security-Policy: no inline script, no inline style, nothing from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import django
import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from canx_flow import client as flow
from canx_flow.models import Event

from . import runs
from .conftest import url
from .runs import MAKE, at_rest
from .test_bulk import choose

pytestmark = pytest.mark.django_db


class _Inline(HTMLParser):
    """Collects what a strict policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._script = tag == "script" and "src" not in given and given.get("type") != "application/json"
        self.found += [f"<{tag} {name}>" for name in given if name == "style" or name.startswith("on")]
        addresses = [given.get(name) or "" for name in ("src", "href", "action")]
        self.found += [f"<{tag}> {to}" for to in addresses if to.startswith(("javascript:", "http:", "https:", "//"))]
        if tag == "style":
            self.found.append("<style>")

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.found.append(data.strip())


def forbidden(content: str) -> list[str]:
    """What of the page a strict policy would refuse."""
    parser = _Inline()
    parser.feed(content)
    return parser.found


@pytest.mark.once
@pytest.mark.parametrize(
    "content",
    ['<p style="color: red">', "<script>x()</script>", '<a onclick="x()">', "<style>", '<img src="https://x.org/y">'],
)
def test_what_is_forbidden_is_found(content: str) -> None:
    """The finder below would see what must not be there."""
    assert forbidden(content)


def pages(client: Client) -> dict[str, Any]:
    """Every page of ours, in every state."""
    made = {name: make() for name, make in MAKE.items()}
    flow.send(made["waiting"], "unheard", {"a": 1})
    event, worker = Event.objects.get().pk, runs.a_worker().pk
    return {
        **{name: client.get(url("change", run_id)) for name, run_id in made.items()},
        "cancel": client.get(url("cancel", made["sleeping"])),
        "retry": client.get(url("retry", made["failed"])),
        "many": choose(client, "cancel_runs", *made.values()),
        "list": client.get(url("changelist"), {"state": "all"}),
        "index": client.get("/admin/"),
        "dashboard": client.get(url("dashboard")),
        "queues": client.get(url("queues")),
        "workflows": client.get(url("workflows")),
        "workflow": client.get(url("workflow", "admin.any")),
        "workers": client.get(url("changelist", model="worker")),
        "worker": client.get(url("change", worker, model="worker")),
        "events": client.get(url("changelist", model="event")),
        "event": client.get(url("change", event, model="event")),
    }


def test_no_page_has_anything_inline(operator: Client) -> None:
    """Scripts and styles are files of this site."""
    for name, response in pages(operator).items():
        assert response.status_code == 200, name
        assert forbidden(response.content.decode()) == [], name


def test_the_style_sheet_is_there(operator: Client) -> None:
    """Every page of ours links it, and it can be found."""
    for name, response in pages(operator).items():
        assert "canx_flow/admin.css" in response.content.decode(), name
    assert finders.find("canx_flow/admin.css")


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django sends such a policy from 6.0 on")
@pytest.mark.once
def test_pages_are_whole_under_djangos_own_policy(operator: Client, settings: Any) -> None:
    """With nonces, and everything else forbidden: what has no nonce is no script and no style of ours."""
    from django.utils.csp import CSP

    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csp.ContentSecurityPolicyMiddleware"]
    settings.SECURE_CSP = {"default-src": [CSP.NONE], "script-src": [CSP.NONCE], "style-src": [CSP.SELF, CSP.NONCE]}
    [templates] = settings.TEMPLATES
    processors = [*templates["OPTIONS"]["context_processors"], "django.template.context_processors.csp"]
    settings.TEMPLATES = [{**templates, "OPTIONS": {**templates["OPTIONS"], "context_processors": processors}}]
    for name, response in pages(operator).items():
        assert "default-src 'none'" in response.headers["Content-Security-Policy"], name
        assert forbidden(response.content.decode()) == [], name
        sheet = next(line for line in response.content.decode().splitlines() if "canx_flow/admin.css" in line)
        assert django.VERSION < (6, 1) or "nonce=" in sheet, name


def test_a_long_history_is_clean_too(operator: Client) -> None:
    """The parts of the page that only show up sometimes."""
    run_id = at_rest("fail", note="x" * 20_000)
    assert forbidden(operator.get(url("change", run_id), {"rows": "more"}).content.decode()) == []
