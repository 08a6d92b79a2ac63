"""Settings of the benchmark's own process: those of its workers, and the admin, whose lists it draws."""

from __future__ import annotations

from .settings import *  # noqa: F403
from .settings import INSTALLED_APPS as WORKERS_APPS

INSTALLED_APPS = [
    *WORKERS_APPS, "django.contrib.auth", "django.contrib.messages", "django.contrib.sessions", "django.contrib.admin",
    "django.contrib.staticfiles",
]  # fmt: skip
ROOT_URLCONF = "tests.benchmarks.urls"
STATIC_URL = "/static/"
ALLOWED_HOSTS = ["testserver"]  # As a RequestFactory names it.
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]
