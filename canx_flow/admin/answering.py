"""What all pages answer alike that ask on GET and act on POST: who is refused, and whether anything was done."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils.translation import gettext as _


def refused(request: HttpRequest, may: bool) -> HttpResponse | None:
    """Answer another method than GET and POST, and whoever may not do it; `None`: it may be done."""
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "POST"])
    if not may:
        raise PermissionDenied
    return None


def say(admin: ModelAdmin[Any], request: HttpRequest, done: bool, said: Any) -> None:
    """Say what was done, or that there was nothing to be done."""
    if done:
        admin.message_user(request, said, messages.SUCCESS)
    else:
        admin.message_user(request, _("Nothing was changed: it stood so before."), messages.WARNING)
