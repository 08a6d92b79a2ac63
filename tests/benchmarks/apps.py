"""The benchmark's app. In a worker it can count what is sent to SQLite, which keeps no statistics of its own."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class BenchmarksConfig(AppConfig):
    name = "tests.benchmarks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        path = os.environ.get("BENCH_TRACE")
        if path:
            _count_statements(Path(path))


def _count_statements(path: Path) -> None:
    """Count the statements of every SQLite connection by their first word; written when the process ends."""
    counts: Counter[str] = Counter()

    def count(statement: str) -> None:
        counts[statement.split(None, 1)[0].upper()] += 1

    def follow(connection: Any, **_kwargs: Any) -> None:
        connection.connection.set_trace_callback(count)

    connection_created.connect(follow, weak=False)
    atexit.register(lambda: path.write_text(json.dumps(counts)))
