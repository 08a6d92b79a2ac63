"""Settings of a project with a user model of its own, and two admin sites, neither of which is the default one."""

from __future__ import annotations

from tests.settings import *  # noqa: F403  (the suite's, and then what differs)
from tests.settings import INSTALLED_APPS

AUTH_USER_MODEL = "people.Person"
INSTALLED_APPS = [*(app for app in INSTALLED_APPS if app not in ("shop", "tests")), "tests.sites.people", "tests"]
ROOT_URLCONF = "tests.sites.people_urls"
