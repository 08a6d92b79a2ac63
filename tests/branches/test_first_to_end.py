"""What ends while no worker runs ends when it was due, or was sent: the first to end wins, however late all look."""

from __future__ import annotations

from typing import Any

import pytest
from freezegun import freeze_time

from canx_flow import Retry, WaitTimeout
from canx_flow.core.claimed import ClaimedRun
from canx_flow.models import StepRecord
from canx_flow.replay.connection_store import ConnectionStore
from canx_flow.testing import run_until_idle

from ..steps.shared import START
from .either import declared

pytestmark = pytest.mark.django_db

SLOW = Retry(initial=7, jitter=0)


async def _sleeps(ctx: Any) -> str:
    await ctx.sleep("nap", 5)
    return "slept"


async def _sleeps_long(ctx: Any) -> str:
    await ctx.sleep("nap", 8)
    return "slept long"


async def _reads(ctx: Any) -> Any:
    return await ctx.wait_for("read", "news")


async def _gives_up(ctx: Any) -> Any:
    return await ctx.wait_for("read", "other", timeout=6, default="gave up")


async def _tries(ctx: Any) -> None:
    def fails() -> None:
        raise ValueError

    await ctx.step("fails", fails, retry=SLOW)


BRANCHES = {"long": _sleeps_long, "gives_up": _gives_up, "reads": _reads, "tries": _tries, "sleeps": _sleeps}


@pytest.mark.parametrize(
    ("names", "sent_at", "winner"),
    [
        (["long", "sleeps"], None, "sleeps"),
        (["long", "gives_up"], None, "gives_up"),
        (["long", "gives_up", "sleeps"], None, "sleeps"),
        (["sleeps", "reads"], 3, "reads"),
        (["reads", "sleeps"], 3, "reads"),
        (["reads", "sleeps"], 6, "sleeps"),
        (["reads", "gives_up", "long"], 7, "gives_up"),
        (["tries", "long"], None, "long"),
        (["long", "reads", "tries", "gives_up"], 5, "reads"),
    ],
)
def test_the_first_to_end_wins_though_all_are_found_ended(
    kind: str, names: list[str], sent_at: int | None, winner: str
) -> None:
    """Whichever was opened first, and stands first in the code; what has lost is closed, and a replay says the same."""

    async def body(ctx: Any) -> Any:
        won = await ctx.race(**{name: BRANCHES[name] for name in names})
        await ctx.sleep("after", 60)
        return won

    flow = declared(kind, body)
    with freeze_time(START) as clock:
        run_id = flow.start()
        run_until_idle()
        if sent_at is not None:
            clock.tick(sent_at)
            flow.send(run_id, "news", "rain")
        clock.tick(20)
        run_until_idle()
        clock.tick(60)
        run_until_idle()
        assert flow.result(run_id)[0] == winner
    states = set(StepRecord.objects.exclude(name__startswith=f"{winner}/").values_list("state", flat=True))
    assert states <= {"completed", "closed"}


def test_nested_branches_end_when_their_own_do(kind: str) -> None:
    """A gather ends with the last of its branches, a race in it with the first."""

    async def both(ctx: Any) -> Any:
        return await ctx.gather(a=_sleeps_long, b=_sleeps)

    async def body(ctx: Any) -> Any:
        return await ctx.race(both=both, six=lambda c: c.sleep("nap", 6))

    flow = declared(kind, body)
    with freeze_time(START) as clock:
        run_id = flow.start()
        run_until_idle()
        clock.tick(20)
        run_until_idle()
        assert flow.result(run_id) == ("six", None)


def test_the_first_failure_is_that_which_was_due_first(kind: str) -> None:
    """Of two waits whose time was over before a worker came to look."""

    async def waits(ctx: Any, seconds: int) -> None:
        await ctx.wait_for(f"for {seconds}", "news", timeout=seconds)

    async def body(ctx: Any) -> str:
        try:
            await ctx.gather(a=lambda c: waits(c, 9), b=lambda c: waits(c, 4))
        except WaitTimeout as error:
            return str(error)
        return "none"

    flow = declared(kind, body)
    with freeze_time(START) as clock:
        run_id = flow.start()
        run_until_idle()
        clock.tick(20)
        run_until_idle()
        assert "b/for 4" in flow.result(run_id)


def test_an_event_is_for_the_wait_that_was_opened_first_though_another_is_due(kind: str) -> None:
    """A wait whose time is over takes no event from one that has waited longer for it."""

    async def body(ctx: Any) -> Any:
        return await ctx.race(
            first=_reads, second=lambda c: c.wait_for("read", "news", timeout=5, default="gave up"), long=_sleeps_long
        )

    flow = declared(kind, body)
    with freeze_time(START) as clock:
        run_id = flow.start()
        run_until_idle()
        clock.tick(4)
        flow.send(run_id, "news", "rain")
        clock.tick(20)
        run_until_idle()
        assert flow.result(run_id) == ("first", "rain")


def test_what_a_race_has_not_read_is_read_by_others(kind: str) -> None:
    """An event that was kept for a branch which has lost."""

    async def body(ctx: Any) -> Any:
        won = await ctx.race(reads=_reads, sleeps=_sleeps)
        return [won, await ctx.wait_for("again", "news")]

    flow = declared(kind, body)
    with freeze_time(START) as clock:
        run_id = flow.start()
        run_until_idle()
        clock.tick(6)
        flow.send(run_id, "news", "rain")
        clock.tick(20)
        run_until_idle()
        assert flow.result(run_id) == [("sleeps", "slept"), "rain"]


def test_no_event_is_kept_for_a_wait_that_todays_code_does_not_have(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the wait that is left, though the one that is gone stands last in its branch."""
    reload, again = ConnectionStore.reload, iter(range(5))

    def reloaded(store: ConnectionStore, run: ClaimedRun) -> None:
        assert next(again, None) is not None, "the run is replayed again and again"
        reload(store, run)

    def body(*names: str) -> Any:
        async def reads(ctx: Any) -> Any:
            return await ctx.gather(**dict.fromkeys(names, _reads))

        async def race(ctx: Any) -> Any:
            return await ctx.race(reads=reads, long=_sleeps_long)

        return race

    run_id = declared(kind, body("kept", "gone")).start()
    run_until_idle()
    flow = declared(kind, body("kept"))
    monkeypatch.setattr(ConnectionStore, "reload", reloaded)
    flow.send(run_id, "news", "rain")
    run_until_idle()
    assert flow.result(run_id) == ("reads", {"kept": "rain"})
