"""One browser and one stack for all tests here: keys are asked for, and an administrator has one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.support.model import Model
from tests.support.stack import Stack, running_stack

ADMIN = "bl_browser-tests-administrator-0123456789"
READER = "bl_browser-tests-reader-0123456789abcdef"
_KEYS = [
    {"key": ADMIN, "name": "Ada", "tenant": "ours", "scopes": ["run", "read", "admin"]},
    {"key": READER, "name": "Rea", "tenant": "theirs", "scopes": ["read"]},
]
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_WAIT_MS = 20_000
expect.set_options(timeout=_WAIT_MS)
DESK = {"width": 1440, "height": 900}


@pytest.fixture(scope="session")
def board(model: Model) -> Iterator[Stack]:
    with running_stack(model, slots=8, auth="on", api_keys=json.dumps(_KEYS)) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def admin(board: Stack) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(base_url=board.url, headers=headers, timeout=30) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium here (apt-get install chromium)")
    options = ["--no-proxy-server", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=found, args=options)
        yield browser
        await browser.close()


class Visit:
    """A browser's window; `errors` has what its pages complained of, refused scripts among it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.noted: tuple[str, ...] = ()
        """How complaints begin that a test reckons with."""
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.set_default_timeout(_WAIT_MS)

    async def log_in(self, key: str = ADMIN) -> None:
        await self.page.goto(f"{self.url}/dashboard/login")
        await self.page.get_by_label("API key").fill(key)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.get_by_role("navigation").wait_for()

    async def open(self, path: str) -> Page:
        await self.page.goto(f"{self.url}/dashboard{path}")
        return self.page


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(viewport=DESK)  # type: ignore[arg-type]
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def _logged_in(context: BrowserContext, board: Stack) -> None:
    visit = Visit(await context.new_page(), board.url)
    await visit.log_in()
    await visit.page.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(context: BrowserContext, _logged_in: None, board: Stack) -> AsyncIterator[Visit]:
    """A window of the administrator's; nothing in it may have gone wrong."""
    visit = Visit(await context.new_page(), board.url)
    yield visit
    await visit.page.close()
    assert [error for error in visit.errors if not error.startswith(visit.noted)] == []


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(browser: Browser, board: Stack) -> AsyncIterator[Visit]:
    """A window of somebody who is not logged in."""
    context = await browser.new_context(viewport=DESK)  # type: ignore[arg-type]
    yield Visit(await context.new_page(), board.url)
    await context.close()


def vendored(name: str) -> str:
    return (Path(__file__).parent / "vendor" / name).read_text("utf-8")
