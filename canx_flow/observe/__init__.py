"""What the engine tells the outside. Its modules call `announce(fact)`; the log and Django's signals are receivers.

`facts` says what can happen, `log` how each fact reads as a line of the log, `django_signals` which signal it is.
"""

from __future__ import annotations

from . import django_signals, facts, log
from .announcing import add, announce, here, wants, wants_any
from .pages import of_run as run_url

add(log.RECEIVER)
add(django_signals.RECEIVER)

__all__ = ["add", "announce", "facts", "here", "run_url", "wants", "wants_any"]
