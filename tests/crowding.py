"""Workflows with very many branches, and such as tell how far calls are ahead of what is stored, for real workers.

Each body is a `def` and an `async def` workflow. Imported by `tests.workflows`.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

from canx_flow import Retry, current_step, workflow
from canx_flow.models import StepRecord
from canx_flow.workflows import Workflow

from . import effects
from .kinds import Body, awaited, plain

ONCE = Retry(max_attempts=1)
KINDS: dict[str, Callable[[Body], Callable[..., Any]]] = {"def": plain, "async def": awaited}
#: The workflows by the name of their body and their kind.
FLOWS: dict[tuple[str, str], Workflow[..., Any]] = {}


def each_kind(body: Body) -> Body:
    """Declare this body as a workflow of each kind."""
    for kind, made in KINDS.items():
        name = f"crowding.{body.__name__.replace('_', '-')}.{kind.replace(' ', '-')}"
        FLOWS[body.__name__, kind] = workflow(name, made(body))
    return body


# -- very many ---------------------------------------------------------------------------------------


def one() -> int:
    """Do next to nothing."""
    return 1


@each_kind
async def wide(ctx: Any, branches: int) -> int:
    """So many branches, each with a sleep between two steps."""

    async def branch(own: Any) -> int:
        first = await own.step("before", one)
        await own.sleep("nap", 0.1)
        return int(first + await own.step("after", one))

    return sum((await ctx.gather(**{f"b{n}": branch for n in range(branches)})).values())


@each_kind
async def deep(ctx: Any, branches: int) -> Any:
    """A race of a sleep and so many branches, each with a map of fifty items."""

    async def maps(own: Any) -> int:
        return sum(await own.map("one", lambda _: 1, range(50)))

    async def work(own: Any) -> int:
        return sum((await own.gather(**{f"b{n}": maps for n in range(branches)})).values())

    return await ctx.race(late=lambda own: own.sleep("nap", 3600), work=work)


# -- calls, and what is stored of them -----------------------------------------------------------------

_mutex = threading.Lock()
_begun: Counter[UUID] = Counter()


def _ahead(_item: int) -> int:
    """Return how many calls of this run have begun whose results are not stored yet, this one among them."""
    run_id = current_step().run_id
    with _mutex:
        _begun[run_id] += 1
        begun = _begun[run_id]
    return begun - StepRecord.objects.filter(run_id=run_id, kind="step", state="completed").count()


@each_kind
async def ahead(ctx: Any, items: int, concurrency: int) -> int:
    """Tell how far calls are ahead of what is stored, at most."""
    return max(await ctx.map("ahead", _ahead, range(items), concurrency=concurrency))


# -- failures and losers in flight ---------------------------------------------------------------------


def _fails_behind(gate: str) -> None:
    effects.gate(gate)
    raise LookupError(gate)


@each_kind
async def fails_twice(ctx: Any) -> None:
    """Two branches that are in a step each, and fail when they are told to."""
    await ctx.gather(
        first=lambda own: own.step("work", _fails_behind, "first", retry=ONCE),
        second=lambda own: own.step("work", _fails_behind, "second", retry=ONCE),
    )


def _told(gate: str) -> str:
    effects.gate(gate)
    return gate


@each_kind
async def loses_late(ctx: Any) -> Any:
    """A race whose loser's step ends after it was decided; then a wait, and another step."""
    won = await ctx.race(
        loser=lambda own: own.step("work", _told, "loser"), winner=lambda own: own.step("work", _told, "winner")
    )
    await ctx.wait_for("go", "go")
    return [won, await ctx.step("after", one)]


# -- a crash anywhere ----------------------------------------------------------------------------------


def _noted(line: str) -> int:
    effects.append(line)
    return 1


@each_kind
async def work(ctx: Any, number: int) -> Any:
    """Branches with several steps each, all kinds of waits, and a race: for kills at any moment."""

    async def steps(own: Any) -> int:
        return sum([await own.step("one", _noted, f"{number} one {n}") for n in range(5)])

    async def naps(own: Any) -> int:
        await own.sleep("nap", 0.1)
        return int(await own.step("two", _noted, f"{number} two"))

    won, value = await ctx.race(steps=steps, never=lambda own: own.wait_for("read", "never"))
    return [won, value, await ctx.gather(steps=steps, naps=naps)]


# -- an undo that takes too long -----------------------------------------------------------------------


def _undoes(booked: str) -> None:
    """Stand at a gate for ever, and at the second attempt not."""
    if current_step().attempt == 1:
        effects.gate("undo")
    effects.append(f"{booked} undone")


@each_kind
async def undone_in_time(ctx: Any) -> None:
    """A step that is undone within half a second, or tried again; and a wait."""
    await ctx.step("book", str, "room", timeout=0.5, retry=Retry(max_attempts=2, initial=0), compensate=_undoes)
    await ctx.wait_for("word", "word")


# -- at most once --------------------------------------------------------------------------------------


@each_kind
async def once_each(ctx: Any, items: int) -> None:
    """So many items, each of which leaves its number."""
    await ctx.map("call", lambda item: effects.append(str(item)), range(items), at_most_once=True)


# -- events among very many ----------------------------------------------------------------------------


@each_kind
async def hears(ctx: Any) -> Any:
    """A wait for one key of an event, beside a step that ends when the test says so."""

    async def told(own: Any) -> None:
        await own.wait_for("read", "paid", key="mine")
        await own.step("note", effects.append, "told")

    return await ctx.gather(long=lambda own: own.step("gate", effects.gate, "long"), told=told)
