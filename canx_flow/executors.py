"""Executors: have the steps of `ctx.delegate` called by Celery, Django's tasks, or whatever a project has.

Derive from `Executor`, and `register` an object when your app is ready. What calls the task on the other side does it
by `perform`: of several deliveries of a message one calls the task, it beats while that runs, and what comes of it
reaches the run once.
"""

from .client.delegated import Attempt, attempt, perform
from .core.executors import DispatchOptions, Executor, register

__all__ = ["Attempt", "DispatchOptions", "Executor", "attempt", "perform", "register"]
