"""The app: makes the executor known. Celery workers find the task by which they call delegated ones in `tasks`."""

from __future__ import annotations

from django.apps import AppConfig


class CanxFlowCeleryConfig(AppConfig):
    name = "canx_flow.contrib.celery"
    label = "canx_flow_celery"
    verbose_name = "canx_flow (Celery)"

    def ready(self) -> None:
        """Register the executor."""
        from ...core.executors import register
        from .executor import CeleryExecutor

        register(CeleryExecutor())
