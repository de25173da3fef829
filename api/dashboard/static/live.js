// What every page does: keep its figures and tables fresh, say times in the reader's clock, ask before harm.

const csrf = () => document.querySelector("meta[name=csrf]").content;

export const notice = (said) => { document.getElementById("notice").textContent = said; };

export function localTimes(root = document) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.getAttribute("datetime"));
    if (Number.isNaN(at.getTime())) continue;
    const isToday = at.toDateString() === new Date().toDateString();
    time.textContent = isToday ? at.toLocaleTimeString() : at.toLocaleString();
    time.title = at.toISOString();
  }
}

// A page's main part, fetched again and put in place without taking the focus.
async function refresh() {
  const answer = await fetch(location.href, { headers: { "x-fragment": "1", accept: "text/html" } });
  if (answer.status === 401) { location.reload(); return; }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const old = document.querySelectorAll("[data-live]");
  fresh.querySelectorAll("[data-live]").forEach((each, i) => {
    localTimes(each);
    for (const part of each.querySelectorAll("details[id]")) {
      part.open = document.getElementById(part.id)?.open ?? part.open; // as whoever reads has left it
    }
    if (old[i]) window.Idiomorph.morph(old[i], each.innerHTML, { morphStyle: "innerHTML", ignoreActiveValue: true });
  });
}

// One stream for the page; while nobody looks at it there is none.
function follow(url, onLook) {
  let source = null;
  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(url);
    source.addEventListener("look", (event) => onLook(JSON.parse(event.data)));
    source.onerror = () => {
      document.dispatchEvent(new CustomEvent("backline:link", { detail: false }));
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(open, 5000); }
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { source?.close(); source = null; } else open();
  });
  open();
}

function keepFresh() {
  const live = document.querySelector("[data-live]");
  const mayFollow = document.querySelector('nav a[href="/dashboard"]') !== null;
  if (!live && !document.querySelector("[data-feed]")) return;
  if (!mayFollow) { // without the scope `admin` there is no feed to listen to
    setInterval(() => { if (!document.hidden) refresh(); }, 5000);
    return;
  }
  let known = null; // something may have changed between the page and its first look
  follow("/dashboard/feed", (look) => {
    document.dispatchEvent(new CustomEvent("backline:look", { detail: look }));
    const names = live?.dataset.live.split(" ") ?? [];
    const topic = look.topics && names.map((name) => look.topics[name]).join(" ");
    if (live && topic && topic !== known) refresh();
    known = topic || known;
  });
}

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-auto]");
  if (form) form.requestSubmit();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    notice("Copied.");
  } catch {
    const range = document.createRange();
    range.selectNodeContents(document.getElementById(button.dataset.copy));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    notice("Selected: copy it with the keyboard.");
  }
});

document.getElementById("theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  try { localStorage.setItem("backline-theme", root.dataset.theme); } catch { /* not kept, then */ }
  document.dispatchEvent(new CustomEvent("backline:theme"));
});

export { csrf };
localTimes();
keepFresh();
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
