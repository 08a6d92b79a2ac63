"""The shop's settings: what `.env.example` offers works, and nothing is left out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from testproject import settings as shop_settings
from testproject.databases import database
from testproject.mailers import mailer

from ..processes import ROOT, manage

pytestmark = pytest.mark.once

SHOP: dict[str, Any] = {"DJANGO_SETTINGS_MODULE": "testproject.settings"}
EXAMPLE = ROOT / "testproject" / ".env.example"
LINES = [line.removeprefix("#") for line in EXAMPLE.read_text().splitlines() if re.match(r"#?[A-Z_]+=", line)]


def values(variable: str) -> list[str]:
    """Each value that `.env.example` shows for this variable."""
    return [line.partition("=")[2] for line in LINES if line.startswith(f"{variable}=")]


def test_every_variable_is_in_the_example() -> None:
    """The settings read what the example explains, and nothing else."""
    source = Path(shop_settings.__file__).read_text()
    read = set(re.findall(r'env\.\w+\("([A-Z_]+)"', source))
    assert {line.partition("=")[0] for line in LINES} == read


def test_each_database_of_the_example_is_one() -> None:
    """SQLite, PostgreSQL and MariaDB, each with what its workers need."""
    sqlite, postgres, mariadb = map(database, values("DATABASE_URL"))

    assert (sqlite["ENGINE"], sqlite["NAME"]) == ("django.db.backends.sqlite3", "/srv/shop/db.sqlite3")
    assert sqlite["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in sqlite["OPTIONS"]["init_command"]
    for server, engine, port in [(postgres, "postgresql", 5432), (mariadb, "mysql", 3306)]:
        assert server["ENGINE"] == f"django.db.backends.{engine}"
        assert (server["HOST"], server["PORT"]) == ("127.0.0.1", port)
        assert (server["NAME"], server["USER"], server["PASSWORD"]) == ("shop", "shop", "secret")


def test_each_mail_address_of_the_example_is_one() -> None:
    """The terminal, a folder and a server."""
    console, folder, server = map(mailer, values("EMAIL_URL"))

    assert console == {"BACKEND": "django.core.mail.backends.console.EmailBackend", "OPTIONS": {}}
    assert folder["OPTIONS"] == {"file_path": "/srv/shop/mails"}
    assert server["OPTIONS"] == {
        "host": "mail.example.com", "port": 587, "username": "shop", "password": "secret", "use_tls": True,
    }  # fmt: skip


@pytest.mark.parametrize("url", ["consolemail://", "filemail:///{folder}"])
def test_mail_is_sent_without_a_warning(url: str, tmp_path: Path) -> None:
    """Whichever settings this Django wants for it, with warnings as errors."""
    code = "from django.core.mail import EmailMessage; EmailMessage('Tea', 'b', to=['a@example.com']).send()"
    sent = manage("shell", "-c", code, EMAIL_URL=url.format(folder=tmp_path), PYTHONWARNINGS="error", **SHOP)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert "Subject: Tea" in sent.stdout + "".join(file.read_text() for file in tmp_path.iterdir())


def test_the_well_known_key_is_for_debugging_only() -> None:
    """Without DEBUG the project refuses to start until it has a SECRET_KEY of its own."""
    refused = manage("check", DEBUG="off", **SHOP)
    assert refused.returncode != 0
    assert "Set the SECRET_KEY environment variable" in refused.stderr

    accepted = manage("check", DEBUG="off", SECRET_KEY="its-own", **SHOP)
    assert accepted.returncode == 0, accepted.stderr


def test_what_is_logged_is_a_line_for_people() -> None:
    """A line of the log has the time, the level and the words."""
    code = "import logging; logging.getLogger('canx_flow.run').info('Order %s waits', 7)"
    done = manage("shell", "-c", code, **SHOP)
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    Order 7 waits\n", done.stderr)
