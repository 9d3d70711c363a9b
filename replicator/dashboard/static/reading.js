// What a status says of each link, and what it all comes to in one sentence. The rules by which a
// link is called well, late or unknown on this page stand here and nowhere else. A figure that is
// absent is unknown.

import { count, elapsed, inShort, known, plural, seconds, visible } from "./spoken.js";

export const LATE_S = 10;          // behind by more: amber
export const BEHIND_S = 30;        // behind by more, or called lagging by the process: red
export const UNKNOWN_BAD_S = 15;   // unknown, or failing, for longer: red
export const SIGNS = { bad: "\u2717", unknown: "?", warn: "\u25b2", paused: "\u2016", ok: "\u2713" };
export const WORDS = {
  ok: "well", warn: "late or retrying", bad: "far behind or stalled", unknown: "unknown", paused: "paused",
};
export const LEGEND = { ...WORDS, ok: `up to date (within ${LATE_S} s)` };
export const TITLES = { ok: "ok", warn: "look", bad: "act", unknown: "unknown", paused: "paused" };
const WORST_FIRST = ["bad", "unknown", "warn", "paused", "ok"];

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
  if (pipeline.stalled) return "stalled";
  if (link.state === "unknown") return "unknown";
  if (link.state === "retrying") return "retrying";
  if (pipeline.state !== "running" || !known(link.backlog_age_s)) return "unknown";
  if (link.state === "lagging") return "lagging";
  if (link.state !== "ok") return "unknown";
  return link.backlog_age_s >= LATE_S ? "late" : "ok";
}

function toneOf(state, behind_s, since_s) {
  if (state === "paused" || state === "ok") return state;
  if (state === "lagging" || state === "stalled" || (known(behind_s) && behind_s >= BEHIND_S)) return "bad";
  if (state === "unknown") return since_s >= UNKNOWN_BAD_S ? "bad" : "unknown";
  return state === "retrying" && since_s >= BEHIND_S ? "bad" : "warn";
}

function lead(reading) {
  const behind = known(reading.behind_s) ? `${seconds(reading.behind_s)} behind` : "";
  switch (reading.state) {
    case "paused": return known(reading.paused_s) ? `paused for ${elapsed(reading.paused_s)}` : "paused";
    case "stalled": return "stalled";
    case "unknown": return `unknown for ${elapsed(reading.since_s)}`;
    case "retrying": return behind && reading.behind_s > 0 ? behind : `retrying for ${elapsed(reading.since_s)}`;
    default: return reading.behind_s === 0 ? "up to date" : behind;
  }
}

// Who stands still no longer looks at the stream, so that nothing waits is not known then.
function behindOf(state, { backlog_age_s }) {
  if (state === "unknown" || (state === "stalled" && !(backlog_age_s > 0))) return null;
  return backlog_age_s;
}

// One reading per link: what the matrix, the panel and the sentence are made of.
export function readings(status, since, now_s, silent_s = () => 0) {
  return status.pipelines.flatMap((pipeline) => (pipeline.links ?? []).map((link) => {
    const key = JSON.stringify([pipeline.table, pipeline.source, link.target]);
    const state = stateOf(pipeline, link);
    const behind_s = behindOf(state, link);
    const since_s = since.seconds(key, state, now_s, behind_s === null ? silent_s(key) : 0);
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

// What waits is counted among what was read; what a region holds beyond that nobody knows.
export const atLeast = (records) => `at least ${plural(records, "change")}`;

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
  const records = worst.records ? ` (${atLeast(worst.records)})` : "";
  return `If ${region} vanished now, up to the last ${seconds(worst.seconds)}${records} would be lost.`;
}

function trouble(link) {
  if (link.state === "unknown" || (link.state === "stalled" && !known(link.behind_s))) return link.lead;
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

// --- what is not well beside the links ----------------------------------------------------------

const sourceOf = (pipeline) => `${visible(pipeline.table)} from ${visible(pipeline.source)}`;

// Each: a tone, where it is, what it is and what to do about it; `said` in half a sentence, absent
// where it is over and can only be known.
function faultsOf(pipeline) {
  const found = [];
  const add = (tone, said, text) => found.push(
    { tone, where: `${visible(pipeline.table)}, ${visible(pipeline.source)}`, said, text });
  const name = sourceOf(pipeline);
  if (pipeline.stalled) {
    const reason = visible(pipeline.stalled, 300);
    add("bad", `${name} stands still: ${reason}`,
      `stands still: ${reason}. Restart the process; it goes on from its checkpoint, and nothing is lost within 24 h.`);
  }
  if (pipeline.error) {
    const down = ["retrying", "stopped"].includes(pipeline.state);
    add(down ? "bad" : "warn", `${name}: ${inShort(pipeline.error)}`, `${inShort(pipeline.error)}. It is tried again by itself.`);
  }
  if (pipeline.heartbeat_error) {
    add("warn", `${name} gets no heartbeats`,
      `no heartbeat can be sent: ${inShort(pipeline.heartbeat_error)}. Check that this process may write there.`);
  }
  if (pipeline.stuck) {
    const changes = plural(pipeline.stuck, "change");
    add("warn", `${changes} of ${name} failed and will be tried again`,
      `${changes} failed at home and will be tried again by themselves, once the cause is gone.`);
  }
  if (pipeline.rival) {
    add("warn", `${name} is read by two processes`,
      `${visible(pipeline.rival)} reads it as well. That does no harm; stop one of the two.`);
  }
  return found;
}

function faultsOfTelemetry(status) {
  const found = [];
  for (const [region, ledger] of Object.entries(status.ledger ?? {})) {
    const where = visible(region);
    if (ledger?.error) {
      found.push({ tone: "warn", where, said: `conflicts cannot be recorded in ${where}`,
        text: `conflicts cannot be recorded: ${inShort(ledger.error)}. Check that this process may write its control table there.` });
    }
    if (ledger?.unwritten) {
      found.push({ tone: "warn", where,
        text: `${plural(ledger.unwritten, "conflict is", "conflicts are")} missing in the ledger for good; decided all the same.` });
    }
  }
  const otlp = status.telemetry?.otlp;
  if (otlp?.error) {
    found.push({ tone: "warn", where: "Metrics", said: "metrics cannot be pushed",
      text: `cannot be pushed: ${inShort(otlp.error)}. Check the collector and [telemetry] otlp_endpoint.` });
  }
  return found;
}

export const faults = (status) => [...status.pipelines.flatMap(faultsOf), ...faultsOfTelemetry(status)];

// --- the sentence -------------------------------------------------------------------------------

function ofFaults(found, links) {
  const [first] = [...found].sort((one, other) => worse(one.tone, other.tone));
  const more = found.length > 1 ? `; ${count(found.length - 1)} more under Attention` : "";
  if (first.tone === "bad") return { tone: "bad", text: `${first.said}${more}.` };
  return { tone: first.tone, text: `${allInAll(links)}, but ${first.said}${more}.` };
}

function allInAll(links) {
  const paused = links.filter((link) => link.tone === "paused").length;
  if (paused) return `${plural(paused, "link is", "links are")} paused`;
  return links.length === 1 ? "The one link is up to date" : `All ${count(links.length)} links are up to date`;
}

// A state that is not ok and of which nothing else on this page is the reason.
function unexplained(status) {
  const named = (status.processes ?? []).find((each) => !["ok", "unreachable"].includes(each.state));
  const who = named ? visible(named.name) : "the process";
  const tone = { failed: "bad", degraded: "warn" }[status.state] ?? "unknown";
  const state = status.state ? `calls itself ${visible(status.state)}` : "does not tell its state";
  return { tone, text: `The links look up to date, but ${who} ${state}; its log has the reason.` };
}

// The sentence that a person on call reads first, and its tone. Well is only what every state says.
export function verdict(status, links) {
  if (!links.length) return { tone: "unknown", text: "No link is reported." };
  const lost = status.pipelines.find((pipeline) => pipeline.gap);
  const troubled = links.filter((link) => !["ok", "paused"].includes(link.tone));
  const worst = worstOf(links);
  const tables = new Set(links.map((link) => link.table)).size;
  const found = faults(status).filter((fault) => fault.said);
  if (found.some((fault) => fault.tone === "bad") && troubled.every((link) => link.state === "stalled")) {
    return ofFaults(found, links);
  }
  if (troubled.length && !(lost && worst.tone !== "bad")) {
    return { tone: worst.tone, text: notWell(worst, troubled, tables) };
  }
  if (lost) return { tone: "bad", text: `Records may be lost: gap in ${sourceOf(lost)}.` };
  const gone = (status.processes ?? []).filter((each) => each.state === "unreachable");
  if (gone.length) {
    const age = known(gone[0].age_s) ? `for ${seconds(gone[0].age_s)}` : "yet";
    return { tone: "unknown", text: `${visible(gone[0].name)} has not answered ${age}.` };
  }
  if (status.state === "failed") return unexplained(status);
  return found.length ? ofFaults(found, links) : quiet(status, links);
}

// The sentence when nothing is wrong with what runs.
function quiet(status, links) {
  const paused = links.filter((link) => link.tone === "paused").length;
  if (paused) {
    const rest = paused === links.length ? "" : "; the others are up to date";
    return { tone: "paused", text: `${allInAll(links)}${rest}.` };
  }
  const kept = quarantined(status);
  if (kept) {
    return { tone: "warn", text: `All links are up to date; ${plural(kept, "change")} in quarantine.` };
  }
  return status.state === "ok" ? { tone: "ok", text: `${allInAll(links)}.` } : unexplained(status);
}

export function quarantined(status) {
  return status.pipelines.reduce((sum, pipeline) => sum + (pipeline.records?.quarantined ?? 0)
    + (pipeline.links ?? []).reduce((more, link) => more + (link.quarantined ?? 0), 0), 0);
}
