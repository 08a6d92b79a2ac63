"""System checks. `apps` imports this, which registers them.

| id | what is wrong |
|---|---|
| `canx_flow.E001` | `CANX_FLOW` is not a dict |
| `canx_flow.E002` | `CANX_FLOW` has an unknown key |
| `canx_flow.E003` | a value of `CANX_FLOW` has the wrong type |
| `canx_flow.E004` | a number in `CANX_FLOW` is out of range |
| `canx_flow.E005` | `CANX_FLOW["RETRY"]` are no keywords of `Retry`, or bad ones |
| `canx_flow.E006` | `CANX_FLOW["DATABASE"]` is not in `DATABASES` |
| `canx_flow.E007` | `CANX_FLOW["REDACT"]` is not the dotted path of a function |
| `canx_flow.E008` | `USE_TZ` is off: a local time that occurs twice cannot order timers |

Ids are never given to anything else.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from . import conf


@register("canx_flow")
def check_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Everything in `CANX_FLOW` that `conf.get()` would refuse."""
    return [Error(message, hint=hint or None, id=id_) for id_, message, hint in conf.problems()]


@register("canx_flow")
def check_time_zones(**_kwargs: Any) -> list[CheckMessage]:
    """Timers are ordered by their moments, and only aware ones have an order."""
    if settings.USE_TZ:
        return []
    message = "canx_flow needs USE_TZ = True: a local time that occurs twice cannot order timers."
    return [Error(message, hint="Set USE_TZ = True.", id="canx_flow.E008")]
