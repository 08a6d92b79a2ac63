"""Settings of a project whose admin is django-unfold's."""

from __future__ import annotations

import warnings

import django

from tests.settings import *  # noqa: F403  (the suite's, and then what differs)
from tests.settings import INSTALLED_APPS, MIDDLEWARE

# Of unfold 0.110 with Django 6.1: its ModelAdmin takes no notice of an argument that is new there.
warnings.filterwarnings("ignore", r"Overriding get_action_choices\(\)", module=r"unfold\.admin")

INSTALLED_APPS = [
    "unfold",
    *(app for app in INSTALLED_APPS if app != "tests"),
    "canx_flow.contrib.unfold",
    "tests.sites.unfolded",
    "tests",
]
ROOT_URLCONF = "testproject.urls"
#: What docs/how-to/admin-sites.md says that unfold's pages need: Alpine evaluates their attributes, and their colours
#: are a style that is written into them.
SECURE_CSP = {
    "default-src": ["'self'"],
    "script-src": ["'self'", "'unsafe-eval'"],
    "style-src": ["'self'", "'unsafe-inline'"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
}
if django.VERSION < (6, 0):
    MIDDLEWARE = [*MIDDLEWARE, "tests.browser.policy.send_policy"]
