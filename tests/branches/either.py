"""Workflows of the tests of branches: a body written once, declared as the kind that the test is run with."""

from __future__ import annotations

from typing import Any

from canx_flow import workflow
from canx_flow.core import registry
from canx_flow.workflows import Workflow

from ..kinds import Body, awaited, plain

KINDS = {"def": plain, "async def": awaited}


def declared(kind: str, body: Body, name: str = "branches.any", **options: Any) -> Workflow[..., Any]:
    """Declare a workflow of this kind with this body; one of that name is forgotten."""
    registry.forget(name)
    return workflow(name, KINDS[kind](body), **options)
