"""Settings of the suite: the shop's, with the tests' own app, two databases and fast leases.

DATABASE_URL chooses the tier: a SQLite file without it. The workers that tests start read the same settings, with
DATABASE_URL naming the *test* database; see `tests/processes.py`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from testproject.databases import database
from testproject.settings import *  # noqa: F403  (the shop's, and then what differs)
from testproject.settings import INSTALLED_APPS, SHOP_LIMITS, env

# Two runs of the suite on one machine do not share a database.
_OWN = f"test_canx_flow_{os.getpid()}"


def _tested(url: str, alias: str) -> dict[str, Any]:
    settings = database(url)
    settings["TEST"] = {"NAME": f"{_OWN}_{alias}"}
    if settings["ENGINE"].endswith("sqlite3"):
        # A file, not memory: real worker processes must open it too.
        settings["TEST"]["NAME"] = str(Path(tempfile.gettempdir()) / f"{_OWN}_{alias}.sqlite3")
    if settings["ENGINE"].endswith("mysql"):
        settings["TEST"]["CHARSET"] = "utf8mb4"
    if env.bool("TRACED", default=False):
        settings["ENGINE"] = f"tests.traced.{settings['ENGINE'].rpartition('.')[2]}"
    # More of this database's settings, for workers that a test starts.
    settings.update(env.json("DATABASE_SETTINGS", default={}) if alias == "default" else {})
    return settings


DATABASES = {
    "default": _tested(env.str("DATABASE_URL", default="sqlite:///db.sqlite3"), "default"),
    # A second database, for CANX_FLOW["DATABASE"] and for writes that a step does elsewhere. SQLite in every tier.
    "other": _tested(env.str("OTHER_DATABASE_URL", default="sqlite:///other.sqlite3"), "other"),
}
INSTALLED_APPS = [*INSTALLED_APPS, "tests"]
DEBUG = False
# Else it would tick in every test that lets days pass.
SHOP_REPORT = ""
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

CANX_FLOW = {"LIMITS": SHOP_LIMITS, **env.json("CANX_FLOW", default={"LEASE_SECONDS": 3, "POLL_SECONDS": 0.2})}
