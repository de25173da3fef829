// Messages as the page shows them.
import { render } from "../markdown.js";

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const button = (text, label, onclick) => {
  const made = element("button", { type: "button", className: "quiet", textContent: text, onclick });
  made.setAttribute("aria-label", label);
  return made;
};

// The article for a message. `act` has what its buttons do.
export function article(node, story, act) {
  const made = element("article", { className: `turn ${node.role}`, id: `node-${node.id}` });
  made.append(element("h2", { textContent: node.role }), element("div", { className: "body" }), element("footer"));
  fill(made, node, story, act);
  return made;
}

export function fill(made, node, story, act) {
  const body = made.querySelector(".body");
  if (node.role === "user") {
    body.replaceChildren(
      ...(node.images ?? []).map((src) => element("img", { src, alt: "An image that was sent along" })),
      element("div", { className: "text", textContent: node.text }),
    );
  } else {
    answer(body, node);
  }
  made.dataset.state = node.state ?? "done";
  made.querySelector("footer").replaceChildren(...buttons(node, story, act));
}

// Only what changed while an answer comes; its details stay open.
export function answer(body, node) {
  if (!body.querySelector(".text")) {
    body.replaceChildren(
      element("details", { className: "thinking", hidden: true }, element("summary", { textContent: "Thinking" }), element("div", { className: "text" })),
      element("div", { className: "tools" }),
      element("div", { className: "text answer" }),
      element("p", { className: "bad", hidden: true }),
    );
  }
  const thinking = body.querySelector(".thinking");
  thinking.hidden = !node.thinking;
  if (node.thinking) thinking.querySelector(".text").textContent = node.thinking;
  tools(body.querySelector(".tools"), node);
  render(node.text, body.querySelector(".answer"));
  const bad = body.querySelector(".bad");
  const said = node.said || (node.state === "stopped" ? "Stopped." : "");
  bad.hidden = !said;
  bad.textContent = said;
}

function tools(where, node) {
  node.tools.forEach((tool, i) => {
    let card = where.children[i];
    if (!card) {
      card = element("details", { className: "tool" }, element("summary"), element("pre", { tabIndex: 0 }));
      where.append(card);
    }
    const isOver = node.state !== "streaming" && tool.status === "started";
    const status = isOver ? "ended" : tool.status;
    card.querySelector("summary").replaceChildren(
      Object.assign(element("span", { className: "state", textContent: status })), ` ${tool.name}`,
    );
    card.querySelector(".state").dataset.state = { started: "running", finished: "completed" }[status] ?? status;
    card.querySelector("pre").textContent = pretty(tool.input);
  });
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function buttons(node, story, act) {
  const made = [];
  const siblings = story.siblings(node);
  if (siblings.length > 1) {
    const at = siblings.indexOf(node);
    const back = button("‹", "Older branch", () => act.choose(siblings[at - 1]));
    const on = button("›", "Newer branch", () => act.choose(siblings[at + 1]));
    back.disabled = at === 0;
    on.disabled = at === siblings.length - 1;
    made.push(back, element("span", { textContent: `${at + 1}/${siblings.length}` }), on);
  }
  if (node.role === "user") made.push(button("Edit", "Edit this message and branch off", () => act.edit(node)));
  if (node.role === "assistant" && node.state !== "streaming") {
    made.push(button("Regenerate", "Regenerate this answer", () => act.regenerate(node)));
    if (node.run) made.push(element("a", { href: `/dashboard/runs/${encodeURIComponent(node.run)}`, textContent: "Run" }));
    if (node.usage) made.push(element("small", { className: "dim", textContent: usageOf(node) }));
  }
  return made;
}

function usageOf(node) {
  const cost = node.cost ? `, $${node.cost.toFixed(4)}` : "";
  return `${node.usage.prompt_tokens} in, ${node.usage.completion_tokens} out${cost}`;
}

// In the place of a message, a form that sends another one.
export function editor(made, node, onSend, onCancel) {
  const text = element("textarea", { value: node.text, rows: Math.min(10, node.text.split("\n").length + 1) });
  text.setAttribute("aria-label", "Message");
  const form = element("form", { className: "edit" }, text,
    element("div", { className: "row" },
      element("button", { type: "submit", className: "main", textContent: "Send" }),
      element("button", { type: "button", textContent: "Cancel", onclick: onCancel })));
  form.addEventListener("submit", (event) => { event.preventDefault(); if (text.value.trim()) onSend(text.value); });
  form.addEventListener("keydown", (event) => { if (event.key === "Escape") onCancel(); });
  made.querySelector(".body").replaceChildren(form);
  made.querySelector("footer").replaceChildren();
  text.focus();
}
