"""Settings of a project whose tasks are on the engine: for the workers and commands that tests start."""

from __future__ import annotations

from typing import Any

import django

from tests.settings import *  # noqa: F403  (the suite's, and then what differs)
from tests.settings import INSTALLED_APPS, env

from . import backends

INSTALLED_APPS = [
    *INSTALLED_APPS,
    "canx_flow.contrib.tasks",
    *(["django_tasks"] if django.VERSION < (6, 0) else []),
]
_default = backends.TASKS["default"]
_options: Any = env.json("TASKS_OPTIONS", default=_default["OPTIONS"])
TASKS = {**backends.TASKS, "default": {**_default, "OPTIONS": _options}}
