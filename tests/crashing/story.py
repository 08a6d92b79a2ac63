"""The runs that are killed: together they use everything that the engine writes for.

Their bodies are of either kind (`tests.kinds`). Each call of a step leaves a line in a file, which no crash takes back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from inspect import isawaitable
from typing import Any
from uuid import UUID

from canx_flow import Retry, RunFailed, StepFailed, WaitTimeout, client, current_step, send_event, workflow

from .. import effects
from ..kinds import Body, awaited, plain
from ..models import Effect

NOW = Retry(max_attempts=5, initial=0)
LATER = Retry(max_attempts=4, initial=30, jitter=0)
ONCE = "once"
#: Names of steps, and of bodies, whose records are others each time: the attempts of what is called once only; which
#: of two branches is first, and how far the other has come then.
UNSURE = frozenset((ONCE, "once, retried", "right/paid", "rivals"))


# -- steps -----------------------------------------------------------------------------------------


def _mark() -> None:
    """Leave that this step is called."""
    step = current_step()
    effects.append(f"{step.run_id} {step.generation} {step.attempt} {step.name}")


def deed(value: Any) -> Any:
    """Do what is stored when it has ended."""
    _mark()
    return value


async def adeed(value: Any) -> Any:
    """Do the same, as a coroutine."""
    _mark()
    return value


def stubborn(value: str) -> str:
    """Fail twice."""
    _mark()
    if current_step().attempt <= 2:
        raise ConnectionError("not yet")
    return value


def refused() -> None:
    """Fail always."""
    _mark()
    raise ConnectionError("never")


def written(value: str) -> str:
    """Write a row, which is there if the result is."""
    _mark()
    Effect.objects.create(name=current_step().name, value=value)
    return value


def sent(run_id: UUID, event: str) -> None:
    """Send this run an event. Whether it was sent now, or before a crash, is another thing each time."""
    _mark()
    client.send(run_id, event, event)


def called_out(event: str) -> None:
    """Send an event to all that wait for it."""
    _mark()
    send_event(event, event, key="k")


def undone(result: Any) -> None:
    """Undo what has had this result."""
    _mark()


def undone_at_last(result: Any) -> None:
    """Undo it at the third attempt."""
    stubborn("undone")


def undone_never(result: Any) -> None:
    """Fail to undo it."""
    refused()


def cancelled(run_id: UUID) -> bool:
    """Cancel this run."""
    _mark()
    return client.cancel(run_id, "no longer wanted")


def forked(run_id: UUID, from_step: str) -> None:
    """Fork this run, whatever it does."""
    _mark()
    client.fork(run_id, from_step)


# -- bodies ----------------------------------------------------------------------------------------


async def story(ctx: Any) -> list[Any]:
    """Steps of every sort, a sleep, and waits for events that come before, after, to all, and never."""
    told = [await ctx.step("plain", deed, 1), await ctx.step("coroutine", adeed, 2)]
    told.append(await ctx.step("retried", stubborn, "at last", retry=LATER))
    ctx.set_attributes(at="nap")
    await ctx.sleep("nap", timedelta(hours=3))
    told += [await ctx.wait_for("early", "early"), await ctx.wait_for("late", "late")]
    told.append(await ctx.wait_for("called out", "called out", key="k"))
    try:
        await ctx.wait_for("silence", "never", timeout=60)
    except WaitTimeout:
        told.append("nobody came")
    told.append(await ctx.step("row", written, "row", atomic=True))
    if ctx.patched("the new way"):
        told.append(await ctx.step("new way", deed, "patched"))
    for number in range(2):
        told.append(await ctx.step("again", deed, number))
    told.append(await ctx.step("once, retried", deed, "paid", at_most_once=True, retry=NOW))
    with suppress(StepFailed):
        await ctx.step(ONCE, deed, "asked", at_most_once=True)
    try:
        await ctx.step("refused", refused, retry=Retry(max_attempts=2, initial=1))
    except StepFailed as error:
        told.append(error.attempts)
    return told


async def teller(ctx: Any, story_id: UUID, doomed_id: UUID, crew_id: UUID) -> bool:
    """Tell the story what it waits for, have another of it, and end the doomed."""
    await ctx.step("early", sent, story_id, "early")
    await ctx.sleep("pause", timedelta(hours=5))
    await ctx.step("late", sent, story_id, "late")
    await ctx.step("word", sent, crew_id, "word")
    await ctx.sleep("rest", 60)
    await ctx.step("called out", called_out, "called out")
    await ctx.step("fork", forked, story_id, "silence")
    return await ctx.step("cancel", cancelled, doomed_id)


async def doomed(ctx: Any) -> None:
    """Sleep until it is cancelled, and undone; one child goes with it, and one goes on."""
    await ctx.step("plain", deed, 1, compensate=undone)
    await ctx.step("stubborn", deed, "booked", retry=LATER, compensate=undone_at_last)
    await ctx.step("refused", deed, "spent", retry=Retry(max_attempts=2, initial=1), compensate=undone_never)
    await ctx.spawn("left alone", _beside(ctx, "child").using(on_parent_cancel="abandon"), "alone", 2.0)
    await ctx.spawn("taken along", _beside(ctx, "child"), "along", 200.0)
    await ctx.sleep("for ever", timedelta(days=300))


async def late(ctx: Any) -> None:
    """Wait beyond its deadline, and be undone."""
    await ctx.step("plain", deed, 1, compensate=undone)
    await ctx.wait_for("nothing", "nothing")


async def era(ctx: Any, number: int) -> int:
    """Live through three generations."""
    await ctx.step("dawn", deed, number)
    await ctx.sleep("day", timedelta(hours=1))
    await ctx.step("dusk", written, str(number), atomic=True)
    if number < 3:
        ctx.continue_as_new(number + 1)
    return number


async def crew(ctx: Any) -> list[Any]:
    """Do things side by side: branches that do everything, a race that time decides, items that fail and are borne."""

    async def left(own: Any) -> Any:
        told = [await own.step("deed", deed, "left")]
        await own.sleep("nap", timedelta(minutes=20))
        return [*told, await own.step("row", written, "left", atomic=True)]

    async def right(own: Any) -> Any:
        told = [await own.step("retried", stubborn, "right", retry=LATER), await own.wait_for("word", "word")]
        return [*told, await own.step("paid", deed, "right", at_most_once=True, retry=NOW)]

    async def timed(own: Any) -> Any:
        async def late(inner: Any) -> Any:
            await inner.sleep("nap", timedelta(days=1))
            return await inner.step("deed", deed, "too late")

        async def soon(inner: Any) -> Any:
            await inner.sleep("nap", timedelta(minutes=10))
            return await inner.step("deed", adeed, "in time")

        async def asked(inner: Any) -> Any:
            return await inner.wait_for("answer", "never")

        return await own.race(late=late, soon=soon, asked=asked)

    told = [await ctx.gather(left=left, right=right, timed=timed)]
    items = await ctx.map("items", item, list(range(6)), concurrency=3, tolerate=2, retry=Retry(max_attempts=1))
    return [*told, [number if isinstance(number, int) else "borne" for number in items]]


async def trip(ctx: Any) -> None:
    """Book all but the car; the rest is given back, as far as that can be done."""

    async def hotel(own: Any) -> Any:
        await own.sleep("office opens", 600)
        return await own.step("room", written, "room", atomic=True, compensate=undone)

    async def visa(own: Any) -> Any:
        return await own.step("visa", deed, "visa", retry=Retry(max_attempts=1), compensate=undone_never)

    await ctx.step("flight", deed, "flight", retry=LATER, compensate=undone_at_last)
    await ctx.gather(hotel=hotel, visa=visa)
    await ctx.map("seats", deed, [1, 2, 3], compensate=undone)
    await ctx.step("car", refused, retry=Retry(max_attempts=1), compensate=undone)


def item(number: int) -> int:
    """Fail for two of them."""
    _mark()
    if number in (1, 4):
        raise ValueError(number)
    return number


async def child(ctx: Any, name: str, days: float) -> str:
    """Do a step, sleep, and leave a row."""
    await ctx.step("begin", deed, name)
    await ctx.sleep("nap", timedelta(days=days))
    return await ctx.step("end", written, name, atomic=True)


async def failing(ctx: Any) -> None:
    """Fail."""
    await ctx.step("fail", refused, retry=Retry(max_attempts=1))


async def parent(ctx: Any) -> list[Any]:
    """Call and spawn children: in turn, side by side, one that fails, and one that is too late."""
    one, none = _beside(ctx, "child"), _beside(ctx, "failing")
    spawned = await ctx.spawn("spawned", one, "spawned", 0.5)
    told = [await ctx.call("called", one, "called", 0.1)]
    try:
        await ctx.call("failing", none)
    except RunFailed as error:
        told.append(type(error).__name__)

    async def left(own: Any) -> Any:
        return await own.call("child", one, "left", 0.2)

    async def right(own: Any) -> Any:
        handle = await own.spawn("child", one, "right", 0.3)
        await own.step("meanwhile", deed, "right")
        return await _outcome(handle.result())

    async def late(own: Any) -> Any:
        return await own.call("child", one, "late", 100.0)

    async def soon(own: Any) -> Any:
        return await own.call("child", one, "soon", 0.4)

    told.append(await ctx.gather(left=left, right=right))
    told.append(await ctx.race(late=late, soon=soon))
    return [*told, await _outcome(spawned.result())]


async def _outcome(result: Any) -> Any:
    return await result if isawaitable(result) else result


def _beside(ctx: Any, body: str) -> Any:
    """Return the workflow of this body that is of the same kind as the one that asks."""
    return _WORKFLOWS[ctx.workflow.split(".")[1], body]


async def rivals(ctx: Any) -> str:
    """Race two branches of which either may win, and gather one that fails with one that does not."""

    async def one(own: Any) -> Any:
        await own.step("first", deed, 1)
        return await own.step("second", deed, 1)

    async def failing(own: Any) -> Any:
        await own.step("fail", refused, retry=Retry(max_attempts=1))

    winner, _ = await ctx.race(one=one, other=one)
    await ctx.step("won", deed, winner)
    try:
        await ctx.gather(bad=failing, good=one)
    except StepFailed:
        return "failed"
    return "done"


# -- all of them -----------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Body], Callable[..., Any]]] = {"sync": plain, "async": awaited}
_WORKFLOWS = {
    (kind, body.__name__): workflow(f"crashing.{kind}.{body.__name__}", made(body))
    for kind, made in KINDS.items()
    for body in (story, teller, doomed, late, era, crew, rivals, trip, child, failing, parent)
}


def begin(kind: str) -> None:
    """Start the runs, of `def` or of `async def` workflows."""
    of = {name: found for (its, name), found in _WORKFLOWS.items() if its == kind}
    story_id = of["story"].using(key="the story", timeout=timedelta(days=100), attributes={"at": "begin"}).start()
    doomed_id, crew_id = of["doomed"].start(), of["crew"].start()
    of["rivals"].start()
    of["parent"].start()
    of["trip"].start()
    of["teller"].using(delay=timedelta(minutes=1), priority=5).start(story_id, doomed_id, crew_id)
    of["era"].using(timeout=timedelta(hours=2)).start(1)
    of["late"].using(timeout=timedelta(hours=4)).start()
