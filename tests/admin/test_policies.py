"""What a run's page and `flow show` say of its start policies."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client

from canx_flow.testing import advance, run_until_idle

from .runs import anything
from .test_page import page

pytestmark = pytest.mark.django_db


def test_the_page_names_them(viewer: Client) -> None:
    """The singleton that the run holds, until when it must have started, and the event that cancels it."""
    run_id = anything.using(
        singleton="sync:7", delay=60, expires=timedelta(hours=1), cancel_on=("user.deleted", "42")
    ).start()
    shown = page(viewer, run_id)
    for text in ("Singleton", "sync:7", "Expires", "Cancelled by event", "user.deleted", "expires unless started"):
        assert text in shown
    ordinary = page(viewer, anything.start())
    for text in ("Singleton", "Expires", "Cancelled by event"):
        assert text not in ordinary


def test_the_page_of_an_ended_run_says_that_it_has_expired(viewer: Client) -> None:
    """As its reason; what cannot come any more is left out."""
    run_id = anything.using(expires=60, delay=30).start()
    anything.pause(run_id)
    advance(61)
    anything.resume(run_id)
    run_until_idle()
    shown = page(viewer, run_id)
    assert "Expired" in shown
    assert "Expires" not in shown


def test_the_terminal_names_them() -> None:
    """A line each."""
    run_id = anything.using(singleton="sync:7", delay=60, expires=3600, cancel_on="gone").start()
    call_command("flow", "show", str(run_id), stdout=(out := io.StringIO()))
    text = out.getvalue()
    assert "singleton  sync:7" in text
    assert 'cancelled by event "gone"' in text
    assert "expires" in text
