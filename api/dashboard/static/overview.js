// The overview: figures and happenings as they come, and the plots.
import { localTimes } from "./live.js";

const usd = (value) => (value >= 1 || value === 0 ? `$${value.toFixed(2)}` : `$${value.toFixed(4)}`);
const dash = (value, unit = "") => (value === null || value === undefined ? "–" : `${value}${unit}`);

const say = (attribute, name, text) => {
  const where = document.querySelector(`[data-${attribute}="${name}"]`);
  if (where && where.textContent !== text) where.textContent = text;
};

function show(look) {
  const link = document.getElementById("link");
  link.textContent = look.is_redis_away ? "Redis is away" : "live";
  link.dataset.state = look.is_redis_away ? "failed" : "up";
  if (look.is_redis_away) return;
  const f = look.figures;
  say("figure", "queued", String(f.queued));
  say("hint", "queued", f.queued ? `oldest ${f.oldest_s} s` : "");
  say("figure", "running", String(f.running));
  say("hint", "running", `of ${f.slots} slots`);
  say("figure", "workers", String(f.workers));
  say("hint", "workers", f.draining ? `${f.draining} draining` : "");
  say("figure", "first_token", dash(f.first_token_p50_ms, " ms"));
  say("hint", "first_token", f.first_token_p95_ms === null ? "p50, last minute" : `p95 ${f.first_token_p95_ms} ms`);
  say("figure", "tokens_per_s", String(f.tokens_per_s));
  say("figure", "errors", String(f.errors));
  say("hint", "errors", `of ${f.ended} runs, last hour`);
  say("figure", "usd_today", usd(f.usd_today));
  happened(look.happenings);
}

function happened(list) {
  if (!list.length) return;
  const items = list.map((each) => {
    const item = document.createElement("li");
    item.dataset.kind = each.kind;
    const time = document.createElement("time");
    time.setAttribute("datetime", new Date(each.t).toISOString());
    const kind = document.createElement("span");
    kind.className = "state";
    kind.dataset.state = each.kind;
    kind.textContent = each.kind.replaceAll("_", " ");
    const subject = document.createElement("code");
    subject.textContent = each.subject;
    const link = document.createElement("a");
    link.href = `/dashboard/runs/${encodeURIComponent(each.subject)}`;
    link.append(subject);
    item.append(time, " ", kind, " ", each.subject.startsWith("run_") ? link : subject, ` ${each.said}`);
    return item;
  });
  const feed = document.getElementById("happenings");
  feed.replaceChildren(...items);
  localTimes(feed);
}

// Plots ---------------------------------------------------------------------------------------------------
const PLOTS = {
  runs: [["queued", "waiting", "--c3"], ["running", "running", "--c1"], ["slots", "slots", "--c4"]],
  first: [["first_token_p50_ms", "p50", "--c1"], ["first_token_p95_ms", "p95", "--c2"]],
  tokens: [["tokens_per_s", "tokens/s", "--c1"]],
  errors: [["errors_per_min", "errors/min", "--c2"]],
};
const SPANS = { hour: 3600, day: 86400 };
const made = {};
let span = "hour";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function options(where, series) {
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width: Math.max(200, where.clientWidth),
    height: 170,
    legend: { live: true },
    cursor: { drag: { x: false, y: false } },
    axes: [axis, { ...axis, size: 44 }],
    scales: { x: { range: () => [Date.now() / 1000 - SPANS[span], Date.now() / 1000] }, y: { range: (_, low, high) => [0, Math.max(1, (high ?? 1) * 1.1)] } },
    series: [
      {},
      ...series.map(([, label, name]) => ({
        label,
        stroke: colour(name),
        width: 1.6,
        fill: series.length === 1 ? `${colour(name)}22` : undefined,
        points: { show: false },
        spanGaps: false,
        value: (_, v) => (v === null || v === undefined ? "–" : v),
      })),
    ],
  };
}

async function draw(isNew = false) {
  const answer = await fetch(`/dashboard/series?span=${span}`);
  if (!answer.ok) return;
  const columns = await answer.json();
  for (const [name, series] of Object.entries(PLOTS)) {
    const where = document.querySelector(`[data-plot="${name}"]`);
    const data = [columns.t, ...series.map(([column]) => columns[column])];
    if (made[name] && !isNew) { made[name].setData(data); continue; }
    made[name]?.destroy();
    where.replaceChildren();
    made[name] = new window.uPlot(options(where, series), data, where);
  }
  document.body.dataset.drawn = String(columns.t.length);
}

for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => {
    span = button.dataset.span;
    for (const each of document.querySelectorAll("[data-span]")) each.setAttribute("aria-pressed", String(each === button));
    draw(true);
  });
}
document.addEventListener("backline:look", (event) => show(event.detail));
document.addEventListener("backline:link", () => {
  const link = document.getElementById("link");
  link.textContent = "connecting";
  link.dataset.state = "queued";
});
document.addEventListener("backline:theme", () => draw(true));
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => draw(true), 200); });
setInterval(() => { if (!document.hidden) draw(); }, 10000);
draw(true);
