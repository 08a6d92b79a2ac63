"""One mailer from its URL, for the MAILERS of Django 6.1. Used by the settings; older Djangos have EMAIL_… instead."""

from __future__ import annotations

from typing import Any

import environ

OPTIONS = {
    "EMAIL_HOST": "host",
    "EMAIL_PORT": "port",
    "EMAIL_HOST_USER": "username",
    "EMAIL_HOST_PASSWORD": "password",
    "EMAIL_USE_TLS": "use_tls",
    "EMAIL_USE_SSL": "use_ssl",
    "EMAIL_FILE_PATH": "file_path",
}


def mailer(url: str) -> dict[str, Any]:
    """Read `consolemail://`, `filemail:////folder` or `smtp+tls://user:password@host:port` as an entry of MAILERS."""
    settings = environ.Env.email_url_config(url)
    options = {option: settings[name] for name, option in OPTIONS.items() if settings.get(name)}
    return {"BACKEND": settings["EMAIL_BACKEND"], "OPTIONS": options}
