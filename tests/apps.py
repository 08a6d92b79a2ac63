"""The tests' own app: a model for steps to write to, and workflows that are found as any app's are."""

from __future__ import annotations

import os
from datetime import timedelta

from django.apps import AppConfig

from canx_flow.core import clock


class TestsConfig(AppConfig):
    name = "tests"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """A worker that a test starts may have a clock of its own: TESTS_CLOCK_SHIFT, in seconds."""
        clock.shift(timedelta(seconds=float(os.environ.get("TESTS_CLOCK_SHIFT", "0"))))
