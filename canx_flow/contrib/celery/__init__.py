"""Celery for the heavy steps: `ctx.delegate` sends them to any Celery task of the project, unchanged. An app.

    INSTALLED_APPS = […, "canx_flow", "canx_flow.contrib.celery"]

Needs Celery (`pip install "canx-flow[celery]"`). Importing `canx_flow` alone never imports it.
"""
