"""`python -m tests.sites SETTINGS [NAME=/root/ …]`: makes a test database, walks these sites, prints JSON of it."""

from __future__ import annotations

import json
import os
import sys


def main(settings: str, *named: str) -> None:
    """Walk each site, the default one at /admin/ if none is named."""
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    import django  # Once the settings are named.

    django.setup()
    from django.test import Client
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    from . import walking

    setup_test_environment()
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        sites = dict(each.split("=") for each in named) or {"admin": "/admin/"}
        found, user, client = walking.made(), walking.superuser(), Client()
        client.force_login(user)
        said = {}
        for name, root in sites.items():
            others = tuple(other for other in sites.values() if other != root)
            walked = walking.walk(client, root, others)
            said[name] = {"pages": walked.pages, "strays": sorted(walked.strays)}
        # Acting changes the runs that the others look at: one site acts, by every form that it has.
        last = [*sites][-1]
        said[last]["became"] = walking.act(client, last, found)
        print(json.dumps({"sites": said, **walking.summary(user)}))
    finally:
        teardown_databases(databases, verbosity=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
