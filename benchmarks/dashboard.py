"""What the dashboard costs: pages of a long list of runs, served and painted, and one that is left open."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import repeat

import httpx
from playwright.async_api import BrowserContext, async_playwright

from benchmarks.figures import Spread, spread
from benchmarks.keys import Caller, until_cached
from benchmarks.reply import BenchmarkError
from benchmarks.results import Dashboard, PageCost
from benchmarks.side import cpu_s
from benchmarks.stack import Stack, running_stack

_PAGES = {"the newest": "/dashboard/runs", "a filter that none meets": "/dashboard/runs?state=failed"}
_WARM_UP = 3
_SETTLE_S = 3.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_VIEW = {"width": 1440, "height": 900}
# From the request to the frame after the page was whole, by the browser's own clock.
_WATCH = """
addEventListener("load", () => requestAnimationFrame(() => setTimeout(() => {
  const [navigation] = performance.getEntriesByType("navigation");
  window.painted = performance.now() - navigation.requestStart;
})));
"""
_PAINTED = """() => new Promise((done) => {
  const look = () => (window.painted ? done(window.painted) : setTimeout(look, 2));
  look();
})"""


async def measure(runs: int, *, requests: int, idle_s: float) -> Dashboard:
    """Make so many runs; open each page `requests` times; leave one open, and none, for `idle_s` seconds.

    Where there is no Chromium only what the API serves is measured. Raises `BenchmarkError`.
    """
    async with AsyncExitStack() as scope:
        stack = await scope.enter_async_context(running_stack(slots=1))
        await _make_runs(stack, runs)
        url = f"http://127.0.0.1:{stack.port}"
        http = await scope.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30))
        browser = await scope.enter_async_context(_chromium())
        pages = [await _page(name, path, http, browser, requests) for name, path in _PAGES.items()]
        closed = await _api_share(stack, idle_s)
        opened = None
        if browser is not None:
            page = await browser.new_page()
            await page.goto(f"{url}/dashboard")
            opened = await _api_share(stack, idle_s)
    return Dashboard(runs=runs, pages=pages, idle_s=idle_s, closed_cpu=closed, open_cpu=opened)


async def _make_runs(stack: Stack, runs: int) -> None:
    """Answers from the cache: runs like others in the list, and made in a moment."""
    async with AsyncExitStack() as scope:
        caller = await Caller.open(scope, stack, repeat(""))
        await until_cached(caller)
        for _ in range(runs):
            await caller.ask()


async def _page(
    name: str, path: str, http: httpx.AsyncClient, browser: BrowserContext | None, requests: int
) -> PageCost:
    took_ms: list[float] = []
    for _ in range(_WARM_UP + requests):
        began = time.monotonic()
        answer = await http.get(path)
        took_ms.append(1e3 * (time.monotonic() - began))
        if answer.status_code != httpx.codes.OK:
            raise BenchmarkError(f"{path} answers {answer.status_code}: {answer.text[:300]}")
    return PageCost(
        name=name,
        rows=answer.text.count('<tr id="run_'),
        size_bytes=len(answer.content),
        served_ms=spread(took_ms[_WARM_UP:]),
        painted_ms=None if browser is None else await _painted(browser, f"{http.base_url}{path}", requests),
    )


async def _painted(browser: BrowserContext, url: str, requests: int) -> Spread:
    page = await browser.new_page()
    took_ms: list[float] = []
    for _ in range(_WARM_UP + requests):
        await page.goto(url)
        took_ms.append(float(await page.evaluate(_PAINTED)))
    await page.close()
    return spread(took_ms[_WARM_UP:])


async def _api_share(stack: Stack, idle_s: float) -> float:
    """The share of one core that the API takes, once what was before has settled."""
    await asyncio.sleep(_SETTLE_S)
    began, spent_s = time.monotonic(), cpu_s((stack.api,))
    await asyncio.sleep(idle_s)
    return (cpu_s((stack.api,)) - spent_s) / (time.monotonic() - began)


@asynccontextmanager
async def _chromium() -> AsyncIterator[BrowserContext | None]:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        yield None
        return
    options = ["--no-proxy-server", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=options)
        context = await browser.new_context(viewport=_VIEW)  # type: ignore[arg-type]
        await context.add_init_script(_WATCH)
        yield context
        await browser.close()
