// The playground: what the reader does, and what is shown for it.
import { ask, newAnswer, resume, stop } from "./answer.js";
import { snippet } from "./snippets.js";
import { Story } from "./story.js";
import { answer, article, editor, fill } from "./view.js";

const MOST_IMAGE = 5 * 1024 * 1024;
const at = (id) => document.getElementById(id);
const chat = at("chat");
const prompt = at("prompt");
let story = Story.restore();
let images = [];
let language = "curl";

const act = {
  choose(node) { story.choose(node); show(); },
  edit(node) {
    editor(at(`node-${node.id}`), node, (text) => {
      send(story.add(node.parent, { role: "user", text, images: node.images ?? [] }));
    }, () => show());
  },
  regenerate(node) { send(story.nodes[node.parent]); },
};

const current = () => story.nodes[story.leaf];
const isBusy = () => current()?.state === "streaming";

function show() {
  const path = story.path();
  at("hello")?.remove();
  chat.replaceChildren(...path.map((node) => article(node, story, act)));
  controls();
  chat.scrollTop = chat.scrollHeight;
  story.keep();
}

function controls() {
  at("stop").hidden = !isBusy();
  at("send").disabled = isBusy();
  at("status").textContent = isBusy() ? (current().text || current().thinking ? "answering" : "waiting") : "";
  const last = story.path().findLast((node) => node.role === "user");
  const body = last ? { model: story.agent, messages: story.messages(last.id) }
    : { model: story.agent, messages: [{ role: "user", content: prompt.value || "Hello!" }] };
  at("snippet").textContent = snippet(language, body);
}

// A frame at a time, and no more often than drawing takes: a long answer must not hold up its own text.
function painter(node) {
  let isDue = false;
  let kept = 0;
  let wait = 0;
  const paint = () => {
    isDue = false;
    const where = at(`node-${node.id}`);
    if (!where) return;
    const isAtEnd = chat.scrollHeight - chat.scrollTop - chat.clientHeight < 60;
    const began = performance.now();
    if (node.state === "streaming") answer(where.querySelector(".body"), node);
    else fill(where, node, story, act);
    where.dataset.state = node.state;
    if (isAtEnd) chat.scrollTop = chat.scrollHeight;
    controls();
    const took = performance.now() - began;
    if (Date.now() - kept > 500 || node.state !== "streaming") { story.keep(); kept = Date.now(); }
    wait = Math.min(500, took * 4);
  };
  return () => {
    if (isDue) return;
    isDue = true;
    if (document.hidden || wait > 16) setTimeout(paint, Math.max(16, wait)); else requestAnimationFrame(paint);
  };
}

async function send(user) {
  const node = story.add(user.id, newAnswer());
  show();
  const changed = painter(node);
  await ask(story, node, changed);
  changed();
}

async function goOn() {
  const cut = Object.values(story.nodes).filter((node) => node.state === "streaming");
  await Promise.all(cut.map((node) => {
    const changed = painter(node);
    return resume(node, changed).then(changed);
  }));
}

function attach(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) continue;
    if (file.size > MOST_IMAGE) { at("status").textContent = "An image may have 5 MiB."; continue; }
    const reader = new FileReader();
    reader.onload = () => { images.push(reader.result); showImages(); };
    reader.readAsDataURL(file);
  }
}

function showImages() {
  at("images").replaceChildren(...images.map((src, i) => {
    const made = document.createElement("button");
    made.type = "button";
    made.setAttribute("aria-label", `Remove image ${i + 1}`);
    const image = document.createElement("img");
    image.src = src;
    image.alt = "";
    made.append(image);
    made.onclick = () => { images.splice(i, 1); showImages(); };
    return made;
  }));
}

at("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (!text || isBusy() || !story.agent) return;
  const user = story.add(story.leaf, { role: "user", text, images });
  images = [];
  prompt.value = "";
  showImages();
  send(user);
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); at("say").requestSubmit(); }
});
prompt.addEventListener("input", () => { if (!story.leaf) controls(); });
prompt.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) { event.preventDefault(); attach(files); }
});
at("file").addEventListener("change", (event) => { attach(event.target.files); event.target.value = ""; });
at("stop").addEventListener("click", () => { const node = current(); stop(node); painter(node)(); });
at("new").addEventListener("click", () => {
  const agent = story.agent;
  story = new Story();
  story.agent = agent;
  show();
  prompt.focus();
});
at("agent").addEventListener("change", () => { story.agent = at("agent").value; controls(); story.keep(); });
for (const each of document.querySelectorAll("[data-language]")) {
  each.addEventListener("click", () => {
    language = each.dataset.language;
    for (const other of document.querySelectorAll("[data-language]")) other.setAttribute("aria-pressed", String(other === each));
    controls();
  });
}
addEventListener("pagehide", () => story.keep());

const names = [...at("agent").options].map((each) => each.value);
const asked = new URLSearchParams(location.search).get("agent");
if (names.includes(asked) && !story.leaf) story.agent = asked;
if (!names.includes(story.agent)) story.agent = at("agent").value;
at("agent").value = story.agent;
if (story.leaf) show(); else controls();
goOn();
