"""Checks of the `CANX_FLOW` dict and of `USE_TZ`: E001 to E008."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from .. import conf


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
