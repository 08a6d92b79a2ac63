"""Settings of the shop. What differs between machines is read from the environment, or from `.env` beside manage.py;
`.env.example` explains every variable.
"""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import environ
from django.core import mail

from .databases import database
from .mailers import mailer

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
if (BASE_DIR / ".env").exists():
    env.read_env(str(BASE_DIR / ".env"))

DEBUG = env.bool("DEBUG", default=True)
# A default that everybody knows is for your own machine only.
SECRET_KEY = env.str("SECRET_KEY", default="only-for-your-own-machine" if DEBUG else environ.Env.NOTSET)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

DATABASES = {"default": database(env.str("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if hasattr(mail, "mailers"):  # Django 6.1
    MAILERS = {"default": mailer(env.str("EMAIL_URL", default="consolemail://"))}
else:
    vars().update(env.email("EMAIL_URL", default="consolemail://"))
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="The tea shop <shop@example.com>")

#: The whole of canx_flow's settings; every one has a default.
#: What the payment provider allows: steps that call it name this limit.
SHOP_LIMITS = {"payments": {"rate": "20/s", "burst": 20, "concurrency": 10}}
CANX_FLOW = {"LIMITS": SHOP_LIMITS, **env.json("CANX_FLOW", default={})}

#: Where the shop's pages are, for links in mails.
SHOP_URL = env.str("SHOP_URL", default="http://127.0.0.1:8000")
#: Who is asked to approve large orders.
SHOP_MANAGER = env.str("SHOP_MANAGER", default="manager@example.com")
#: When the manager is told what was ordered: a cron expression in TIME_ZONE; empty: never.
SHOP_REPORT = env.str("SHOP_REPORT", default="0 2 * * *")
#: How long the manager may take; then an order counts as approved.
SHOP_APPROVAL = timedelta(seconds=env.float("SHOP_APPROVAL_SECONDS", default=24 * 3600))
#: How long a trial is.
SHOP_TRIAL = timedelta(seconds=env.float("SHOP_TRIAL_SECONDS", default=30 * 24 * 3600))
#: How many seconds the pretended payment provider takes.
SHOP_PAYMENT_SECONDS = env.float("SHOP_PAYMENT_SECONDS", default=1.0)

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "canx_flow",
    "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
if find_spec("django.middleware.csp"):  # Django 6.0
    MIDDLEWARE.append("django.middleware.csp.ContentSecurityPolicyMiddleware")
#: Everything the pages need comes from here, and nothing is written into them.
SECURE_CSP = {"default-src": ["'self'"], "object-src": ["'none'"], "base-uri": ["'none'"], "form-action": ["'self'"]}
ROOT_URLCONF = "testproject.urls"
LOGIN_URL = "admin:login"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"

#: What the shop and canx_flow say, a line each, on the terminal of the worker and of the server.
SPOKEN = {"handlers": ["terminal"], "level": env.str("LOG_LEVEL", default="INFO")}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:7} {message}", "datefmt": "%H:%M:%S", "style": "{"}},
    "handlers": {"terminal": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"canx_flow": SPOKEN, "shop": SPOKEN},
}
