"""Whatever users, agents and clients write is shown, and does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect
from redis.asyncio import Redis

from scripted_model import call, say, script, text, think, use_tool
from shared import redis_keys
from shared.agent_reports import AgentPolicy, AgentReport, Inventory, McpServer, encode_reports
from shared.registry import AgentRecord, RegistryStore, WorkerRecord
from shared.run_events import ErrorKind, RunError, RunFailed
from shared.run_store import RunStore
from shared.runs import RunRequest
from tests.browser.conftest import Visit
from tests.browser.lines import a_batch
from tests.support.stack import Stack

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


@pytest_asyncio.fixture(loop_scope="session")
async def hostile(board: Stack) -> AsyncIterator[None]:
    """A worker whose agent has hostile names everywhere, and a run of it that failed with hostile words."""
    long = tuple(each[:120] for each in CORPUS)
    policy = AgentPolicy(allow=long, deny=long, client_may=long, agent_hosts=long, agent_network=ALL[:80])
    seen = Inventory(long, tuple(McpServer(each, each) for each in long))
    told = encode_reports([AgentReport("hostile", policy, long, seen)])
    words = ALL[:80]
    record = AgentRecord("hostile", ALL[:200], 1, long, long, mcp_servers=long, model=words)
    worker = WorkerRecord(id="w<b>'\"", host=words, agents=("hostile",), slots=1, busy=0, cli_version=words)
    run_id = f"run_{0:012x}{7:032x}"
    async with Redis.from_url(board.redis_url) as redis:
        store, runs = RegistryStore(redis), RunStore(redis, retention_s=60)

        async def live() -> None:
            while True:
                await store.announce(worker, [record], told)
                await asyncio.sleep(redis_keys.RENEW_S)

        request = RunRequest(agent="hostile", prompt=(), tenant="ours")
        await runs.submit(run_id, request, queue_limit=9, ttl_s=60)
        error = RunError(ErrorKind.CLI_DIED, ALL)
        await runs.stop(run_id, "hostile", RunFailed(error=error), "stopped")
        await store.announce(worker, [record], told)
        lives = asyncio.create_task(live())
        yield
        lives.cancel()
        await asyncio.gather(lives, return_exceptions=True)
        await store.withdraw(worker.id)
        await redis.hdel(redis_keys.AGENTS, "hostile")


async def test_nothing_that_agents_are_called_does_anything(visit: Visit, hostile: None) -> None:
    page = await visit.open("/agents")
    card = page.locator("#agent-hostile")
    await card.evaluate("card => card.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for words in (CORPUS[0], CORPUS[1]):
        assert await card.get_by_text(words[:120]).count() >= 6
    await expect(card.get_by_role("link", name="cli died")).to_be_visible()
    await nothing_happened(visit)
    await visit.open("/workers")
    await nothing_happened(visit)
    await visit.open("/runs?agent=hostile")
    await nothing_happened(visit)


async def test_the_words_of_an_address_do_nothing(visit: Visit) -> None:
    for path in ("/playground?agent={}", "/sessions?agent={}", "/runs?agent={}", "/sessions/{}", "/runs/{}"):
        for words in CORPUS[:3]:
            await visit.open(path.format(quote(words, safe="")))
            await nothing_happened(visit)
    visit.errors.clear()  # 404, as it should be
