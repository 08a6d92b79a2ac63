"""A real server, real workers, a real browser, and the people who sit before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from canx_flow.insight import kept

from .chromium import Chromium, Visitor, executable
from .policy import policed

#: Opens a window of somebody who is not logged in; keywords are options of a browser's context.
Door = Callable[..., Visitor]


@pytest.fixture(autouse=True)
def _looked_at_anew() -> None:
    """What the banner and the index say is kept for some seconds, and would be another test's."""
    kept.forget()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """The browser, started once."""
    browser = Chromium(executable())
    yield browser
    browser.end()


@pytest.fixture
def server(transactional_db: None, settings: Any) -> Iterator[str]:
    """The address of the project's server. Every page of it has the policy of the settings."""
    policed(settings)
    live = LiveServer("127.0.0.1")
    yield live.url
    live.stop()


@pytest.fixture
def anybody(chromium: Chromium, server: str) -> Iterator[Door]:
    """Somebody opens a window. Whatever they do, no page of theirs may complain."""
    inside: list[Visitor] = []

    def enter(**options: Any) -> Visitor:
        inside.append(Visitor(chromium, server, **options))
        return inside[-1]

    yield enter
    for visitor in inside:
        visitor.leaves()
    assert [visitor.faults for visitor in inside] == [[] for _visitor in inside]


@pytest.fixture
def manager(server: str) -> User:
    """The account of somebody who may do everything."""
    return User.objects.create_superuser("root", "root@example.com", "secret")


@pytest.fixture
def operator(anybody: Door, manager: User) -> Visitor:
    """The manager, logged in already."""
    return logged_in(anybody(), manager)


def logged_in(visitor: Visitor, user: User) -> Visitor:
    """Give the visitor a session of this user's."""
    client = Client()
    client.force_login(user)
    return visitor.has_cookie("sessionid", client.cookies["sessionid"].value)
