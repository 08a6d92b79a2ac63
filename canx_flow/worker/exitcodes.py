"""What a worker's process ends with. Used by the worker, its supervisor and the command."""

from __future__ import annotations

CLEAN, FATAL, ARGUMENTS, FORCED = 0, 1, 2, 3
#: What Django's reloader ends a process with when a file has changed.
CHANGED = 3
