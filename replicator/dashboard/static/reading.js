// What a status says of each link, and what it all comes to in one sentence. The rules by which a
// link is called well, late or unknown on this page stand here and nowhere else. A figure that is
// absent is unknown.

import { count, elapsed, known, plural, seconds, visible } from "./spoken.js";

export const LATE_S = 10;          // behind by more: amber
export const BEHIND_S = 30;        // behind by more, or called lagging by the process: red
export const UNKNOWN_BAD_S = 15;   // unknown, or failing, for longer: red
export const SIGNS = { bad: "\u2717", unknown: "?", warn: "\u25b2", paused: "\u2016", ok: "\u2713" };
export const WORDS = {
  ok: "up to date", warn: "late or retrying", bad: "far behind", unknown: "unknown", paused: "paused",
};
const WORST_FIRST = ["bad", "unknown", "warn", "paused", "ok"];
const SILENT = new Set(["retrying", "stopped", "starting", "unknown"]);

export const worse = (one, other) => WORST_FIRST.indexOf(one) - WORST_FIRST.indexOf(other);
export const route = (link) => `${visible(link.source)} \u2192 ${visible(link.target)}`;

// Since when each link has been in the state that it is in, by this page's own clock.
export class Since {
  constructor() { this.states = new Map(); }

  seconds(key, state, now_s, before_s = 0) {
    const standing = this.states.get(key);
    if (standing?.state === state) return now_s - standing.at_s;
    this.states.set(key, { state, at_s: now_s - before_s });
    return before_s;
  }
}

function stateOf(pipeline, link) {
  if (link.state === "paused" || pipeline.state === "paused") return "paused";
  if (link.state === "unknown") return "unknown";
  if (link.state === "retrying") return "retrying";
  if (SILENT.has(pipeline.state) || !known(link.backlog_age_s)) return "unknown";
  if (link.state === "lagging") return "lagging";
  return link.backlog_age_s >= LATE_S ? "late" : "ok";
}

function toneOf(state, behind_s, since_s) {
  if (state === "paused" || state === "ok") return state;
  if (state === "lagging" || (known(behind_s) && behind_s >= BEHIND_S)) return "bad";
  if (state === "unknown") return since_s >= UNKNOWN_BAD_S ? "bad" : "unknown";
  return state === "retrying" && since_s >= BEHIND_S ? "bad" : "warn";
}

function lead(reading) {
  const behind = known(reading.behind_s) ? `${seconds(reading.behind_s)} behind` : "";
  switch (reading.state) {
    case "paused": return known(reading.paused_s) ? `paused for ${elapsed(reading.paused_s)}` : "paused";
    case "unknown": return `unknown for ${elapsed(reading.since_s)}`;
    case "retrying": return behind && reading.behind_s > 0 ? behind : `retrying for ${elapsed(reading.since_s)}`;
    default: return reading.behind_s === 0 ? "up to date" : behind;
  }
}

// One reading per link: what the matrix, the panel and the sentence are made of.
export function readings(status, since, now_s, silent_s = () => 0) {
  return status.pipelines.flatMap((pipeline) => (pipeline.links ?? []).map((link) => {
    const key = JSON.stringify([pipeline.table, pipeline.source, link.target]);
    const state = stateOf(pipeline, link);
    const behind_s = state === "unknown" ? null : link.backlog_age_s;
    const since_s = since.seconds(key, state, now_s, state === "unknown" ? silent_s(key) : 0);
    const reading = {
      key, state, behind_s, since_s, pipeline, link,
      table: pipeline.table, source: pipeline.source, target: link.target,
      tone: toneOf(state, behind_s, since_s),
      paused_s: known(link.paused_since_us) ? (status.now_us - link.paused_since_us) / 1e6 : null,
    };
    return { ...reading, lead: lead(reading) };
  }));
}

export function worstOf(links) {
  return [...links].sort((one, other) => worse(one.tone, other.tone)
    || (other.behind_s ?? other.since_s) - (one.behind_s ?? one.since_s))[0];
}

export function exposures(status) {
  return Object.entries(status.exposure ?? {}).map(([region, found]) =>
    ({ region, seconds: found?.seconds ?? null, records: found?.records ?? null }))
    .sort((one, other) => one.region.localeCompare(other.region));
}

export function exposureTone(value) {
  if (!known(value)) return "unknown";
  return value >= BEHIND_S ? "bad" : value >= LATE_S ? "warn" : "ok";
}

export function worstExposure(status) {
  const rank = (each) => (known(each.seconds) ? each.seconds : Infinity);
  return exposures(status).sort((one, other) => rank(other) - rank(one))[0];
}

export function stakes(status) {
  const worst = worstExposure(status);
  if (!worst) return "What would be lost if a region vanished now is not reported: unknown.";
  const region = visible(worst.region);
  if (!known(worst.seconds)) return `If ${region} vanished now, what would be lost is unknown.`;
  if (worst.seconds === 0) return "If any region vanished now, nothing would be lost.";
  const records = known(worst.records) ? ` (${plural(worst.records, "change")})` : "";
  return `If ${region} vanished now, up to the last ${seconds(worst.seconds)}${records} would be lost.`;
}

function trouble(link) {
  if (link.state === "unknown") return link.lead;
  return link.behind_s > 0 ? `${seconds(link.behind_s)} behind` : `retrying for ${elapsed(link.since_s)}`;
}

// The one region that every troubled link has in common: most likely where the trouble is.
function commonRegion(troubled) {
  const { source, target } = troubled[0];
  const common = [source, target].filter((region) =>
    troubled.every((link) => link.source === region || link.target === region));
  return common.length === 1 ? common[0] : null;
}

function notWell(worst, troubled, tables) {
  const name = tables > 1 ? `${visible(worst.table)}, ${route(worst)}` : route(worst);
  if (troubled.length === 1) return `${name} is ${trouble(worst)}.`;
  const region = commonRegion(troubled);
  if (region === null) return `${name} is ${trouble(worst)}; ${plural(troubled.length - 1, "more link")} not well.`;
  return `${visible(region)}: ${count(troubled.length)} of its links are not well, the worst ${trouble(worst)}.`;
}

// The sentence that a person on call reads first, and its tone.
export function verdict(status, links) {
  if (!links.length) return { tone: "unknown", text: "No link is reported." };
  const lost = status.pipelines.find((pipeline) => pipeline.gap);
  const troubled = links.filter((link) => !["ok", "paused"].includes(link.tone));
  const worst = worstOf(links);
  const tables = new Set(links.map((link) => link.table)).size;
  if (troubled.length && !(lost && worst.tone !== "bad")) {
    return { tone: worst.tone, text: notWell(worst, troubled, tables) };
  }
  if (lost) {
    const where = `${visible(lost.table)} from ${visible(lost.source)}`;
    return { tone: "bad", text: `Records may be lost: gap in ${where}.` };
  }
  const gone = (status.processes ?? []).filter((each) => each.state === "unreachable");
  if (gone.length) {
    const age = known(gone[0].age_s) ? `for ${seconds(gone[0].age_s)}` : "yet";
    return { tone: "unknown", text: `${visible(gone[0].name)} has not answered ${age}.` };
  }
  const paused = links.filter((link) => link.tone === "paused").length;
  if (paused) {
    const rest = paused === links.length ? "" : "; the others are up to date";
    return { tone: "paused", text: `${plural(paused, "link is", "links are")} paused${rest}.` };
  }
  const kept = quarantined(status);
  if (kept) {
    return { tone: "warn", text: `All links are up to date; ${plural(kept, "change")} in quarantine.` };
  }
  const all = links.length === 1 ? "The one link is" : `All ${count(links.length)} links are`;
  return { tone: "ok", text: `${all} up to date.` };
}

export function quarantined(status) {
  return status.pipelines.reduce((sum, pipeline) => sum + (pipeline.records?.quarantined ?? 0)
    + (pipeline.links ?? []).reduce((more, link) => more + (link.quarantined ?? 0), 0), 0);
}
