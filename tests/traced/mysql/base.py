"""Django's backend with a driver that is wrapped."""

from __future__ import annotations

from django.db.backends.mysql import base

from .. import Traced


class DatabaseWrapper(Traced, base.DatabaseWrapper):
    """What it opens is a tracer's."""
