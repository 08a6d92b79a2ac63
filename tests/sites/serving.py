"""`python -m tests.sites.serving SETTINGS`: serves a project whose admin has everything to show, until its input ends.

The first line that it prints is JSON: where it is, a session of somebody who may do everything, and pages.
"""

from __future__ import annotations

import json
import os
import sys


def main(settings: str) -> None:
    """Serve from a test database, which is gone afterwards."""
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    import django  # Once the settings are named.

    django.setup()
    from django.test import Client
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases
    from pytest_django.live_server_helper import LiveServer

    from tests.browser import world

    from . import walking

    setup_test_environment()
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        pages, client = world.build(), Client()
        client.force_login(walking.superuser())
        server = LiveServer("127.0.0.1")
        about = {"url": server.url, "session": client.cookies["sessionid"].value, "pages": pages}
        print(json.dumps(about), flush=True)
        sys.stdin.read()
        server.stop()
    finally:
        teardown_databases(databases, verbosity=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
