// The status page: asks /api/status each second and shows what it says. Everything that comes from
// outside is set as textContent. When answers stop, the page says since when, greys the figures
// and calls the state unknown: old figures never pass for new ones.
"use strict";

const POLL_MS = 1000;
const TIMEOUT_MS = 5000;
const STALE_AFTER_MS = 3000;
const UNKNOWN = "unknown";
const STATES = {
  ok: ["ok", "\u2713 ok"], running: ["ok", "\u2713 running"],
  starting: ["warn", "\u2026 starting"], degraded: ["warn", "\u25b2 degraded"],
  retrying: ["warn", "\u25b2 retrying"], stopped: ["bad", "\u2717 stopped"],
  failed: ["bad", "\u2717 failed"],
};
const RECORDS = ["read", "local", "echo", "coalesced", "ignored", "conflicts", "quarantined"];
const APPLIED = ["applied", "stale", "removed", "quarantined", "retries"];
const ATTENTION = new Set(["quarantined"]);

let status = null;
let answered = null;      // monotonic time of the last answer
const opened = performance.now();

const byId = (id) => document.getElementById(id);

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  for (const child of children) node.append(child);   // a string becomes a text node
  return node;
}

const known = (value) => value !== null && value !== undefined;
const count = (value) => known(value) ? value.toLocaleString("en-US") : UNKNOWN;

function milliseconds(value) {
  if (!known(value)) return UNKNOWN;
  return value < 1000 ? `${Math.round(value)} ms` : seconds(value / 1000);
}

function seconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

function badge(state) {
  const [tone, text] = STATES[state] || ["unknown", String(state)];
  return element("span", `badge ${tone}`, text);
}

function tableOf(head, rows, className) {
  const body = rows.map((cells) => element("tr", "", ...cells));
  const node = element("table", className,
    element("thead", "", element("tr", "", ...head)), element("tbody", "", ...body));
  return element("div", "scroll", node);
}

const heading = (text, className) => {
  const node = element("th", className || "", text);
  node.scope = "col";
  return node;
};
const rowHeading = (text) => {
  const node = element("th", "", text);
  node.scope = "row";
  return node;
};
const figure = (name, value) =>
  element("td", ATTENTION.has(name) && value > 0 ? "number attention" : "number", count(value));

// A link that is well but whose pipeline is not reading tells nothing about now.
function linkTone(pipeline, link) {
  if (link.state !== "ok" || pipeline.state === "stopped") return link.state === "ok" ? "bad" : "warn";
  if (pipeline.state !== "running" || pipeline.gap) return "warn";
  return "ok";
}

function backlog(link) {
  if (!known(link.backlog_age_s)) return "backlog unknown";
  if (link.pending === 0 && link.backlog_age_s === 0) return "caught up";
  return `${seconds(link.backlog_age_s)} behind`;
}

function linkCell(pipeline, link) {
  const tone = linkTone(pipeline, link);
  const shown = link.state === "ok" ? pipeline.state : link.state;
  const mark = { ok: "\u2713", warn: "\u25b2", bad: "\u2717" }[tone];
  const lead = tone === "ok" ? backlog(link) : `${shown}, ${backlog(link)}`;
  const latency = known(link.latency_ms.p50) || known(link.latency_ms.p99)
    ? `p50 ${milliseconds(link.latency_ms.p50)} \u00b7 p99 ${milliseconds(link.latency_ms.p99)}`
    : "latency: no recent change";
  return element("td", tone,
    element("span", "lead", `${mark} ${lead}`),
    element("span", "detail", `${count(link.pending)} pending`),
    element("span", "detail", latency));
}

function matrix(pipelines) {
  const targets = new Set(pipelines.flatMap((p) => p.links.map((link) => link.target)));
  const order = new Set([...pipelines.map((pipeline) => pipeline.source), ...targets]);
  const columns = [...order].filter((region) => targets.has(region));
  const rows = pipelines.map((pipeline) => [rowHeading(pipeline.source), ...columns.map((target) => {
    if (target === pipeline.source) return element("td", "self", "\u2014");
    const link = pipeline.links.find((candidate) => candidate.target === target);
    return link ? linkCell(pipeline, link) : element("td", "unread", "no link");
  })]);
  return tableOf([heading("from \\ to"), ...columns.map((name) => heading(name))], rows, "matrix");
}

function sources(pipelines) {
  const head = [heading("source"), heading("state"), heading("open shards", "number"),
    heading("unsettled", "number"), ...RECORDS.map((name) => heading(name, "number"))];
  return tableOf(head, pipelines.map((pipeline) => [
    rowHeading(pipeline.source), element("td", "", badge(pipeline.state)),
    figure("open", pipeline.shards.open), figure("unsettled", pipeline.unsettled),
    ...RECORDS.map((name) => figure(name, pipeline.records[name])),
  ]));
}

function links(pipelines) {
  const head = [heading("link"), heading("state"), ...APPLIED.map((name) => heading(name, "number"))];
  return tableOf(head, pipelines.flatMap((pipeline) => pipeline.links.map((link) => [
    rowHeading(`${pipeline.source} \u2192 ${link.target}`), element("td", "", badge(link.state)),
    ...APPLIED.map((name) => figure(name, link[name])),
  ])));
}

function messages(pipelines) {
  const lines = [];
  for (const pipeline of pipelines) {
    if (pipeline.error) lines.push(`${pipeline.source}: ${pipeline.error}`);
    if (pipeline.gap) {
      const since = new Date(pipeline.gap.since_us / 1000).toISOString();
      lines.push(`${pipeline.source}: gap in what was read, since ${since}: ${pipeline.gap.reason}`);
    }
    for (const link of pipeline.links) {
      if (link.error) lines.push(`${pipeline.source} \u2192 ${link.target}: ${link.error}`);
    }
  }
  return lines.length ? [element("ul", "messages", ...lines.map((line) => element("li", "", line)))] : [];
}

function tableSection(name, pipelines) {
  return element("section", "",
    element("div", "title", element("h2", "", name), element("span", "quiet", pipelines[0].mode)),
    ...messages(pipelines), matrix(pipelines),
    element("h3", "", "Records of each source"), sources(pipelines),
    element("h3", "", "Changes in each target"), links(pipelines));
}

function show() {
  const tables = new Map();
  for (const pipeline of status.pipelines) {
    if (!tables.has(pipeline.table)) tables.set(pipeline.table, []);
    tables.get(pipeline.table).push(pipeline);
  }
  const sections = [...tables].map(([name, pipelines]) => tableSection(name, pipelines));
  if (!sections.length) sections.push(element("p", "quiet", "This process reads no table."));
  byId("main").replaceChildren(...sections);
  const up = seconds((status.now_us - status.started_us) / 1e6);
  byId("process").textContent = `version ${status.version}, process ${status.pid}, up ${up}`;
}

function showAge() {
  const silent = performance.now() - (answered === null ? opened : answered);
  const stale = silent > STALE_AFTER_MS;
  const state = byId("state");
  const whole = Math.round(silent / 1000);
  document.body.classList.toggle("outdated", stale);
  byId("stale").hidden = !stale;
  if (stale) {
    const text = `No data for ${whole} s.`;
    const rest = answered === null ? " The replicator does not answer."
      : " The figures below are from before; what happens now is unknown.";
    byId("stale").textContent = text + rest;
    state.className = "badge unknown";
    state.textContent = "? unknown";
  } else if (status) {
    const [tone, text] = STATES[status.state] || ["unknown", String(status.state)];
    state.className = `badge ${tone}`;
    state.textContent = text;
  }
  byId("age").textContent = answered === null ? "" : `updated ${whole} s ago`;
  document.title = stale ? "? Replicator" : status ? `${status.state}: Replicator` : "Replicator";
}

async function poll() {
  try {
    const answer = await fetch("/api/status", {
      cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (answer.ok) {
      status = await answer.json();
      show();
      answered = performance.now();
    }
  } catch (error) {
    console.warn("no status:", error.message);   // showAge tells the reader
  }
  showAge();
  setTimeout(poll, POLL_MS);
}

setInterval(showAge, POLL_MS);
poll();
