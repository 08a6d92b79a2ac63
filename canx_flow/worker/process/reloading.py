"""A worker that ends when the project's code changes, so that its parent starts another one (`--reload`).

Called by the command, in a child of a reloading supervisor.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from django.utils import autoreload

from ..exitcodes import CHANGED, FATAL
from .orders import Stoppable


def run_reloading(target: Stoppable, patience: float) -> int:
    """Run `target` beside Django's reloader, in a child of a reloading supervisor; return its exit code.

    When a file changes, the target first stops in good order, for `patience` seconds at most: runs handed
    back count no crash. The process must then end with CHANGED.
    """
    reloader = autoreload.get_reloader()
    ended = threading.Event()
    codes: list[int] = []

    def work() -> None:
        try:
            codes.append(target.run())
        finally:
            ended.set()
            reloader.stop()

    def hand_back(file_path: Path, **_kwargs: Any) -> None:
        if file_path.suffix != ".mo":  # Translations are taken up without a new process.
            target.stop()
            ended.wait(patience)

    autoreload.file_changed.connect(hand_back, weak=False, dispatch_uid="canx_flow.reload")
    try:
        autoreload.start_django(reloader, work)
    except SystemExit:
        return CHANGED
    finally:
        autoreload.file_changed.disconnect(dispatch_uid="canx_flow.reload")
    ended.wait()
    return codes[0] if codes else FATAL
