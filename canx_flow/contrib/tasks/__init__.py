"""Django's tasks on the engine: `DurableBackend` for `TASKS`. An app: a project lists it after `canx_flow`.

    INSTALLED_APPS = […, "canx_flow", "canx_flow.contrib.tasks"]
    TASKS = {"default": {"BACKEND": "canx_flow.contrib.tasks.DurableBackend"}}

Each task is a workflow of one step, named `task:shop.tasks.send_receipt`. Needs Django 6.0, or the `django-tasks`
backport (`pip install "canx-flow[tasks]"`).
"""

from .backend import DurableBackend

__all__ = ["DurableBackend"]
