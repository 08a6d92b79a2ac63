"""Checks of the `CANX_FLOW` dict, of `USE_TZ` and of `TASKS`: E001 to E008 and E016 to E019."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from .. import conf

TASKS_APP = "canx_flow.contrib.tasks"
BACKEND = f"{TASKS_APP}.DurableBackend"


@register("canx_flow")
def check_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Report everything in `CANX_FLOW` that `conf.get()` would refuse."""
    return [Error(message, hint=hint or None, id=id_) for id_, message, hint in conf.problems()]


@register("canx_flow")
def check_time_zones(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse USE_TZ off: timers are ordered by their moments, and only aware ones have an order."""
    if settings.USE_TZ:
        return []
    message = "canx_flow needs USE_TZ = True: a local time that occurs twice cannot order timers."
    return [Error(message, hint="Set USE_TZ = True.", id="canx_flow.E008")]


@register("canx_flow")
def check_tasks(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse our backend without its app, by which workers know tasks. It is not imported: it may be of no use here."""
    named = [alias for alias, backend in _tasks().items() if backend.get("BACKEND") == BACKEND]
    return [without_app(named[0])] if named and not apps.is_installed(TASKS_APP) else []


def without_app(alias: str) -> Error:
    """Return the error of such a backend; those of which this check does not know tell it themselves."""
    message = f"TASKS[{alias!r}] is a DurableBackend, and {TASKS_APP} is not in INSTALLED_APPS."
    return Error(message, hint=f'Add "{TASKS_APP}": no worker would know a task.', id="canx_flow.E019")


def _tasks() -> dict[str, Any]:
    found = getattr(settings, "TASKS", {})
    return found if isinstance(found, dict) else {}
