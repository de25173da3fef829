"""Whatever users, agents and clients write is shown, and does nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.async_api import expect

from scripted_model import call, say, script, text, think, use_tool
from tests.browser.conftest import Visit
from tests.browser.lines import a_batch

pytestmark = pytest.mark.asyncio(loop_scope="session")

HACK = "window.hacked=1"
CORPUS = [
    f"<script>{HACK}</script>",
    f"<img src=x onerror={HACK}>",
    f"<svg onload={HACK}><a href='javascript:{HACK}'>x</a></svg>",
    f"[click](javascript:{HACK})",
    f"[click](data:text/html,<script>{HACK}</script>)",
    f'![x](x" onerror="{HACK})',
    f"<iframe srcdoc='<script>parent.{HACK}</script>'></iframe>",
    f'<a href="java&#x09;script:{HACK}">click</a>',
    f"<math><mtext></form><form><mglyph><style></math><img src onerror={HACK}>",
    f"<details open ontoggle={HACK}>x</details>",
    "<form action='/dashboard/logout' method=post><button>click</button></form>",
    "<style>@import 'x'; body { display: none }</style>",
    f"'\"><input autofocus onfocus={HACK}>",
    "{{ 7*7 }}{% include 'x' %}",
    "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=https://evil.example'>",
]
ALL = "\n\n".join(CORPUS)
NOTED = ("Applying inline style", "Setting the document's base URI")


async def nothing_happened(visit: Visit) -> None:
    page = visit.page
    # What is sanitised is parsed first, in a document of its own; the browser notes what it refuses there.
    visit.noted = NOTED
    for link in await page.locator("main a").all():
        href = await link.get_attribute("href") or ""
        assert not href.strip().lower().startswith(("javascript:", "data:text")), href
    assert await page.evaluate("window.hacked") is None
    dangerous = "main :is(script, iframe, object, embed, style, base, meta, svg:not(.bars), .answer form)"
    assert await page.locator(dangerous).count() == 0
    names = "[...document.querySelectorAll('main *')].flatMap((each) => each.getAttributeNames())"
    assert not [name for name in await page.evaluate(names) if name.startswith("on")]


async def test_an_answer_does_nothing(visit: Visit) -> None:
    page = await visit.open("/playground")
    steps = (call(think(ALL), use_tool("Bash", {"command": ALL})), call(text(ALL)))
    await page.get_by_label("Message").fill(f"{ALL} {script(*steps)}")
    await page.get_by_role("button", name="Send").click()
    await page.locator(".turn.assistant[data-state=done]").wait_for()
    await nothing_happened(visit)
    await page.reload()
    await page.locator(".answer").wait_for()
    await nothing_happened(visit)


async def test_no_field_of_users_does_anything(visit: Visit, admin: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "model": "agent",
        "user": ALL[:200],
        "metadata": {"a": ALL[:500]},
        "messages": [{"role": "user", "content": f"{ALL} {say(ALL)}"}],
    }
    done = (await admin.post("/v1/chat/completions", json=body)).json()
    files = {"file": (f"<img src=x onerror={HACK}>.txt", b"x")}
    await admin.post("/v1/files", data={"purpose": "user_data"}, files=files)
    batch = await a_batch(admin, ALL[:60])
    grant = {"name": ALL[:199], "scopes": ["read"], "tenant": ALL[:199], "agents": [CORPUS[1]]}
    key = (await admin.post("/v1/admin/keys", json=grant)).json()["id"]
    info = done["backline"]
    session = f"/sessions/{info['session_id']}"
    runs = ("/runs", f"/runs/{info['run_id']}")
    for path in ("", "/keys", "/sessions", session, "/batches", f"/batches/{batch}", *runs):
        page = await visit.open(path)
        await nothing_happened(visit)
    page = await visit.open("/keys")
    await expect(page.locator(f"#{key} b")).to_have_text(" ".join(ALL[:199].split()))
    await admin.delete(f"/v1/admin/keys/{key}")


async def test_the_words_of_an_address_do_nothing(visit: Visit) -> None:
    for path in ("/playground?agent={}", "/sessions?agent={}", "/runs?agent={}", "/sessions/{}", "/runs/{}"):
        for words in CORPUS[:3]:
            await visit.open(path.format(quote(words, safe="")))
            await nothing_happened(visit)
    visit.errors.clear()  # 404, as it should be
