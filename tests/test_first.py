"""Scratch."""
from datetime import timedelta
import pytest
from canx_flow import workflow
from canx_flow.testing import advance, run_until_idle
from freezegun import freeze_time

calls=[]
@workflow("scratch")
def scratch(ctx, x):
    a = ctx.step("a", lambda: calls.append("a") or {"n": x})
    ctx.now()
    ctx.sleep("nap", timedelta(days=30))
    b = ctx.step("b", lambda: calls.append("b") or (a["n"] + 1,))
    got = ctx.wait_for("w", "ev", timeout=60, default="timeout")
    return [a, b, got]

@workflow("ascratch")
async def ascratch(ctx, x):
    a = await ctx.step("a", lambda: calls.append("a") or {"n": x})
    await ctx.sleep("nap", timedelta(days=30))
    b = await ctx.step("b", lambda: calls.append("b") or (a["n"] + 1,), atomic=True)
    got = await ctx.wait_for("w", "ev", timeout=60, default="timeout")
    return [a, b, got]

@pytest.mark.django_db
@pytest.mark.parametrize("wf", [scratch, ascratch])
@pytest.mark.filterwarnings("default")
def test_one(wf):
    """x"""
    calls.clear()
    rid = wf.start(5)
    assert wf.status(rid).state == "pending"
    run_until_idle()
    s = wf.status(rid)
    assert (s.state, s.step) == ("sleeping", "nap"), s
    advance(timedelta(days=29))
    assert wf.status(rid).state == "sleeping"
    advance(timedelta(days=1))
    s = wf.status(rid)
    assert s.state == "waiting", s
    wf.send(rid, "ev", {"x": 1})
    run_until_idle()
    s = wf.status(rid)
    assert s.state == "completed", s
    assert s.result == [{"n": 5}, (6,), {"x": 1}]
    assert calls == ["a", "b"]

@pytest.mark.django_db
def test_fail():
    """x"""
    n = []
    def bad():
        n.append(1)
        raise ValueError("no")
    @workflow("bad")
    def w(ctx):
        ctx.step("s", bad)
    rid = w.start()
    run_until_idle()
    assert w.status(rid).state == "retrying"
    advance(timedelta(hours=3))
    s = w.status(rid)
    assert s.state == "failed"
    assert len(n) == 16
    assert s.error["step"] == "s"
    w.retry(rid)
    run_until_idle()
    assert len(n) == 17
    assert w.cancel(rid) and w.status(rid).state == "cancelled"
