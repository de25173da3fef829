"""The playground: tokens arrive in order, a reload in mid-answer loses nothing, an edit is a branch."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from scripted_model import Script, call, say, script, text, think, tokens, use_tool
from tests.browser.conftest import Visit
from tests.support.model import Model
from tests.support.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORDS = [f"word{n}" for n in range(60)]
LONG = say(" ".join(WORDS), pace_ms=40)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def ask(visit: Visit, prompt: Script | str) -> Page:
    page = await visit.open("/playground")
    await page.get_by_label("Agent").select_option("agent")
    await page.get_by_role("button", name="New chat").click()
    await page.get_by_label("Message").fill(f"Please. {prompt}")
    await page.get_by_role("button", name="Send").click()
    return page


async def finished(page: Page) -> str:
    await page.locator(".turn.assistant").last.and_(page.locator("[data-state=done]")).wait_for()
    return await page.locator(".answer").last.inner_text()


async def test_tokens_arrive_in_order(visit: Visit) -> None:
    page = await ask(visit, LONG)
    answer = page.locator(".answer").last
    await expect(answer).to_contain_text("word3")
    seen = [await answer.inner_text() for _ in range(5)]
    whole = await finished(page)
    assert whole.split() == WORDS
    assert all(whole.startswith(part.strip()) for part in seen)
    assert seen[0] != whole, "the answer came at once"


async def test_a_reload_in_mid_answer_continues_it(visit: Visit, model: Model) -> None:
    page = await ask(visit, LONG)
    await expect(page.locator(".answer").last).to_contain_text("word5")
    await page.reload()
    assert (await finished(page)).split() == WORDS
    await page.reload()
    assert (await finished(page)).split() == WORDS, "what was read is kept"


async def test_stop_ends_the_run(visit: Visit, board: Stack) -> None:
    page = await ask(visit, say(" ".join(WORDS * 10), pace_ms=50))
    await expect(page.locator(".answer").last).to_contain_text("word2")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".turn.assistant")).to_have_attribute("data-state", "stopped")
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()


async def test_thinking_tools_and_markdown_are_shown(visit: Visit) -> None:
    steps = (
        call(think("Hm, let me see."), use_tool("Bash", {"command": "echo hello"})),
        call(text("# Found\n\n- **one**\n- two")),
    )
    page = await ask(visit, script(*steps))
    await finished(page)
    await page.get_by_text("Thinking", exact=True).click()
    await expect(page.get_by_text("Hm, let me see.", exact=True)).to_be_visible()
    tool = page.locator("details.tool")
    await expect(tool.locator("summary")).to_have_text(re.compile("finished.*Bash"))
    await tool.locator("summary").click()
    await expect(tool.locator("pre")).to_contain_text("echo hello")
    await expect(page.locator(".answer h1")).to_have_text("Found")
    await expect(page.locator(".answer li")).to_have_count(2)


async def test_an_edit_and_a_second_answer_are_branches(visit: Visit) -> None:
    page = await ask(visit, say("The first."))
    assert await finished(page) == "The first."
    await page.get_by_role("button", name="Regenerate this answer").click()
    await expect(page.get_by_text("2/2")).to_be_visible()
    await finished(page)
    await page.get_by_role("button", name="Edit this message").click()
    editor = page.locator(".edit textarea")
    await editor.fill(f"Else. {say('The second.')}")
    await page.locator(".edit").get_by_role("button", name="Send").click()
    assert await finished(page) == "The second."
    await page.get_by_role("button", name="Older branch").click()
    await expect(page.locator(".answer")).to_have_text("The first.")


async def test_a_pasted_image_is_sent(visit: Visit, model: Model, marker: str) -> None:
    page = await visit.open("/playground")
    await page.get_by_role("button", name="New chat").click()
    await page.get_by_label("Message").fill(f"{marker} {say('Seen.')}")
    await page.evaluate(
        """(data) => {
          const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "dot.png", { type: "image/png" }));
          const paste = new ClipboardEvent("paste", { clipboardData: transfer, cancelable: true });
          document.getElementById("prompt").dispatchEvent(paste);
        }""",
        PIXEL,
    )
    await page.locator("#images img").wait_for()
    await page.get_by_role("button", name="Send").click()
    assert await finished(page) == "Seen."
    assert PIXEL in model.call(marker).everything


async def test_the_same_call_stands_there_as_code(visit: Visit) -> None:
    page = await ask(visit, say("Hi."))
    await finished(page)
    await page.get_by_text("The same call as code").click()
    code = page.locator("#snippet")
    await expect(code).to_contain_text("curl -N")
    for language, word in (("Python", "from openai import OpenAI"), ("JavaScript", "await client.chat")):
        await page.get_by_role("button", name=language).click()
        await expect(code).to_contain_text(word)


async def test_an_error_is_said(visit: Visit) -> None:
    page = await ask(visit, "<<script {}>>")
    await expect(page.locator(".turn.assistant")).to_have_attribute("data-state", "failed")
    assert await page.locator(".bad").inner_text()
    visit.errors.clear()  # the browser notes the status


async def test_long_answers_stay_quick(visit: Visit) -> None:
    page = await ask(visit, script(tokens(3000)))
    assert len((await finished(page)).split()) == 3000
