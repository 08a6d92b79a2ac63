"""Events: sent to one run, or broadcast to every run that waits for them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction

from ..core import channel, codec, naming
from ..core.current import identified, refuse_in_body
from ..core.options import checked_note
from ..core.twins import twin
from ..exceptions import InvalidState
from ..states import CANCELLED, COMPLETED, RUNNING
from ..store import events, history, telling
from ..store.afterwards import after_commit
from . import named


def send(
    run_id: UUID | str,
    event: str,
    payload: Any = None,
    *,
    reason: str = "",
    dedup_id: str | None = None,
    by: Any = None,
    workflow: str | None = None,
) -> bool:
    """Send an event to one run: `True` if stored, `False` if this run has seen that `dedup_id`.

    `reason`, `by`: why and by whom, for the run's history, which tells what people send; what code sends costs no row
    beyond the event.
    """
    refuse_in_body("send")
    event, dedup_id = naming.event_name(event), _checked_dedup(dedup_id)
    text, note = codec.dumps(payload, f"the payload of event {event!r}"), checked_note("send", reason, by)
    chosen = named.one(run_id, workflow)
    known = chosen.values_list("state", "queue", "workflow", "version").first()
    if known is None:
        raise named.not_found(run_id, workflow)
    state, *needs = known
    key = named.as_uuid(run_id)
    with identified(dedup_id, lambda: ("send", str(key), event, codec.canonical(text))) as dedup_id:
        if state not in (COMPLETED, CANCELLED):
            stored = _store(chosen.db, key, event, text, dedup_id, note)
        # The run may have read this message before it ended: a repeated step gets the answer that it had.
        elif dedup_id is not None and events.was_sent(chosen.db, dedup_id, run_id=key):
            stored = False
        else:
            raise InvalidState(f"run {run_id} is {state}: it reads no more events")
    if stored:
        after_commit(chosen.db, wake_receiver, chosen.db, key, telling.Needs(*needs))
        if state == RUNNING:  # One of its branches may wait for this while others go on.
            after_commit(chosen.db, telling.tell_owner, chosen.db, key)
    return stored


def send_event(event: str, payload: Any = None, *, key: str | None = None, dedup_id: str | None = None) -> bool:
    """Broadcast an event: `True` if stored, `False` if this (event, key) has seen that `dedup_id`."""
    refuse_in_body("send_event")
    event, dedup_id = naming.event_name(event), _checked_dedup(dedup_id)
    if key is not None:
        key = naming.checked(key, "event key")
    alias = named.alias()
    text = codec.dumps(payload, f"the payload of event {event!r}")
    with identified(dedup_id, lambda: ("send_event", event, key, codec.canonical(text))) as dedup_id:
        stored = events.send(alias, event, text, key=key, dedup_id=dedup_id)
    if stored:
        after_commit(alias, telling.tell, alias, "broadcast")
    return stored


asend, asend_event = twin(send), twin(send_event)


def _checked_dedup(dedup_id: str | None) -> str | None:
    return None if dedup_id is None else naming.checked(dedup_id, "dedup_id")


def _store(alias: str, run_id: UUID, event: str, text: str, dedup_id: str | None, note: dict[str, Any]) -> bool:
    if channel.current() == channel.CODE and not note["control_by"]:
        return events.send(alias, event, text, run_id=run_id, dedup_id=dedup_id)
    with transaction.atomic(using=alias):
        stored = events.send(alias, event, text, run_id=run_id, dedup_id=dedup_id)
        if stored:
            history.called(alias, [run_id], note, detail=event)
    return stored


def wake_receiver(alias: str, run_id: UUID, needs: telling.Needs) -> None:
    """Wake the run if its row is free now; else tell the workers that there is an event, and they wake it."""
    woken = None
    try:
        woken = events.wake_at_once(alias, run_id)
    finally:
        if woken is not False:
            telling.tell(alias, "work" if woken else "event", needs)
