"""Async workflows and the async twins as a type checker sees them. Marks as in plain.py."""

from __future__ import annotations

from uuid import UUID

from canx_flow import AsyncContext, workflow


async def fetch(url: str) -> bytes:
    return url.encode()


def count(page: bytes) -> int:
    return len(page)


@workflow("typing.async")
async def crawl(ctx: AsyncContext, url: str) -> int:
    page = await ctx.step("fetch", fetch, url)
    reveal_type(page)  # R: bytes
    reveal_type(await ctx.step("count", count, page))  # R: int
    await ctx.step("fetch", fetch, 3)  # E: arg-type
    await ctx.sleep("pause", 1.0)
    return await ctx.step("count", count, page)


async def crawl_too(ctx: AsyncContext, url: str) -> bytes:
    return await ctx.step("fetch", fetch, url)


@workflow("typing.async-continues")
async def continues(ctx: AsyncContext, number: int) -> int:
    if number > 3:
        return number
    ctx.continue_as_new(number + 1)


async def outside(run_id: UUID) -> None:
    reveal_type(await crawl.afork(run_id, "count"))  # R: uuid.UUID
    reveal_type(await crawl.astart("https://example.org"))  # R: uuid.UUID
    await crawl.astart(3)  # E: arg-type
    reveal_type((await crawl.astatus(run_id)).state)  # R: str
    reveal_type(await crawl.acancel(run_id))  # R: bool
    reveal_type(await crawl.aresult(run_id))  # R: int
    reveal_type(await crawl.using(key="k").astart("https://example.org"))  # R: uuid.UUID


crawl.start("https://example.org")
crawl.start()  # E: call-arg
reveal_type(crawl.result("id"))  # R: int
reveal_type(workflow("typing.async-called", crawl_too).result("id"))  # R: bytes


@workflow("typing.async-parent")
async def parent(ctx: AsyncContext) -> int:
    reveal_type(await ctx.call("child", crawl, "https://example.org"))  # R: int
    handle = await ctx.spawn("child", crawl.using(on_parent_cancel="abandon"), "https://example.org")
    await ctx.call("child", crawl, 7)  # E: arg-type
    return await handle.result()
