"""Walks an admin site as a superuser: follows its links, fills in its forms. No answer may be an error."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import resolve, reverse

from canx_flow.models import Event, Schedule, WorkflowRun
from tests.admin import runs

#: Pages of one kind, asked with parameters of the same names, that are looked at.
MOST_ALIKE = 2
#: Pages of one kind, whatever they are asked with.
MOST_OF_A_KIND = 20
_LINK = re.compile(r'\s(?:href|action)="([^"#]+)')


@dataclass
class Walked:
    """What was seen: how many pages of each name, and what led elsewhere."""

    pages: Counter[str] = field(default_factory=Counter)
    strays: set[str] = field(default_factory=set)
    contents: dict[str, str] = field(default_factory=dict)


def superuser() -> Any:
    """Somebody who may do everything, whatever people are here."""
    model: Any = get_user_model()
    return model._default_manager.create_superuser(**{model.USERNAME_FIELD: "root@example.com"})


def made() -> dict[str, Any]:
    """A run in each state, and what else there is to look at."""
    found = {name: make() for name, make in runs.MAKE.items()}
    runs.anything.send(found["waiting"], "unheard", {"a": 1})
    runs.steered()
    return found


def walk(client: Client, root: str, others: tuple[str, ...] = ()) -> Walked:
    """Follow every link from the index of a site on; `others`: where other sites are."""
    walked, alike = Walked(), Counter[tuple[str, ...]]()
    left, seen = [root], {root}
    while left:
        address = left.pop()
        response = client.get(address)
        assert response.status_code in (200, 302), (address, response.status_code)
        walked.pages[resolve(urlsplit(address).path).view_name] += 1
        walked.contents[address] = content = response.content.decode()
        for link in _links(address, content):
            walked.strays |= {link} if link.startswith(others) else set()
            kind = _kind(link) if link.startswith(root) and link not in seen else None
            if kind is not None and alike[kind] < MOST_ALIKE and alike[kind[:1]] < MOST_OF_A_KIND:
                alike.update({kind, kind[:1]})
                seen.add(link)
                left.append(link)
    return walked


def _links(address: str, content: str) -> set[str]:
    found = {urljoin(address, unescape(link)) for link in _LINK.findall(content)}
    return {link for link in found if not re.search(r"/(logout|password_change|jsi18n)/", link)}


def _kind(link: str) -> tuple[str, ...]:
    parts = urlsplit(link)
    return (resolve(parts.path).view_name, *sorted(name for name, _value in parse_qsl(parts.query)))


def act(client: Client, site: str, found: dict[str, Any]) -> dict[str, str]:
    """Do each thing that may be done, by its form as it stands; what each run became."""
    sent = {
        "wake": ("sleeping", {}), "resume": ("paused", {}), "pause": ("paused", {}), "cancel": ("paused", {}),
        "retry": ("failed", {}), "rerun": ("completed", {}), "fork": ("failed", {}),
        "send": ("waiting", {"event": "answered", "payload": "1"}),
    }  # fmt: skip
    became: dict[str, str] = {}
    for verb, (state, values) in sent.items():
        address = _address(site, "workflowrun", verb, found[state])
        became[verb] = _post(client, address, {"reason": "because", **values})
    start = _address(site, "workflowrun", "start", "admin.any")
    became["start"] = _post(client, start, {"arguments": '["sleep"]', "reason": "because"})
    broadcast = _address(site, "event", "send")
    became["broadcast"] = _post(client, broadcast, {"event": "told all", "payload": "1", "reason": "because"})
    row = Schedule.objects.get(name="poll")
    for verb in ("pause", "resume", "trigger"):
        became[f"{verb} a schedule"] = _post(client, _address(site, "schedule", verb, row.pk), {"reason": "because"})
    added = {"name": "mine", "workflow": "admin.any", "every": "3600", "overlap": "skip"}
    became["add a schedule"] = _post(client, _address(site, "schedule", "new"), added)
    became["limit a queue"] = _post(client, _address(site, "workflowrun", "queue", "reports"), {"concurrency": "3"})
    for verb in ("pause", "resume"):
        address = _address(site, "workflowrun", f"{verb}_workflow", "admin.any")
        became[f"{verb} a workflow"] = _post(client, address, {"reason": "because"})
    became["bulk"] = _bulk(client, _address(site, "workflowrun", "changelist"), found["retrying"])
    return became


def _address(site: str, model: str, what: str, *arguments: Any) -> str:
    return reverse(f"admin:canx_flow_{model}_{what}", args=arguments, current_app=site)


def _post(client: Client, address: str, values: dict[str, str]) -> str:
    """Open the form, change these values and send it; where that leads."""
    page = client.get(address)
    assert page.status_code == 200, (address, page.status_code)
    form = page.context["form"]
    initial = {name: form.get_initial_for_field(form.fields[name], name) or "" for name in form.fields}
    answer = client.post(address, {**initial, **values})
    assert answer.status_code == 302, (address, answer.context["form"].errors)
    assert client.get(answer["Location"]).status_code == 200
    return str(answer["Location"])


def _bulk(client: Client, address: str, run_id: Any) -> str:
    data = {"action": "cancel_runs", "_selected_action": [str(run_id)], "index": "0"}
    asked = client.post(address, data)
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', asked.content.decode())
    confirmed = client.post(address, {**{name: unescape(value) for name, value in hidden}, "reason": "because"})
    assert confirmed.status_code == 302
    return str(confirmed["Location"])


def summary(user: Any) -> dict[str, Any]:
    """What was written of it all."""
    return {
        "logged": LogEntry.objects.filter(user=user).count(),
        "by": sorted(set(WorkflowRun.objects.exclude(control_by="").values_list("control_by", flat=True))),
        "events": Event.objects.count(),
    }
