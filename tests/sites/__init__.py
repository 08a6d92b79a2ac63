"""Other projects than the suite's: with people of their own kind, and admin sites of their own.

Each is a settings module. `python -m tests.sites SETTINGS` walks its admin sites in a process of its own, since Django
takes one AUTH_USER_MODEL and one list of apps for each process.
"""
