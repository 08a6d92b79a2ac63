"""The settings: read once, checked, never silently replaced by a default."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from canx_flow import conf
from canx_flow.core.rates import Rate
from canx_flow.retry import Retry

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.once

NOT_A_FUNCTION = "text"


def redact(value: Any, *, workflow: str, step: str | None, event: str | None, kind: str) -> Any:
    """What REDACT leads to here."""
    return "***"


def test_every_setting_has_its_default(settings: Settings) -> None:
    """An empty dict is a valid configuration, and so is none."""
    defaults = conf.Settings(
        database="default",
        retry=Retry(),
        lease_seconds=30,
        poll_seconds=1.0,
        max_recoveries=10,
        max_payload_bytes=1_000_000,
        event_days=30,
        retention_days=None,
        redact=None,
    )
    settings.CANX_FLOW = {}
    assert conf.get() == defaults
    settings.CANX_FLOW = {"RETENTION_DAYS": None, "REDACT": None}
    assert conf.get() == defaults
    del settings.CANX_FLOW
    assert conf.get() == defaults
    assert conf.problems() == []


def test_what_is_given_is_what_counts(settings: Settings) -> None:
    """Each key sets its field; RETRY's keywords make a Retry."""
    settings.CANX_FLOW = {
        "DATABASE": "default",
        "RETRY": {"max_attempts": 3, "jitter": 0},
        "LEASE_SECONDS": 2.5,
        "POLL_SECONDS": 1,
        "MAX_RECOVERIES": 5,
        "MAX_PAYLOAD_BYTES": 10,
        "EVENT_DAYS": 0.5,
        "RETENTION_DAYS": 90,
        "REDACT": f"{__name__}.redact",
        "ADMIN_URL": "https://example.com/admin/",
        "ADMIN_KEYS": False,
        "LIMITS": {"stripe": {"rate": "20/s", "burst": 3, "concurrency": 10}, "plain": {"concurrency": 1}},
        "QUEUES": {"mail": {"concurrency": 10, "rate": "100/m", "partition_rate": None, "aging": 0}},
    }
    found = conf.get()
    assert conf.problems() == []
    assert found.retry == Retry(max_attempts=3, jitter=0)
    assert (found.lease_seconds, found.poll_seconds, found.max_recoveries) == (2.5, 1, 5)
    assert (found.max_payload_bytes, found.event_days, found.retention_days) == (10, 0.5, 90)
    assert (found.limits["stripe"].rate, found.limits["plain"].rate) == (Rate(20, 1, "20/s"), None)
    assert (found.limits["stripe"].burst, found.limits["stripe"].concurrency) == (3, 10)
    assert (found.admin_url, found.admin_keys) == ("https://example.com/admin/", False)


def test_settings_are_read_once_and_again_after_a_change(settings: Settings) -> None:
    """Asking twice gives the same object; a changed setting is seen at once."""
    settings.CANX_FLOW = {"LEASE_SECONDS": 5}
    first = conf.get()
    assert conf.get() is first
    settings.CANX_FLOW = {"LEASE_SECONDS": 6}
    assert conf.get().lease_seconds == 6
    assert first.lease_seconds == 5


def test_nobody_changes_the_settings_object() -> None:
    """What `get` returns is frozen."""
    with pytest.raises(FrozenInstanceError):
        conf.get().lease_seconds = 1  # type: ignore[misc]


BAD = [
    (None, "E001"),
    ([("LEASE_SECONDS", 30)], "E001"),
    ({"LEASE_SECOND": 30}, "E002"),
    ({"lease_seconds": 30}, "E002"),
    ({1: 30}, "E002"),
    ({"LEASE_SECONDS": "30"}, "E003"),
    ({"LEASE_SECONDS": True}, "E003"),
    ({"LEASE_SECONDS": None}, "E003"),
    ({"POLL_SECONDS": [1]}, "E003"),
    ({"MAX_RECOVERIES": 10.0}, "E003"),
    ({"MAX_PAYLOAD_BYTES": "1MB"}, "E003"),
    ({"MAX_PAYLOAD_BYTES": True}, "E003"),
    ({"EVENT_DAYS": None}, "E003"),
    ({"RETENTION_DAYS": "90"}, "E003"),
    ({"DATABASE": None}, "E003"),
    ({"RETRY": Retry()}, "E003"),
    ({"REDACT": redact}, "E003"),
    ({"LEASE_SECONDS": 0}, "E004"),
    ({"LEASE_SECONDS": math.nan}, "E004"),
    ({"LEASE_SECONDS": math.inf}, "E004"),
    ({"POLL_SECONDS": -1}, "E004"),
    ({"MAX_RECOVERIES": 0}, "E004"),
    ({"MAX_PAYLOAD_BYTES": -5}, "E004"),
    ({"EVENT_DAYS": 10**9}, "E004"),
    ({"RETENTION_DAYS": -1}, "E004"),
    ({"RETRY": {"max_attempts": 0}}, "E005"),
    ({"RETRY": {"attempts": 3}}, "E005"),
    ({"RETRY": {"retry_on": ["ValueError"]}}, "E005"),
    ({"RETRY": {3: 4}}, "E005"),
    ({"DATABASE": "nowhere"}, "E006"),
    ({"ADMIN_URL": 1}, "E003"),
    ({"ADMIN_KEYS": "no"}, "E003"),
    ({"QUEUES": []}, "E003"),
    ({"QUEUES": {"mail": 5}}, "E003"),
    ({"QUEUES": {"": {}}}, "E018"),
    ({"QUEUES": {"mail": {"concurrency": 0}}}, "E018"),
    ({"QUEUES": {"mail": {"rate": "fast"}}}, "E018"),
    ({"QUEUES": {"mail": {"pace": 1}}}, "E018"),
    ({"ADMIN_URL": "/admin/"}, "E016"),
    ({"ADMIN_URL": "example.com/admin"}, "E016"),
    ({"ADMIN_URL": "https://example.com/admin/?next=x"}, "E016"),
    ({"ADMIN_URL": "https://example.com/ad min/"}, "E016"),
    ({"LIMITS": ["stripe"]}, "E003"),
    ({"LIMITS": {"": {"concurrency": 1}}}, "E017"),
    ({"LIMITS": {7: {"concurrency": 1}}}, "E017"),
    ({"LIMITS": {"a": None}}, "E017"),
    ({"LIMITS": {"a": {}}}, "E017"),
    ({"LIMITS": {"a": {"burst": 3}}}, "E017"),
    ({"LIMITS": {"a": {"concurrency": 1, "burst": 3}}}, "E017"),
    ({"LIMITS": {"a": {"rate": "20"}}}, "E017"),
    ({"LIMITS": {"a": {"rate": "0/s"}}}, "E017"),
    ({"LIMITS": {"a": {"rate": "20/w"}}}, "E017"),
    ({"LIMITS": {"a": {"rate": 20}}}, "E017"),
    ({"LIMITS": {"a": {"rate": "2/s", "burst": 0}}}, "E017"),
    ({"LIMITS": {"a": {"rate": "2/s", "burst": None}}}, "E017"),
    ({"LIMITS": {"a": {"concurrency": 0}}}, "E017"),
    ({"LIMITS": {"a": {"concurrency": True}}}, "E017"),
    ({"LIMITS": {"a": {"concurrency": 1.5}}}, "E017"),
    ({"LIMITS": {"a": {"concurency": 1}}}, "E017"),
]


@pytest.mark.parametrize(("given", "number"), BAD)
def test_bad_settings_are_refused_wherever_they_are_read(settings: Settings, given: Any, number: str) -> None:
    """A wrong setting is a problem with an id, and reading the settings raises with the same message."""
    settings.CANX_FLOW = given
    [(id_, message, _)] = conf.problems()
    assert id_ == f"canx_flow.{number}"
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.get()
    assert str(caught.value) == message


def test_all_problems_are_told_at_once(settings: Settings) -> None:
    """Three mistakes are three problems."""
    settings.CANX_FLOW = {"LEASE": 1, "POLL_SECONDS": "1", "EVENT_DAYS": 0}
    assert [id_ for id_, _, _ in conf.problems()] == ["canx_flow.E002", "canx_flow.E003", "canx_flow.E004"]
    with pytest.raises(ImproperlyConfigured, match=r"LEASE.*POLL_SECONDS.*EVENT_DAYS"):
        conf.get()


def test_a_misspelt_key_is_recognised(settings: Settings) -> None:
    """The hint names the key that was meant, or all of them."""
    settings.CANX_FLOW = {"lease_second": 1}
    assert conf.problems()[0][2] == "Did you mean 'LEASE_SECONDS'?"
    settings.CANX_FLOW = {"XYZ": 1}
    assert "MAX_PAYLOAD_BYTES" in conf.problems()[0][2]


def test_the_message_names_the_key_and_the_value(settings: Settings) -> None:
    """Who reads the message knows what to change."""
    settings.CANX_FLOW = {"DATABASE": "nowhere"}
    assert conf.problems()[0][1] == "CANX_FLOW['DATABASE'] names 'nowhere', which is not in DATABASES."
    settings.CANX_FLOW = {"RETENTION_DAYS": "90"}
    assert conf.problems()[0][1] == "CANX_FLOW['RETENTION_DAYS'] must be an int or a float or None, not str."


def test_redact_is_a_function(settings: Settings) -> None:
    """The dotted path leads to the function; without one there is none."""
    settings.CANX_FLOW = {"REDACT": f"{__name__}.redact"}
    function = conf.redactor()
    assert function is not None
    assert function(1, workflow="order", step="charge", event=None, kind="result") == "***"
    settings.CANX_FLOW = {}
    assert conf.redactor() is None


@pytest.mark.parametrize("path", ["", "redact", "no.such.module", f"{__name__}.missing", f"{__name__}.NOT_A_FUNCTION"])
def test_a_redact_that_leads_nowhere_is_a_problem(settings: Settings, path: str) -> None:
    """It is found by the checks and when it is used, but importing it is no part of reading the settings."""
    settings.CANX_FLOW = {"REDACT": path}
    assert [id_ for id_, _, _ in conf.problems()] == ["canx_flow.E007"]
    assert conf.get().redact == path
    with pytest.raises(ImproperlyConfigured, match="REDACT"):
        conf.redactor()


def of_before(name: str, value: Any) -> Any:
    """Takes a name and a value, which is not how it is called."""
    return (name, value)


def test_a_redact_that_cannot_be_called_is_a_problem(settings: Settings) -> None:
    """Its parameters are looked at, for each value would be hidden only because the call fails."""
    settings.CANX_FLOW = {"REDACT": f"{__name__}.of_before"}
    [(id_, said, hint)] = conf.problems()
    assert (id_, "cannot be called" in said) == ("canx_flow.E007", True)
    assert "redact(value, workflow=…, step=…, event=…, kind=…)" in hint


def test_importing_needs_no_settings() -> None:
    """The settings are not touched before code asks for one."""
    names = ("core.codec", "conf", "exceptions", "core.failures", "retry", "signals")
    code = "; ".join(f"import canx_flow.{name}" for name in names)
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
