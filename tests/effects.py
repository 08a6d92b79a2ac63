"""What steps did in whatever process they ran, kept in files that no kill takes back.

Steps call `append` and `gate`; tests call `read`, `count` and `release`. All processes find the folder through
EFFECTS_DIR, which the fixture `effects` of tests/conftest.py sets.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

_PAUSE = 0.01


def append(line: str) -> None:
    """Leave `line`. One write to a file opened for appending: lines of several processes never mix."""
    file = os.open(_folder() / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def read() -> list[str]:
    """Every line left so far, oldest first."""
    log = _folder() / "log"
    return log.read_text().splitlines() if log.exists() else []


def count(line: str) -> int:
    """How often exactly this line was left."""
    return read().count(line)


def gate(name: str, limit: float = 60.0) -> None:
    """Leave the line `at <name>`, then wait until `release(name)` was called somewhere.

    Raises TimeoutError after `limit` seconds, so that a forgotten gate ends with its reason.
    """
    append(f"at {name}")
    for _ in range(int(limit / _PAUSE)):
        if _released(name):
            return
        threading.Event().wait(_PAUSE)
    raise TimeoutError(f"nobody released the gate {name!r}")


def after(line: str, limit: float = 60.0) -> str:
    """Wait until `line` was left, by whatever runs beside this step, and return it.

    Raises TimeoutError after `limit` seconds.
    """
    for _ in range(int(limit / _PAUSE)):
        if count(line):
            return line
        threading.Event().wait(_PAUSE)
    raise TimeoutError(f"the line {line!r} was never left")


async def agate(name: str, limit: float = 60.0) -> None:
    """`gate` for async steps: blocks its task only."""
    append(f"at {name}")
    for _ in range(int(limit / _PAUSE)):
        if _released(name):
            return
        await asyncio.sleep(_PAUSE)
    raise TimeoutError(f"nobody released the gate {name!r}")


def release(name: str) -> None:
    """Let everybody through the gate, now and later."""
    (_folder() / f"gate-{name}").touch()


def _released(name: str) -> bool:
    return (_folder() / f"gate-{name}").exists()


def _folder() -> Path:
    return Path(os.environ["EFFECTS_DIR"])
