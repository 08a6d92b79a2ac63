"""Queues and workflows, as operators steer them: pause, resume, and the limits of queues.

The public names of `client.queues`. Everything happens in the caller's transaction on the runs' database.
"""

from .client.queues import (
    alimits,
    apause,
    apause_workflow,
    aresume,
    aresume_workflow,
    limits,
    pause,
    pause_workflow,
    resume,
    resume_workflow,
)
from .core.queue_limits import Limits

__all__ = [
    "Limits",
    "alimits",
    "apause",
    "apause_workflow",
    "aresume",
    "aresume_workflow",
    "limits",
    "pause",
    "pause_workflow",
    "resume",
    "resume_workflow",
]
