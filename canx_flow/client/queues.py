"""Queues, as operators steer them: pause, resume, limits; and workflows, paused by their name.

The functions of `canx_flow.queues`. Everything happens in the caller's transaction; workers are told after its commit.
"""

from __future__ import annotations

from typing import Any

from ..core import naming
from ..core.current import refuse_in_body
from ..core.options import checked_note
from ..core.queue_limits import AS_SETTINGS, NAMES, Limits, checked
from ..core.twins import twin
from ..observe import announce, facts
from ..store import queues, telling
from ..store.afterwards import after_commit
from . import named


def pause(name: str, reason: str = "", by: Any = None) -> bool:
    """Claim nothing more from a queue, until `resume`. What is under way goes on; timers keep their deadlines.

    `by`: a user, or any text; both are shown with the queue. A queue that is paused keeps the reason it was paused for:
    then this is `False`.
    """
    alias, name, note = _call("pause", name, reason, by)
    is_new = queues.pause(alias, name, note)
    if is_new:
        _tell(alias, facts.QueueSteered("queue", name, "paused", note["control_reason"], note["control_by"]))
    return is_new


def resume(name: str, *, by: Any = None) -> bool:
    """Claim from a paused queue again; `False` if it was not paused."""
    alias, name, note = _call("resume", name, "", by)
    was_paused = queues.resume(alias, name)
    if was_paused:
        _tell(alias, facts.QueueSteered("queue", name, "resumed", "", note["control_by"]))
    return was_paused


def limits(name: str, *, by: Any = None, **options: Any) -> Limits:
    """Set limits of a queue, in place of what the settings say, and return those in force; without options, only that.

    `concurrency`, `per_worker`, `rate`, `partition_concurrency`, `partition_rate`, `aging`, as in
    `CANX_FLOW["QUEUES"]`; `None`: no limit; `"settings"`: as the settings say again. Workers heed them from their next
    claim on; runs under way go on. TypeError or ValueError for a bad option, naming it.
    """
    alias, name, note = _call("limits", name, "", by)
    given = {
        key: value if value == AS_SETTINGS and key in NAMES else checked(key, value) for key, value in options.items()
    }
    if not given:
        return queues.limits(alias, name)
    found = queues.limit(alias, name, given)
    _tell(alias, facts.QueueSteered("queue", name, f"limited: {_listed(given)}", "", note["control_by"]))
    return found


def pause_workflow(name: str, reason: str = "", by: Any = None) -> bool:
    """Claim no run of a workflow, whatever its version and queue, until `resume_workflow`; else as `pause`."""
    alias, name, note = _call("pause", name, reason, by, "workflow", 200)
    is_new = queues.pause_workflow(alias, name, note)
    if is_new:
        _tell(alias, facts.QueueSteered("workflow", name, "paused", note["control_reason"], note["control_by"]))
    return is_new


def resume_workflow(name: str, *, by: Any = None) -> bool:
    """Claim a paused workflow's runs again; `False` if it was not paused."""
    alias, name, note = _call("resume", name, "", by, "workflow", 200)
    was_paused = queues.resume_workflow(alias, name)
    if was_paused:
        _tell(alias, facts.QueueSteered("workflow", name, "resumed", "", note["control_by"]))
    return was_paused


apause = twin(pause)
aresume = twin(resume)
alimits = twin(limits)
apause_workflow = twin(pause_workflow)
aresume_workflow = twin(resume_workflow)


def _call(
    verb: str, name: str, reason: str, by: Any, what: str = "queue", most: int = 100
) -> tuple[str, str, dict[str, Any]]:
    """Check a call; return the database, the name and the note of who made it."""
    refuse_in_body(verb)
    return named.alias(), naming.checked(name, f"the name of a {what}", most), checked_note(verb, reason, by)


def _listed(given: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'none' if value is None else value}" for name, value in given.items())


def _tell(alias: str, fact: facts.Fact) -> None:
    """Say what was changed, and have workers look anew, once that is committed."""
    after_commit(alias, announce, fact)
    after_commit(alias, telling.tell, alias, telling.LIMITS)
