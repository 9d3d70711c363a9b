// Exposure by region, what wants attention, the conflicts, and all counts.

import { byId, element, keep, setData, setText } from "./dom.js";
import { SIGNS, atLeast, exposureTone, exposures, faults, route, worse } from "./reading.js";
import { clock, count, inShort, known, moment, plural, seconds, visible } from "./spoken.js";
import { ask } from "./stream.js";

const CONFLICTS_SHOWN = 50;
const CONFLICTS_EVERY_MS = 2000;
const RECORDS = ["read", "local", "echo", "coalesced", "ignored", "conflicts", "quarantined"];
const APPLIED = ["applied", "stale", "duplicate", "removed", "quarantined", "retries"];

// --- exposure -----------------------------------------------------------------------------------

export function showExposure(status) {
  const found = exposures(status);
  const items = found.length ? found : [{ region: "", seconds: null, records: null }];
  keep(byId("exposure"), items, (each) => each.region, (each) => {
    const figure = element("b");
    const records = element("span", "quiet");
    const meter = element("progress");
    meter.max = 100;
    const name = each.region ? visible(each.region) : "not reported";
    meter.setAttribute("aria-label", `Exposure of ${name}`);
    const node = element("li", "", element("span", "name", name), figure, records, meter);
    return Object.assign(node, { figure, records, meter });
  }, (node, each) => {
    setData(node, "tone", exposureTone(each.seconds));
    setText(node.figure, seconds(each.seconds));
    setText(node.records, each.records ? atLeast(each.records) : "");
    // Logarithmic, so that a second and an hour can both be seen.
    node.meter.value = known(each.seconds) ? Math.min(100, 28 * Math.log10(1 + each.seconds * 2)) : 0;
  });
}

// --- attention ----------------------------------------------------------------------------------

function attention(status, links) {
  const notes = [];
  const note = (tone, where, text) => notes.push({ tone, where, text });
  for (const each of status.processes ?? []) {
    if (each.state !== "unreachable") continue;
    const age = known(each.age_s) ? `for ${seconds(each.age_s)}` : "yet";
    note("unknown", visible(each.name), `has not answered ${age}`);
  }
  for (const pipeline of status.pipelines) {
    const where = `${visible(pipeline.table)}, ${visible(pipeline.source)}`;
    if (pipeline.gap) {
      const since = known(pipeline.gap.since_us) ? ` since ${moment(pipeline.gap.since_us)}` : "";
      note("bad", where, `gap${since}: ${visible(pipeline.gap.reason ?? "", 300)}`);
    }
    const kept = pipeline.records?.quarantined ?? 0;
    if (kept) note("warn", where, `${plural(kept, "record")} in quarantine`);
  }
  notes.push(...faults(status));
  for (const { link, tone, paused_s, ...reading } of links) {
    const where = `${visible(reading.table)}, ${route(reading)}`;
    if (link.error) note(tone === "ok" ? "warn" : tone, where, `${inShort(link.error)}.`);
    if (link.stuck) {
      note("warn", where, `${plural(link.stuck, "change")} failed there and will be tried again by themselves.`);
    }
    if (link.quarantined) note("warn", where, `${plural(link.quarantined, "change")} in quarantine`);
    if (tone === "paused") {
      const left = known(paused_s) ? `; the stream holds 24 h, ${seconds(Math.max(0, 86400 - paused_s))} left` : "";
      note("paused", where, `paused${left}`);
    }
  }
  return notes.sort((one, other) => worse(one.tone, other.tone));
}

export function showAttention(status, links) {
  const notes = attention(status, links);
  const items = notes.length ? notes : [{ tone: "ok", where: "", text: "No gap, no quarantine, no error." }];
  keep(byId("attention"), items, (each, index) => JSON.stringify([each.tone, each.where, each.text.slice(0, 24)]), (each) => {
    const sign = element("span", "sign", SIGNS[each.tone]);
    sign.dataset.tone = each.tone;
    const text = element("span", "text");
    const node = element("li", "", sign, element("span", "", each.where ? element("b", "", each.where) : "", each.where ? " " : "", text));
    return Object.assign(node, { text });
  }, (node, each) => setText(node.text, each.text));
}

// --- conflicts ----------------------------------------------------------------------------------

export class Conflicts {
  constructor() { this.asked_ms = -Infinity; this.counted = null; }

  // Ask again when the counters say that there are new ones.
  async look(status) {
    const counted = status.pipelines.reduce((sum, each) => sum + (each.records?.conflicts ?? 0), 0);
    if (this.asking || performance.now() - this.asked_ms < CONFLICTS_EVERY_MS) return;
    if (counted === this.counted) return;
    this.asking = true;
    this.asked_ms = performance.now();
    try {
      const answer = await ask(`/api/conflicts?limit=${CONFLICTS_SHOWN}`);
      const found = await answer.json();
      this.counted = found.missing?.length ? null : counted;
      if (answer.ok && found.recorded !== false) this.show(found);
      else this.nothing("Who won is not recorded here; the count is of this process.");
    } catch {
      this.nothing("The conflicts could not be asked for.");
    } finally {
      this.asking = false;
    }
  }

  nothing(text) {
    setText(byId("conflicts-total"), "");
    this.fill([{ text }]);
  }

  // How many there were in all stands above, by the counters: two answers, one second apart, differ.
  show({ conflicts, missing }) {
    const newest = conflicts ?? [];
    const silent = missing?.length
      ? [{ text: `${plural(missing.length, "process", "processes")} did not answer, so theirs are not here: ${missing.map((each) => visible(each)).join(", ")}` }]
      : [];
    setText(byId("conflicts-total"), newest.length ? `the last ${count(newest.length)}, times in UTC` : "");
    const quiet = silent.length ? silent : [{ text: "None so far." }];
    this.fill(newest.length ? [...silent, ...newest] : quiet);
  }

  fill(items) {
    keep(byId("conflicts"), items, (each) => JSON.stringify(each), (each) => {
      if (each.text) return element("li", "quiet", each.text);
      const key = element("code", "", visible(each.key ?? UNKEYED));
      return element("li", "",
        element("span", "when", clock(each.at_us)),
        element("span", "who", element("b", "", visible(each.winner?.origin ?? "unknown")), " over ",
          visible(each.loser?.origin ?? "unknown"), apart(each)),
        element("span", "what", `${visible(each.table ?? "")} `, key));
    }, () => {});
  }
}

const UNKEYED = "key not recorded";

function apart({ winner, loser }) {
  const apart_us = (winner?.time_us ?? NaN) - (loser?.time_us ?? NaN);
  if (!known(apart_us)) return "";
  return apart_us === 0 ? ", same time" : `, ${seconds(Math.abs(apart_us) / 1e6)} ${apart_us > 0 ? "later" : "earlier"}`;
}

// --- counts -------------------------------------------------------------------------------------

function tableOf(head, rows) {
  const cell = (tag, text, scope) => {
    const node = element(tag, "", text);
    if (scope) node.scope = scope;
    return node;
  };
  const body = rows.map(([name, ...cells]) => element("tr", "", cell("th", name, "row"), ...cells.map((text) => cell("td", text))));
  const table = element("table", "figures",
    element("thead", "", element("tr", "", ...head.map((text) => cell("th", text, "col")))), element("tbody", "", ...body));
  const scroll = element("div", "scroll", table);
  scroll.tabIndex = 0;
  return scroll;
}

export function showCounts(status) {
  const place = byId("counts");
  if (!place.parentElement.open) return;
  const named = (pipeline) => `${visible(pipeline.table)}, ${visible(pipeline.source)}`;
  const sources = status.pipelines.map((pipeline) => [named(pipeline), visible(pipeline.state),
    count(pipeline.shards?.open), count(pipeline.unsettled), count(pipeline.in_flight), seconds(pipeline.checkpoint_age_s),
    seconds(pipeline.heartbeat_age_s), ...RECORDS.map((name) => count(pipeline.records?.[name]))]);
  const links = status.pipelines.flatMap((pipeline) => (pipeline.links ?? []).map((link) =>
    [`${named(pipeline)} \u2192 ${visible(link.target)}`, visible(link.state), ...APPLIED.map((name) => count(link[name]))]));
  place.replaceChildren(
    element("h3", "", "Records of each source"),
    tableOf(["source", "state", "open shards", "unsettled", "in flight", "checkpoint age", "heartbeat age", ...RECORDS], sources),
    element("h3", "", "Changes in each target"), tableOf(["link", "state", ...APPLIED], links));
}
