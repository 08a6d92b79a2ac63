"""The shop's pages under a strict content security policy: everything comes from files, every form has a token."""

from __future__ import annotations

from html.parser import HTMLParser
from importlib.util import find_spec

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from shop.models import Order, Subscription, Trip

pytestmark = [pytest.mark.django_db, pytest.mark.once]


class Page(HTMLParser):
    """What a page holds that a policy looks at, and its forms."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.offences: list[str] = []
        self.files: list[str] = []
        self.forms: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.offences += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.offences.append(tag)
        if tag in ("script", "link"):
            self.files.append(str(given.get("src") or given.get("href")))
        if tag == "form":
            self.forms.append([str(given.get("method"))])
        elif tag == "input" and self.forms:
            self.forms[-1].append(str(given.get("name")))


@pytest.fixture(
    params=["/", "/orders/{order}/", "/orders/{order}/approval/", "/subscriptions/{subscription}/", "/trips/{trip}/"]
)
def page(request: pytest.FixtureRequest, admin_client: Client, large: Order) -> Page:
    """One of the shop's pages."""
    admin_client.post("/subscriptions/", {"subscription-user": "Grace", "subscription-email": "g@example.com"})
    admin_client.post("/trips/", {"trip-customer": "Donald", "trip-destination": "Venice"})
    subscription, trip = Subscription.objects.get(), Trip.objects.get()
    address = request.param.format(order=large.pk, subscription=subscription.pk, trip=trip.pk)
    response = admin_client.get(address)
    assert response.status_code == 200
    if find_spec("django.middleware.csp"):  # Django 6.0
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self';")
    return Page(response.content.decode())


def test_nothing_is_written_into_the_page(page: Page) -> None:
    """No script, no style, no handler: only files, and these exist."""
    assert page.offences == []
    assert len(page.files) == 3
    assert all(finders.find(file.removeprefix("/static/")) for file in page.files)


def test_every_form_posts_a_token(page: Page) -> None:
    """No form changes anything by GET, or without what CSRF protection asks for."""
    assert all(form[:2] == ["post", "csrfmiddlewaretoken"] for form in page.forms)
