"""`ctx.log`: the logger of a workflow's body, which says nothing twice. Made by the context, at its first use."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from .branch import Branch


class ReplayLog(logging.LoggerAdapter[logging.Logger]):
    """`ctx.log`: silent during replay, so that a line is logged once per run, not once per activation."""

    def __init__(self, branch: Branch) -> None:
        super().__init__(logging.getLogger(f"canx_flow.workflow.{branch.run.workflow}"), {})
        self._branch = branch

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return not self._branch.scope.is_silent and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        run = self._branch.run
        # Deferred: a project's settings import the package before they configure logging.
        from ..observe import run_url

        about = {"run_id": str(run.id), "workflow": run.workflow}
        if url := run_url(run.id):
            about["run_url"] = url
        kwargs["extra"] = {**about, **(kwargs.get("extra") or {})}
        return msg, kwargs
