"""A project's Celery app. Its broker, and the queue of its tasks, are those of the test that started the process."""

from __future__ import annotations

import os

from celery import Celery

app = Celery("tests.contrib.celery")
app.conf.update(
    broker_url=os.environ.get("CELERY_BROKER_URL", "memory://"),
    task_default_queue=os.environ.get("CELERY_QUEUE", "celery"),
    # As a project has it that wants its tasks to survive a killed worker: not so ours, which the run calls again.
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 5, "socket_connect_timeout": 2},
    worker_hijack_root_logger=False,
)
app.autodiscover_tasks()
