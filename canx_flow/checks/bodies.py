"""The check of workflow bodies, from their source: what they call outside steps must be the same on every replay, and
what an async one asks its context for must be awaited.

Without source it is silent, and it never raises: it may only ever warn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.checks import CheckMessage, Warning, register  # noqa: A004 - Django's name

from ..core import registry
from ..observe import announce, facts
from .forgotten import Forgotten, forgotten
from .reading import Finding, Reader
from .sources import Sources


@register("canx_flow")
def check_bodies(**_kwargs: Any) -> list[CheckMessage]:
    """Report each place once, also where several workflows call it."""
    reader, sources, found = Reader(), Sources(), []
    seen: set[Forgotten] = set()
    for workflow in registry.workflows():
        try:
            found += [_warning(workflow, finding) for finding in reader.read(workflow.function)]
            calls = forgotten(workflow.function, sources) if workflow.is_async else []
            found += [_not_awaited(workflow, call) for call in calls if call not in seen]
            seen.update(calls)
        except Exception as error:  # noqa: BLE001 - a warning that cannot be given must not stop Django from starting
            announce(facts.SourceNotRead(workflow.label, error))
    return found


def _warning(workflow: Any, finding: Finding) -> CheckMessage:
    impure, place = finding.impure, f"{_short(finding.file)}:{finding.line}"
    begin = f"Workflow {workflow.label!r} calls {impure.name}() in its body, at {place}."
    if impure.sleeps:
        message = f"{begin} The run keeps a slot of its worker meanwhile, and sleeps anew on every replay."
        return Warning(message, hint=f"Use {impure.instead}.", obj=workflow, id="canx_flow.W007")
    if impure.acts:
        message = f"{begin} The body runs again on every replay, and does it again each time."
        hint = "Call it inside a step: ctx.step(name, function, …)."
        return Warning(message, hint=hint, obj=workflow, id="canx_flow.W009")
    message = f"{begin} The body runs again on every replay, and what it gets then is not the same."
    hint = f"Use {impure.instead}, or call it inside a step." if impure.instead else "Call it inside a step."
    return Warning(message, hint=hint, obj=workflow, id="canx_flow.W006")


def _not_awaited(workflow: Any, call: Forgotten) -> CheckMessage:
    message = (
        f"Workflow {workflow.label!r} does not await {call.call}(), at {_short(call.file)}:{call.line}. The call does "
        f"nothing, and the run fails with NotAwaited."
    )
    return Warning(message, hint=f"Write `await {call.call}(…)`.", obj=workflow, id="canx_flow.W008")


def _short(file: str) -> str:
    """Return the path relative to where the command was started, if it is below."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file
