"""What is wrong with a `DurableBackend` in `TASKS`, for Django's system checks.

| id | what is wrong |
|---|---|
| `canx_flow_tasks.E001` | OPTIONS has an unknown key |
| `canx_flow_tasks.E002` | `OPTIONS["RETRY"]` are no keywords of `Retry`, or bad ones |
| `canx_flow_tasks.E003` | `OPTIONS["MODULES"]` is no list of names of modules |
| `canx_flow_tasks.W001` | a task is declared in a module that workers do not import |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.urls import get_resolver

from ...core.naming import shown
from ...retry import Retry
from . import catalogue
from .compat import task_backends

_OPTIONS = ("RETRY", "MODULES")


def of(alias: str, options: dict[str, Any]) -> Iterator[CheckMessage]:
    """Yield what is wrong with the backend of this alias."""
    for key in options:
        if key not in _OPTIONS:
            hint = f"The options are {', '.join(_OPTIONS)}."
            yield Error(f"{_option(alias, key)} is unknown.", hint=hint, id="canx_flow_tasks.E001")
    if "RETRY" in options:
        yield from _retry(alias, options["RETRY"])
    if modules_of(options) is None:
        message = f"{_option(alias, 'MODULES')} must be a list of names of modules, not {shown(options['MODULES'])}."
        yield Error(message, hint='Write {"MODULES": ["shop.emails"]}.', id="canx_flow_tasks.E003")
    yield from _without_app(alias)
    yield from _late(alias)


def modules_of(options: dict[str, Any]) -> list[str] | None:
    """Return the modules that OPTIONS names; `None` if it is no list of names."""
    given = options.get("MODULES", [])
    is_list = isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given)
    return list(given) if is_list else None


def _option(alias: str, key: Any) -> str:
    return f"TASKS[{alias!r}]['OPTIONS'][{shown(key)}]"


def _retry(alias: str, given: Any) -> Iterator[CheckMessage]:
    try:
        Retry(**given)
    except (TypeError, ValueError) as error:
        hint = f"Its keywords are {', '.join(item.name for item in fields(Retry))}."
        message = f"{_option(alias, 'RETRY')} makes no Retry: {error}."
        yield Error(message, hint=hint, id="canx_flow_tasks.E002")


def _without_app(alias: str) -> Iterator[CheckMessage]:
    """Yield E019 where the engine's own check, which imports no backend, does not know this one by its path."""
    from ...checks import settings  # Which needs models: backends are made before there are any.

    if task_backends.settings[alias]["BACKEND"] != settings.BACKEND and not apps.is_installed(settings.TASKS_APP):
        yield settings.without_app(alias)


def _late(alias: str) -> Iterator[CheckMessage]:
    with suppress(Exception):  # Django's own checks tell of them.
        list(get_resolver().url_patterns)  # Tasks beside views are told of whichever check is the first.
    for task in catalogue.found_late.values():
        if task.backend == alias:
            module = task.func.__module__
            yield Warning(
                f"Task {task.module_path} is in a module that workers do not import: its runs may be parked.",
                hint=f'Move it to the tasks module of an installed app, or add "{module}" to OPTIONS["MODULES"].',
                id="canx_flow_tasks.W001",
            )
