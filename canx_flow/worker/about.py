"""Which canx_flow this is. Told by workers: in their banner and in their rows."""

from __future__ import annotations

from importlib import metadata

try:
    VERSION = metadata.version("canx-flow")
except metadata.PackageNotFoundError:
    VERSION = "(not installed)"
