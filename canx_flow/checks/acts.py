"""What acts on the world outside a run: writes through the ORM, mail, HTTP. Called by `impure` and `reading`.

Only what is plain to see from the source: `Order.objects.filter(…).update(…)`, `order.save()` where `order` comes from
such a call, `EmailMessage(…).send()`, `requests.post(…)`. Types are looked at, never objects: nothing is woken by it.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from django.core.mail import EmailMessage
from django.db.models import Model
from django.db.models.base import ModelBase
from django.db.models.manager import ManagerDescriptor

_HTTP = {"get", "options", "head", "post", "put", "patch", "delete", "request", "stream", "send"}
#: Functions by the module that people call them from. Only modules that are loaded already are looked at.
FUNCTIONS = {
    "django.core.mail": {"send_mail", "send_mass_mail", "mail_admins", "mail_managers"},
    "smtplib": {"SMTP", "SMTP_SSL"},
    "urllib.request": {"urlopen", "urlretrieve"},
    "requests": _HTTP,
    "httpx": _HTTP,
}
_CLIENTS = {
    ("requests.sessions", "Session"),
    ("httpx", "Client"),
    ("httpx", "AsyncClient"),
    ("aiohttp.client", "ClientSession"),
}
_CHAINS = {
    "all", "filter", "exclude", "using", "order_by", "reverse", "distinct", "annotate", "alias", "select_related",
    "prefetch_related", "select_for_update", "only", "defer", "iterator", "aiterator",
}  # fmt: skip
_ONE = {"get", "aget", "first", "afirst", "last", "alast", "latest", "alatest", "earliest", "aearliest"}
_MADE = {"create", "acreate"}
_ROWS_WRITE = {
    *_MADE, "update", "delete", "bulk_create", "bulk_update", "get_or_create", "update_or_create",
    "aupdate", "adelete", "abulk_create", "abulk_update", "aget_or_create", "aupdate_or_create",
}  # fmt: skip
_ONE_WRITES = {"save", "delete", "asave", "adelete"}
#: Names without which none of this is called: most bodies mention none of them, and need not be parsed.
NAMES = {"objects", *_ONE_WRITES, *_HTTP, *(name for names in FUNCTIONS.values() for name in names)}


@dataclass(frozen=True)
class Rows:
    """A manager or a queryset, by the name that leads to it: `Order.objects`."""

    model: type[Model]
    name: str


@dataclass(frozen=True)
class One:
    """An instance of this class."""

    cls: type


@dataclass(frozen=True)
class Method:
    """A method of rows or of an instance, not called yet."""

    owner: Rows | One
    name: str


def member(owner: Any, name: str) -> Any:
    """Return what `owner.name` is for a model, for what models make, for clients and mails; else `None`."""
    if isinstance(owner, (Rows, One)):
        return Method(owner, name)
    if issubclass(type(owner), ModelBase):
        found = inspect.getattr_static(owner, name, None)
        return Rows(owner, f"{owner.__name__}.{name}") if type(found) is ManagerDescriptor else None
    return Method(One(type(owner)), name) if _is_client(type(owner)) else None


def called(function: Any) -> Any:
    """Return what calling it makes; `None` if the source does not tell."""
    if type(function) is Method:
        owner = function.owner
        if isinstance(owner, Rows) and function.name in _CHAINS:
            return owner
        return One(owner.model) if isinstance(owner, Rows) and function.name in _ONE | _MADE else None
    return One(function) if isinstance(function, type) and _is_acting(function) else None


def item(value: Any) -> Any:
    """Return what a loop over it gets."""
    return One(value.model) if type(value) is Rows else None


def entered(value: Any) -> Any:
    """Return what `with value as name` gives: clients give themselves."""
    return value if type(value) is One and _is_client(value.cls) else None


def effect(function: Any) -> str:
    """Name what calling it does to the world, by the name that people know it by; empty for nothing."""
    if type(function) is not Method:
        return ""
    owner, name = function.owner, function.name
    if isinstance(owner, Rows):
        return f"{owner.name}.{name}" if name in _ROWS_WRITE else ""
    writes = _ONE_WRITES if issubclass(owner.cls, Model) else {"send"} if issubclass(owner.cls, EmailMessage) else _HTTP
    return f"{owner.cls.__name__}.{name}" if name in writes else ""


def functions() -> dict[Any, str]:
    """Return the functions of the table that are installed, and what people call them."""
    found = {}
    for path, names in FUNCTIONS.items():
        module = sys.modules.get(path)
        for name in names if type(module) is ModuleType else ():
            function = vars(module).get(name)
            if function is not None:
                found[function] = f"{path}.{name}"
    return found


def _is_acting(cls: type) -> bool:
    return issubclass(cls, (Model, EmailMessage)) or _is_client(cls)


def _is_client(cls: type) -> bool:
    return any((base.__module__, base.__qualname__) in _CLIENTS for base in cls.__mro__)
