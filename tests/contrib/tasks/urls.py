"""The addresses of a project that declares a task beside its views, where workers do not look for it."""

from __future__ import annotations

from typing import Any

from canx_flow.contrib.tasks.compat import task

urlpatterns: list[Any] = []


@task
def remind() -> None:
    """Do nothing."""
