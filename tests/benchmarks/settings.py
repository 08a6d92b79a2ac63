"""Settings of the benchmark: canx_flow as a new user has it, and the benchmark's own app.

BENCH_DATABASE holds the entry of DATABASES as JSON; the driver hands it to every process that it starts.
"""

from __future__ import annotations

import json
import os

DATABASES = {"default": json.loads(os.environ.get("BENCH_DATABASE", '{"ENGINE": "django.db.backends.sqlite3"}'))}
INSTALLED_APPS = ["django.contrib.contenttypes", "canx_flow", "tests.benchmarks"]
SECRET_KEY = "only for benchmarks"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
