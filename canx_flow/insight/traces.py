"""Tracebacks in two parts: the frames of the engine that called a function, and those of the function itself.

Called by the admin and the terminal.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def own_frames(traceback: str) -> list[str]:
    """Return the lines of a traceback without canx_flow's own frames at its beginning; all, if it has no others."""
    head, *lines = traceback.splitlines() or [""]
    frames = [at for at, line in enumerate(lines) if line.startswith('  File "')]
    first = next((at for at in frames if not lines[at].startswith(f'  File "{_PACKAGE}')), 0)
    # An exception of canx_flow's own call has its end before the next part's frames.
    whole = all(line.startswith("  ") for line in lines[:first])
    return [head, *lines[first if whole else 0 :]]
