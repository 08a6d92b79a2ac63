"""The suite on every database there is: `make test` calls it with the arguments for pytest.

SQLite always; PostgreSQL where TEST_POSTGRES_URL is set, MariaDB or MySQL where TEST_MYSQL_URL is. Each tier is a
pytest run of its own. A URL that is set and does not answer is a failure, never a silent gap. The last line says what
ran.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Name, the variable with its URL, what pytest is asked for beside the caller's arguments.
TIERS = [
    ("SQLite", None, []),
    ("PostgreSQL", "TEST_POSTGRES_URL", ["-m", "not once"]),
    ("MariaDB", "TEST_MYSQL_URL", ["-m", "not once"]),
]
CONNECT = """
import sys
sys.path.insert(0, "testproject")
import django.conf, django.db
from testproject.databases import database
django.conf.settings.configure(DATABASES={"default": database(sys.argv[1])})
try:
    django.db.connection.ensure_connection()
except Exception as error:
    sys.exit(str(error).strip().splitlines()[0])
"""


def main(arguments: list[str]) -> int:
    wanted = [tier for tier in TIERS if tier[1] is None or os.environ.get(tier[1])]
    outcomes = {name: f"did not run ({variable} is not set)" for name, variable, _ in TIERS if variable}
    unreachable = [name for name, variable, _ in wanted if variable and not _reachable(name, variable)]
    if unreachable:
        return 1
    failed = False
    for name, variable, options in wanted:
        status, seconds = _run(name, os.environ[variable] if variable else None, [*options, *arguments])
        outcomes[name] = f"{'passed' if status == 0 else 'FAILED'} in {seconds:.0f} s"
        failed = failed or status != 0
    print("\nTiers: " + "; ".join(f"{name} {outcomes[name]}" for name, _, _ in TIERS) + ".", flush=True)
    return 1 if failed else 0


def _reachable(name: str, variable: str) -> bool:
    url = os.environ[variable]
    asked = subprocess.run(
        [sys.executable, "-c", CONNECT, url], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
    )
    if asked.returncode != 0:
        print(f"{name}: {variable} is set, but the server does not answer: {asked.stderr.strip()}", file=sys.stderr)
    return asked.returncode == 0


def _run(name: str, url: str | None, arguments: list[str]) -> tuple[int, float]:
    """pytest's exit status (5, no test run, counts as a failure like any other) and how long it took."""
    environment = {variable: value for variable, value in os.environ.items() if variable != "DATABASE_URL"}
    if url is not None:
        environment["DATABASE_URL"] = url
    print(f"\n=== {name} ===", flush=True)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False)
    return done.returncode, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
