"""Where a run stands, as `status()` answers it: the public names of `insight.status`."""

from .insight.status import RunStatus, WaitStatus

__all__ = ["RunStatus", "WaitStatus"]
