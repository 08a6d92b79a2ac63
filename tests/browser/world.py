"""Everything that a page of the admin can show, and the ways from page to page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

from canx_flow import Context, client, send_event, workflow
from canx_flow.core import clock
from canx_flow.models import Worker
from canx_flow.testing import run_until_idle
from shop import orders
from shop.products import PRODUCTS

from ..admin import runs
from .chromium import Visitor

#: Where everything that is ours begins.
ADMIN = "/admin/canx_flow/"
#: Where to begin: the rest is found from there.
DOORS = (
    "/admin/",
    ADMIN,
    *(f"{ADMIN}{model}/" for model in ("workflowrun", "event", "worker", "schedule")),
    f"{ADMIN}workflowrun/?state=all",
)
#: Parameters of which every value shows something else, where there is no other; of the rest, one value will do.
_TOLD_APART = ("state", "steps", "who")
#: Filters of a list that are followed together: all of them would be as many pages as there are sets of filters.
FEW, MORE = 1, 2
#: Pages that a walk may find. There are about ninety, and about three hundred with `MORE`.
_MOST = 500
#: Where the way back leads.
_BACK = "_changelist_filters"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAMED = re.compile(r"/(workflows|queues|pause|resume)/[^/]+/")


@workflow("browser.family")
def family(ctx: Context, children: int) -> int:
    """Start children, and take their results."""
    started = [ctx.spawn(f"child-{number}", runs.anything, "x") for number in range(children)]
    return len([child.result() for child in started])


def build() -> list[str]:
    """Make runs in every state, and what else there is; return the address of each run's page."""
    others = [
        family.start(2),
        runs.long_named.start(),
        runs.many_steps.start(150),
        runs.anything.start(note={"text": "long " * 5_000}),
    ]
    order = orders.place("Ada", "ada@example.com", [(PRODUCTS[3], 1)])
    run_until_idle()
    made = [make() for make in runs.MAKE.values()]
    client.send(made[2], "unheard", {"a": 1})
    send_event("news", ["to", "all"])
    others.append(client.fork(made[8], "hopeless"))
    silent = runs.a_worker(queues=["mail", "reports"])
    Worker.objects.filter(id=silent.id).update(beat_at=clock.now() - timedelta(minutes=14))
    runs.steered()
    ours = [f"{ADMIN}workflowrun/{run_id}/change/" for run_id in (*made, *others)]
    return [*ours, f"/admin/shop/order/{order.pk}/change/"]


def walk(
    visitor: Visitor, doors: list[str], inside: str = "main", kind: Callable[[str], str] | None = None,
    filters: int = FEW,
) -> Iterator[str]:  # fmt: skip
    """Open every page that can be reached from these, one of each kind; yield its address while it is open.

    `inside`: the part of a page whose links are followed; `kind`: what addresses of one kind have in common;
    `filters`: with how many filters of a list at once, beside the state.
    """
    links, kind = f"{inside} a[href]", kind or _kind
    known = {kind(door) for door in doors}
    ahead = list(doors)
    while ahead:
        address = ahead.pop(0)
        visitor.opens(address)
        yield address
        assert len(known) <= _MOST, f"more ways than a walk can go: {sorted(known)}"
        for found in visitor.do(lambda page: page.eval_on_selector_all(links, "all => all.map(a => a.href)")):
            to = urlsplit(found)
            way = f"{to.path}?{to.query}" if to.query else to.path
            if to.path.startswith(ADMIN) and kind(way) not in known and len(_names(way)) <= filters:
                known.add(kind(way))
                ahead.append(way)


def place(address: str) -> str:
    """Return what an address has in common with those of other rows, however they are filtered."""
    return _NAMED.sub(r"/\1/#/", re.sub(r"[0-9]+", "#", _UUID.sub("#", urlsplit(address).path)))


def _kind(address: str) -> str:
    """Return what an address has in common with those that show the same of other rows."""
    given = _given(address)
    if len(given) == 1 and given[0][0] in _TOLD_APART:
        return f"{place(address)}?{given[0][0]}={given[0][1]}"
    return f"{place(address)}?{'&'.join(sorted(_names(address)))}"


def _names(address: str) -> set[str]:
    return {name for name, _value in _given(address)} - {"state"}


def _given(address: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in parse_qsl(urlsplit(address).query, True) if name != _BACK]
