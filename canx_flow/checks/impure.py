"""What is not the same twice, sleeps, or acts: the functions that a body must leave to its context or to a step.

Called by `bodies`, which asks about each function that a body calls.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

from . import acts


@dataclass(frozen=True)
class Impure:
    """A function, by the name that people know it by, and what to use in its place; empty: only a step will do."""

    name: str
    instead: str
    sleeps: bool = False
    acts: bool = False
    #: It is harmless with arguments: then it converts what it is given.
    bare: bool = False


Known = dict[Callable[..., Any], Impure]

_NOW = "ctx.now()"
_UUID = "ctx.uuid(name)"
_RANDOM = "ctx.random"
_ONCE = ""

_FUNCTIONS = [
    *(Impure(f"datetime.datetime.{name}", _NOW) for name in ("now", "utcnow", "today")),
    Impure("datetime.date.today", "ctx.now().date()"),
    Impure("django.utils.timezone.now", _NOW),
    *(Impure(f"django.utils.timezone.{name}", _NOW, bare=True) for name in ("localtime", "localdate")),
    *(Impure(f"time.{name}", _NOW) for name in ("time", "time_ns", "monotonic", "monotonic_ns")),
    *(Impure(f"time.{name}", _NOW) for name in ("perf_counter", "perf_counter_ns")),
    *(Impure(f"time.{name}", _NOW, bare=True) for name in ("localtime", "gmtime", "ctime")),
    *(Impure(f"uuid.uuid{version}", _UUID) for version in (1, 4, 6, 7)),
    *(Impure(f"os.{name}", _ONCE) for name in ("urandom", "getrandom")),
    *(Impure(f"secrets.{name}", _ONCE) for name in ("token_bytes", "token_hex", "token_urlsafe", "randbelow")),
    Impure("django.utils.crypto.get_random_string", _ONCE),
    Impure("random.SystemRandom", _ONCE),
    Impure("random.Random", _RANDOM, bare=True),
    Impure("time.sleep", "ctx.sleep(name, duration)", sleeps=True),
    Impure("asyncio.sleep", "await ctx.sleep(name, duration)", sleeps=True),
]
#: The modules that they are found in.
OWNERS = {"datetime", *(impure.name.rpartition(".")[0] for impure in _FUNCTIONS)}
_CALLABLE = (FunctionType, BuiltinMethodType, MethodType, type)


def judged(function: Any, known: Known) -> Impure | None:
    """Say what is wrong with calling this in a body, if anything is."""
    if effect := acts.effect(function):
        return Impure(effect, _ONCE, acts=True)
    # By exact type: a lazy object pretends to be what it would have to fetch first.
    if type(function) not in _CALLABLE:
        return None
    owner = getattr(function, "__self__", None)
    if owner is random._inst:  # type: ignore[attr-defined]
        return Impure(f"random.{function.__name__}", _RANDOM)
    if type(owner) is random.SystemRandom:
        return Impure(f"secrets.{function.__name__}", _ONCE)
    return known.get(function)


def leads_to(value: Any, known: Known) -> bool:
    """Tell whether it is such a function, or a module or class that has one."""
    owner = type(value) is ModuleType and value.__name__ in OWNERS
    return owner or value is dt.datetime or value is dt.date or judged(value, known) is not None


def member(owner: Any, name: str) -> Any:
    """Return `owner.name` for a name in a module, a method of datetime's classes, and what has effects."""
    if type(owner) is ModuleType:
        return vars(owner).get(name)
    if type(owner) is type and owner.__module__ == "datetime":
        return getattr(owner, name, None)
    return acts.member(owner, name)


def known() -> Known:
    """Look the table's functions up as they are now: a frozen clock has replaced some of them."""
    found = {function: Impure(name, _ONCE, acts=True) for function, name in acts.functions().items()}
    for impure in _FUNCTIONS:
        path, _, name = impure.name.rpartition(".")
        function = getattr(_owner(path), name, None)
        if function is not None:  # uuid.uuid7 came with Python 3.14.
            found[function] = impure
    return found


def _owner(path: str) -> Any:
    return getattr(dt, path.partition(".")[2]) if path.startswith("datetime.") else import_module(path)
