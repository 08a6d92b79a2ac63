"""`{% load canx_flow %}`: for the project's own pages, with or without Django's admin.

Nothing of what runs were given, have returned or have failed with is shown: states, names and moments alone.
"""

from __future__ import annotations

from typing import Any

from django import template
from django.db.models import Model

from .. import conf
from ..core import clock
from ..core.naming import label
from ..core.pretty import printable
from ..insight import speech
from ..insight.subjects import runs_of
from ..insight.why import whys

register = template.Library()


@register.inclusion_tag("canx_flow/workflow_runs.html")
def workflow_runs(thing: Model, most: int = 10) -> dict[str, Any]:
    """Show the `most` newest runs that were started for an object: workflow, state, where it stands, created.

    `{% workflow_runs order %}`, `{% workflow_runs order most=3 %}`. Whoever sees the page sees them. ValueError for an
    object that is not saved.
    """
    found, now = runs_of(thing, most), clock.now()
    reasons = whys(conf.get().database, found.runs)
    rows = [
        {
            "workflow": printable(label(run.workflow, run.version)),
            "state": run.state,
            "state_said": speech.RUN_STATES.get(run.state, run.state),
            "stands": printable(reasons[run.id].without_payloads().words(now)),
            "created": run.created_at,
        }
        for run in found.runs
    ]
    return {"rows": rows, "left_out": max(found.number - len(rows), 0), "at_least": found.at_least}
