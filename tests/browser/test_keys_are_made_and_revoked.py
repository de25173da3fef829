"""A key from its making on the page to its revocation, which logs out whoever came with it."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import READER, Visit
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")


def models(board: Stack, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{board.url}/v1/models", headers=headers, timeout=10).status_code


async def make(page: Page, name: str, *scopes: str) -> str:
    await page.get_by_text("Make a key").click()
    await page.get_by_label("Name").fill(name)
    for scope in scopes:
        await page.get_by_role("checkbox", name=scope, exact=True).check()
    await page.get_by_label("requests per minute").fill("50")
    await page.get_by_role("button", name="Make the key").click()
    return await page.locator("#secret").inner_text()


async def test_a_key_is_made_used_and_revoked(visit: Visit, stranger: Visit, board: Stack) -> None:
    page = await visit.open("/keys")
    secret = await make(page, "For a test", "admin")
    assert models(board, secret) == 200
    await stranger.log_in(secret)
    await expect(stranger.page.get_by_role("heading", name="Overview")).to_be_visible()
    await visit.open("/keys")
    await expect(page.locator("body")).not_to_contain_text(secret)
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Revoke For a test").click()
    await expect(page.get_by_role("row", name="For a test")).to_contain_text("revoked")
    assert models(board, secret) == 401
    await stranger.page.reload()
    await expect(stranger.page.get_by_label("API key")).to_be_visible()


async def test_a_question_comes_before_a_revocation(visit: Visit) -> None:
    page = await visit.open("/keys")
    asked: list[str] = []

    async def refuse(dialog: object) -> None:
        asked.append(getattr(dialog, "message", ""))
        await dialog.dismiss()  # type: ignore[attr-defined]

    page.on("dialog", refuse)
    await page.get_by_role("button", name="Revoke Rea").click()
    assert len(asked) == 1
    await expect(page.get_by_role("row", name=re.compile("^Rea "))).not_to_contain_text("revoked")


async def test_who_may_only_read_sees_no_more(stranger: Visit) -> None:
    await stranger.log_in(READER)
    page = stranger.page
    names = await page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert "Sessions" in names
    assert not {"Overview", "Playground", "Workers", "Keys and usage"} & set(names)
    await stranger.open("/keys")
    await expect(page.get_by_text("has not the scope 'admin'")).to_be_visible()


async def test_a_wrong_key_is_refused_and_log_out_ends_it(stranger: Visit) -> None:
    page = await stranger.open("/login")
    await page.get_by_label("API key").fill("bl_wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_have_text("That is not a key of this server.")
    await stranger.log_in()
    cookie = next(each for each in await page.context.cookies() if each["name"] == "backline_session")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    await page.get_by_role("button", name="Log out").click()
    await page.context.add_cookies([cookie])  # type: ignore[list-item]
    await stranger.open("/keys")
    await expect(page.get_by_label("API key")).to_be_visible()
