// A run's own page: each attempt with its text and its tools, told as it goes on.
import { render } from "./markdown.js";

const story = document.getElementById("story");
const element = (name, className, text = "") => Object.assign(document.createElement(name), { className, textContent: text });
let attempt = null;

function begin(n, worker) {
  attempt?.section.classList.add("past");
  const section = element("section", "attempt");
  const title = element("h3", "", `Start ${n}`);
  title.append(" ", element("small", "dim", worker));
  section.append(title);
  story.append(section);
  attempt = { n, section, text: "", tools: new Map(), open: null };
}

// Text that follows a tool has a block of its own, so that the order is seen.
function say(kind, words) {
  if (attempt.open?.kind !== kind) {
    const block = kind === "text" ? element("div", "text turn") : element("details", "thinking");
    if (kind === "thinking") block.append(element("summary", "", "Thinking"), element("div", "text"));
    attempt.section.append(block);
    attempt.open = { kind, block, words: "", isDue: false };
  }
  const open = attempt.open;
  open.words += words;
  if (open.isDue) return;
  open.isDue = true;
  setTimeout(() => {
    open.isDue = false;
    if (kind === "text") render(open.words, open.block);
    else open.block.querySelector(".text").textContent = open.words;
  }, 60);
}

function card(id, name, words, state) {
  const made = element("details", "tool");
  const summary = document.createElement("summary");
  const status = element("span", "state", state);
  status.dataset.state = "running";
  summary.append(status, ` ${name}`);
  const pre = element("pre", "", words);
  pre.tabIndex = 0;
  made.append(summary, pre);
  attempt.section.append(made);
  attempt.open = null;
  attempt.tools.set(id, { status, pre });
}

const TELL = {
  start: (each) => begin(each.attempt, each.name),
  text: (each) => say("text", each.text),
  thinking: (each) => say("thinking", each.text),
  tool: (each) => card(each.id, each.name, pretty(each.text ?? ""), "started"),
  tool_end: (each) => mark(each.id, each.is_error ? "failed" : "finished"),
  call: (each) => card(`call ${each.id}`, `${each.name} (the client's)`, "", "called"),
  arguments: (each) => { const call = attempt.tools.get(`call ${each.id}`); if (call) call.pre.textContent += each.text; },
  retry: (each) => { attempt.section.append(element("p", "dim", each.text)); attempt.open = null; },
  anew: () => { attempt.section.append(element("p", "dim", "Begun anew: what stands above does not count.")); attempt.open = null; },
  end: (each) => {
    if (!attempt) begin(each.attempt, "");
    const status = element("span", "state", each.name);
    status.dataset.state = each.name;
    const line = element("p", "");
    line.append(status, ` ${each.text ?? ""}`);
    attempt.section.append(line);
  },
};

function mark(id, state) {
  const tool = attempt.tools.get(id);
  if (!tool) return;
  tool.status.textContent = state;
  tool.status.dataset.state = state;
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

const source = new EventSource(`/dashboard/runs/${encodeURIComponent(story.dataset.run)}/events`);
source.onmessage = (event) => {
  for (const each of JSON.parse(event.data)) {
    if (!attempt && each.what !== "start" && each.what !== "end") begin(each.attempt, "");
    TELL[each.what]?.(each);
  }
};
source.addEventListener("over", () => { source.close(); story.dataset.over = "true"; });
source.addEventListener("lost", (event) => { source.close(); story.append(element("p", "bad", JSON.parse(event.data))); });
