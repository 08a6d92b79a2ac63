"""The app: imports every installed app's `workflows` module, registers the checks."""

from __future__ import annotations

import sys

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

from .worker.process import init

# As early as any code of this package: until then, the kernel drops a TERM to the first process of a container.
init.take_over(sys.argv)


class CanxFlowConfig(AppConfig):
    name = "canx_flow"
    label = "canx_flow"
    verbose_name = "canx_flow"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers itself)

        autodiscover_modules("workflows")
