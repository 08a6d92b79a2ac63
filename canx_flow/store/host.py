"""Which process this is, and whether another worker's process is gone: so that a crash here costs no lease.

Called by the loop when it registers, and by the watcher. Only where `/proc` can be trusted; elsewhere the
lease alone decides.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from ..models import Worker

_PROC = Path("/proc")
#: Process states of the dead: zombie, dead, dead (before 4.14).
_ENDED = {"Z", "X", "x"}


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, and what its `pid` is to be believed by. Empty strings: cannot be looked up."""

    host: str
    pid: int
    boot_id: str = ""
    pid_namespace: str = ""
    process_started: str = ""


@dataclass(frozen=True, slots=True)
class _Process:
    state: str
    threads: int
    started: str

    @property
    def ended(self) -> bool:
        # A process whose first thread has ended is a zombie to look at and still works.
        return self.state in _ENDED and self.threads <= 1


def identify() -> Identity:
    """Return the identity of this process."""
    host, pid = socket.gethostname(), os.getpid()
    boot_id, pid_namespace = _boot_id(), _pid_namespace()
    process = _look_up("self") if boot_id and pid_namespace else None
    if process is None:
        return Identity(host, pid)
    return Identity(host, pid, boot_id, pid_namespace, process.started)


def is_gone(worker: Worker) -> bool:
    """Tell whether that worker's process has certainly ended; `False` wherever that cannot be told from here."""
    if not (worker.boot_id and worker.pid_namespace and worker.process_started) or worker.pid <= 0:
        return False
    if worker.boot_id != _boot_id() or worker.pid_namespace != _pid_namespace():
        return False
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # Somebody else's process: it exists.
    process = _look_up(str(worker.pid))
    return process is not None and (process.ended or process.started != worker.process_started)


def _boot_id() -> str:
    return _read(_PROC / "sys/kernel/random/boot_id").strip()


def _pid_namespace() -> str:
    """Empty as well where `/proc` shows another namespace's processes than the ones our PIDs mean."""
    try:
        if (_PROC / "self").readlink().name != str(os.getpid()):
            return ""
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _look_up(pid: str) -> _Process | None:
    # The command's name, in parentheses, may itself hold blanks and parentheses: count from the last one.
    fields = _read(_PROC / pid / "stat").rpartition(")")[2].split()
    if len(fields) < 20 or not fields[17].lstrip("-").isdigit():
        return None
    return _Process(state=fields[0], threads=int(fields[17]), started=fields[19])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
