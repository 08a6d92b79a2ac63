"""`flow schedules` and `flow schedule …`: what schedules do, in lines for a terminal and as facts for programs.

Called by the command `flow`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..client import schedules as client
from ..core import clock
from ..core.durations import ago, when
from ..core.naming import label
from ..insight import display
from ..insight.redaction import Names
from ..insight.schedules import Standing, noted, standing
from . import facts, given
from .terminal import Terminal, widest

ACTIONS = ("show", "pause", "resume", "trigger", "backfill")
_SHOWN = 10
_STYLES = {"active": "completed", "paused": "paused", "orphaned": "parked", "ended": "cancelled"}


def listed(terminal: Terminal, *, json: bool) -> Iterator[str]:
    """Yield a line per schedule."""
    found = [standing(row) for row in client.all_rows()]
    if json:
        yield facts.text([_facts(each) for each in found])
        return
    if not found:
        yield "No schedules."
        return
    name = widest([each.row.name for each in found], 4, 40)
    rule = widest([each.scheduled.rule for each in found], 4, 24)
    yield terminal.paint(f"{'name':{name}}  {'state':8}  {'rule':{rule}}  next", "HTTP_INFO")
    for each in found:
        state = terminal.colour(f"{each.state:8}", _STYLES[each.state])
        head = f"{terminal.column(each.row.name, name)}  {state}  {terminal.column(each.scheduled.rule, rule)}"
        yield f"{head}  {_next(each)}".rstrip()
        if each.skips:
            yield terminal.paint(f"  {terminal.signs.branch} {each.skips}", "WARNING")


def act(terminal: Terminal, options: dict[str, Any]) -> Iterator[str]:
    """Do what `flow schedule ACTION NAME` asks for; yield what is to be said of it."""
    name, action = options["name"], options["what"]
    if action != "backfill" and (options["start"], options["end"]) != (None, None):
        given.refuse("--from and --to are for backfill")
    if action == "show":
        yield from _shown(terminal, standing(client.row_of(name)), json=options["json"])
    elif action == "backfill":
        yield from _backfilled(name, options)
    elif action == "trigger":
        run_id = client.trigger(name, options["reason"], by=given.who())
        said = f"{run_id}  started by schedule {name!r}"
        yield facts.text({"schedule": name, "id": str(run_id)}) if options["json"] else said
    else:
        yield _held(name, action, options)


def _held(name: str, action: str, options: dict[str, Any]) -> str:
    if action == "pause":
        done, words = client.pause(name, options["reason"], by=given.who()), ("paused", "was paused before")
    else:
        done, words = client.resume(name, by=given.who()), ("resumed", "was not paused")
    if options["json"]:
        return facts.text({"schedule": name, "changed": done})
    return f"{name}  {words[0] if done else words[1]}"


def _backfilled(name: str, options: dict[str, Any]) -> Iterator[str]:
    start, end = given.moment(options["start"], "--from"), given.moment(options["end"], "--to")
    if start is None or end is None:
        given.refuse("backfill needs --from and --to")
    missing = client.missing(name, start, end)
    if options["dry_run"]:
        moments = [facts.iso(moment) for moment in missing]
        said = f"{name}  {len(missing):,} ticks have no run"
        yield facts.text({"schedule": name, "missing": moments}) if options["json"] else said
        return
    ids = client.backfill(name, start, end, priority=options["priority"], reason=options["reason"], by=given.who())
    said = f"{name}  {len(ids):,} runs started"
    yield facts.text({"schedule": name, "ids": [str(run_id) for run_id in ids]}) if options["json"] else said


def _shown(terminal: Terminal, each: Standing, *, json: bool) -> Iterator[str]:
    row, scheduled = each.row, each.scheduled
    ticks = noted(client.upcoming_ticks(row.name, _SHOWN), scheduled.recurrence.zone)
    if json:
        coming = [{"nominal": facts.iso(t.nominal), "due_at": facts.iso(t.due_at), "note": t.note} for t in ticks]
        yield facts.text({**_facts(each), "upcoming": coming})
        return
    given_as = display.arguments(row.arguments, Names("arguments", row.workflow)).text
    yield terminal.strong(row.name)
    yield f"  {each.state}: {scheduled.rule} ({scheduled.recurrence.tz})"
    yield f"  starts {label(row.workflow, row.version)}{given_as}"
    yield f"  overlap {scheduled.overlap}, catch_up {scheduled.catch_up}"
    if row.paused:
        yield f"  paused by {row.paused_by or 'nobody named'}{f': {row.note}' if row.note else ''}"
    if row.last_at is not None:
        yield f"  last tick {row.last_at.isoformat()}, run {row.last_run_id}"
    if each.skips:
        yield "  " + terminal.paint(each.skips, "WARNING")
    for tick in ticks:
        later = f", starts {tick.due_at.astimezone(tick.nominal.tzinfo):%H:%M:%S}" if tick.is_moved else ""
        yield f"  {tick.nominal:%Y-%m-%d %H:%M:%S %Z}{later}{f' ({tick.note})' if tick.note else ''}"


def _next(each: Standing) -> str:
    now, row = clock.now(), each.row
    if row.paused:
        return f"paused by {row.paused_by}" if row.paused_by else "paused"
    if row.orphaned_at is not None:
        return f"no live worker has declared it since {ago(row.orphaned_at, now)}"
    return when(row.next_at, now) if row.next_at is not None else "never again"


def _facts(each: Standing) -> dict[str, Any]:
    row, scheduled = each.row, each.scheduled
    rule = scheduled.recurrence
    return {
        "name": row.name,
        "state": each.state,
        "origin": row.origin,
        "workflow": row.workflow,
        "version": row.version,
        "cron": rule.cron,
        "every": None if rule.every is None else rule.every.total_seconds(),
        "tz": rule.tz,
        "overlap": scheduled.overlap,
        "catch_up": scheduled.catch_up,
        "next_at": facts.iso(row.next_at),
        "nominal_at": facts.iso(row.nominal_at),
        "last_at": facts.iso(row.last_at),
        "last_run": None if row.last_run_id is None else str(row.last_run_id),
        "paused_by": row.paused_by if row.paused else None,
        "note": row.note if row.paused else None,
        "orphaned_at": facts.iso(row.orphaned_at),
        "skipped": row.skipped,
        "skip_reason": row.skip_reason,
        "skip_holder": None if row.skip_holder is None else str(row.skip_holder),
        "skipped_since": facts.iso(row.skipped_since),
    }
