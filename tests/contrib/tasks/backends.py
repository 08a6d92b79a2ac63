"""What the tests' `TASKS` is: tasks on the engine, on the engine with retries, and at once."""

from __future__ import annotations

import django

OURS = "canx_flow.contrib.tasks.DurableBackend"
CORE = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
TASKS = {
    "default": {"BACKEND": OURS, "QUEUES": [], "OPTIONS": {"MODULES": ["tests.contrib.tasks.work"]}},
    "retried": {"BACKEND": OURS, "QUEUES": [], "OPTIONS": {"RETRY": {"max_attempts": 3, "initial": 60, "jitter": 0}}},
    "immediate": {"BACKEND": f"{CORE}.backends.immediate.ImmediateBackend", "QUEUES": []},
}
