"""The app: imports the modules in which tasks are declared, so that workers know them from their start.

Those of other backends, too: `using` may give them to one of ours, in a process that is no worker.
"""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class CanxFlowTasksConfig(AppConfig):
    name = "canx_flow.contrib.tasks"
    label = "canx_flow_tasks"
    verbose_name = "canx_flow (tasks)"

    def ready(self) -> None:
        """Import every installed app's `tasks` module, and those that OPTIONS["MODULES"] names."""
        from ...core.executors import register
        from . import performing
        from .backend import durable_backends
        from .executor import TasksExecutor

        register(TasksExecutor())
        autodiscover_modules("tasks")
        backends = list(durable_backends())
        for backend in backends:
            for name in backend.modules:
                import_module(name)
        if backends:
            performing.declare_all()
