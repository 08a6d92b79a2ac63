"""On what it was measured: versions and facts of the machine. No names, no paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sysconfig
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .measure import Spread
from .places import FOLDER
from .workers import ROOT

_FLUSHES = 200


def about() -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "python_optimized": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
        **{name: importlib.metadata.version(name) for name in ("canx-flow", "django", "psycopg")},
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
        "load": os.getloadavg()[0],
        "flush_ms": round(_flush_ms(), 3),
    }


def _flush_ms() -> float:
    """What the disk takes to make 8 kB durable: the median of some."""
    times = []
    with tempfile.TemporaryFile(dir=FOLDER, buffering=0) as file:
        for _ in range(_FLUSHES):
            file.seek(0)
            began = time.perf_counter()
            file.write(bytes(8192))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return Spread.of(times).median * 1000


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str | None:
    asked = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None
