// One answer: asked for, told as it comes, and picked up where it stopped when the connection or the page is lost.
import { csrf } from "../live.js";
import { events } from "../stream.js";

const MOST_TRIES = 40;
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

const bodyOf = (story, node) => ({
  model: story.agent,
  messages: story.messages(node.parent),
});

export const newAnswer = () => ({ role: "assistant", text: "", thinking: "", tools: [], run: "", last: 0, state: "streaming", said: "" });

// Ask for the answer that `node` is to hold; `changed` is called whenever it holds more.
export async function ask(story, node, changed) {
  const body = {
    ...bodyOf(story, node),
    stream: true,
    stream_options: { include_usage: true },
    backline: { show: ["thinking", "tools"] },
  };
  const begun = () => fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": csrf(), "x-backline-on-disconnect": "continue" },
    body: JSON.stringify(body),
  });
  await tell(node, changed, begun);
}

// Go on with an answer that a reload has cut off.
export async function resume(node, changed) {
  if (!node.run) {
    end(node, "failed", "The page was left before the answer had begun.", changed);
    return;
  }
  await tell(node, changed, null);
}

export async function stop(node) {
  node.state = "stopped";
  if (!node.run) return;
  await fetch(`/v1/chat/completions/chatcmpl-${node.run.replace(/^run_/, "")}`, {
    method: "DELETE",
    headers: { "x-csrf-token": csrf() },
  });
}

async function tell(node, changed, begin) {
  for (let tries = 0; node.state === "streaming"; ) {
    try {
      const response = begin && !node.run ? await begin() : await fetch(`/v1/runs/${node.run}/events?after=${node.last}`);
      node.run = response.headers.get("x-backline-run-id") ?? node.run;
      if (!response.ok) {
        if (response.status < 500 || !node.run) { end(node, "failed", await wordsOf(response), changed); return; }
        throw new Error(`status ${response.status}`);
      }
      if (node.state !== "streaming") { await stop(node); return; } // it was stopped before it had a name
      changed();
      for await (const event of events(response)) {
        tries = 0;
        take(node, event);
        changed();
        if (node.state !== "streaming") return;
      }
    } catch (error) {
      if (!node.run) { end(node, "failed", `The server did not answer: ${error.message}`, changed); return; }
    }
    if (node.state !== "streaming") return;
    tries += 1;
    if (tries > MOST_TRIES) { end(node, "failed", "The connection was lost.", changed); return; }
    await pause(Math.min(250 * tries, 3000));
  }
}

function take(node, event) {
  if (event.data === "[DONE]") { node.state = node.state === "streaming" ? "done" : node.state; return; }
  const chunk = JSON.parse(event.data);
  if (chunk.error) {
    node.said = chunk.error.message;
    node.state = chunk.error.code === "run_cancelled" ? "stopped" : "failed";
    return;
  }
  const n = Number(event.id);
  if (n > node.last) node.last = n;
  const choice = chunk.choices?.[0];
  node.text += choice?.delta?.content ?? "";
  node.thinking += choice?.delta?.reasoning_content ?? "";
  if (chunk.backline?.tool) useTool(node, chunk.backline.tool);
  if (chunk.backline?.resumed) node.tools.push({ id: "", name: "moved to another worker", input: "", status: "finished" });
  if (chunk.backline?.cost_usd !== undefined) node.cost = chunk.backline.cost_usd;
  if (chunk.usage) node.usage = chunk.usage;
}

function useTool(node, tool) {
  const known = node.tools.find((each) => each.id === tool.id);
  if (known) known.status = tool.status;
  else node.tools.push({ id: tool.id, name: tool.name ?? "tool", input: tool.input ?? "", status: tool.status, at: node.text.length });
}

function end(node, state, said, changed) {
  node.state = state;
  node.said = said;
  changed();
}

async function wordsOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server said ${response.status}.`;
  }
}
