"""Settings of a project that has Celery: for our workers and Celery's that tests start."""

from __future__ import annotations

from tests.settings import *  # noqa: F403  (the suite's, and then what differs)
from tests.settings import INSTALLED_APPS

from .app import app as celery_app

__all__ = ["INSTALLED_APPS", "celery_app"]

INSTALLED_APPS = [*INSTALLED_APPS, "canx_flow.contrib.celery", "tests.contrib.celery"]
