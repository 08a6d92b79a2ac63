"""The tests' own app: a model for steps to write to, and workflows that are found as any app's are."""

from __future__ import annotations

from django.apps import AppConfig


class TestsConfig(AppConfig):
    name = "tests"
    default_auto_field = "django.db.models.BigAutoField"
