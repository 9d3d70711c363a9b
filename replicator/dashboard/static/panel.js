// The chosen link: its figures, its charts, and the switch that pauses it.

import { LagChart, RateChart } from "./charts.js";
import { byId, element, keep, setData, setText } from "./dom.js";
import { switchLink } from "./pause.js";
import { route } from "./reading.js";
import { count, inShort, known, visible } from "./spoken.js";
import { ask } from "./stream.js";

const WINDOWS = { "10m": [600, "10 min"], "2h": [7200, "2 h"], "24h": [86400, "24 h"] };
const SPAN_S_MIN = 120;   // a chart is never narrower, however young the process is

export class Panel {
  constructor(record) {
    this.record = record;
    this.window = "10m";
    this.reading = null;
    this.said = "";
    this.lag = null;
    keep(byId("windows"), Object.keys(WINDOWS), (name) => name, (name) => {
      const button = element("button", "option", WINDOWS[name][1]);
      button.type = "button";
      button.addEventListener("click", () => this.choose(name));
      return button;
    }, () => {});
    byId("switch").addEventListener("click", () => this.order());
    this.marked();
  }

  choose(name) {
    this.window = name;
    this.past = null;
    this.marked();
    this.load();
  }

  marked() {
    for (const [name, button] of byId("windows").kept) {
      button.setAttribute("aria-pressed", String(name === this.window));
    }
  }

  // What the process remembers of the table, for the windows that this page does not keep itself.
  async load() {
    const wanted = this.window;
    if (wanted === "10m" || !this.reading) { this.draw(); return; }
    this.asked_s = performance.now() / 1000;
    const table = this.reading.table;
    try {
      const answer = await ask(`/api/history?window=${wanted}&table=${encodeURIComponent(table)}`);
      if (answer.ok && this.window === wanted) this.past = { table, ...(await answer.json()) };
    } catch {
      this.past = null;   // the chart stays empty: nothing is known
    }
    this.draw();
  }

  show(reading, links) {
    const other = this.reading?.key !== reading?.key;
    this.reading = reading;
    this.links = links.filter((link) => link.table === reading?.table);
    byId("panel").hidden = !reading;
    if (!reading) return;
    if (other) { this.said = ""; this.past = this.past?.table === reading.table ? this.past : null; }
    setText(byId("panel-title"), `${visible(reading.table)}: ${route(reading)}`);
    setData(byId("panel"), "tone", reading.tone);
    setText(byId("panel-line"), this.said || this.line(reading));
    setText(byId("switch"), reading.state === "paused" ? "Resume" : "Pause");
    const age_s = performance.now() / 1000 - (this.asked_s ?? 0);
    if (this.window !== "10m" && (!this.past || age_s > 10)) this.load();
    else this.draw();
  }

  line({ lead, link, pipeline }) {
    const parts = [lead, `${count(link.pending)} pending`];
    if (known(link.applied)) parts.push(`${count(link.applied)} applied`);
    if (link.retries) parts.push(`${count(link.retries)} retries`);
    if (pipeline.stalled) parts.push(visible(pipeline.stalled, 300));
    if (link.error || pipeline.error) parts.push(inShort(link.error || pipeline.error));
    return `${parts.join(" \u00b7 ")}`;
  }

  draw() {
    if (!this.reading || byId("panel").hidden) return;
    this.lag ??= new LagChart();
    this.rates ??= new RateChart();
    const figures = this.window === "10m" ? this.recent() : this.remembered();
    const end_s = figures.of.times.at(-1) ?? Date.now() / 1000;
    const first_s = Math.min(figures.of.times[0] ?? end_s, end_s - SPAN_S_MIN);
    const span = [Math.max(first_s, end_s - WINDOWS[this.window][0]), end_s];
    this.lag.draw(figures.of, span);
    this.rates.draw(figures.of.times, figures.rates, span);
  }

  recent() {
    const of = this.record.series.get(this.reading.key) ?? { times: [], p50: [], p99: [], behind: [], rate: [] };
    const all = this.links.map((link) => aligned(this.record.series.get(link.key), of.times));
    return { of, rates: this.ratesOf(of.rate, all) };
  }

  remembered() {
    const { reading, past } = this;
    const links = past?.links ?? [];
    const size = past?.slots ?? 0;
    const times = Array.from({ length: size }, (_, index) => past.start_s + index * past.step_s);
    const link = links.find((each) => each.source === reading.source && each.target === reading.target);
    if (!link) return { of: { times: [], p50: [], p99: [], behind: [] }, rates: this.ratesOf([], []) };
    const of = { times, p50: link.p50_ms, p99: link.p99_ms, behind: link.backlog_s };
    return { of, rates: this.ratesOf(link.applied_per_s, links.map((each) => each.applied_per_s)) };
  }

  // The link's own rate, and beside it that of its whole table where there is more of it.
  ratesOf(own, all) {
    const rates = new Map([["this link", own]]);
    if (this.links.length > 1) rates.set(`all links of ${this.reading.table}`, summed(all, own.length));
    return rates;
  }

  async order() {
    const { reading } = this;
    const paused = reading.state !== "paused";
    const button = byId("switch");
    button.disabled = true;
    this.said = await switchLink(reading, paused);
    if (!this.said && paused) this.said = "";
    button.disabled = false;
    button.focus();
    if (this.said) setText(byId("panel-line"), this.said);
  }

  redraw() { this.lag?.redraw(); this.rates?.redraw(); }
}

// The rates of a link at the given times, null where there are none.
function aligned(kept, times) {
  const at = new Map((kept?.times ?? []).map((time, index) => [time, kept.rate[index]]));
  return times.map((time) => at.get(time) ?? null);
}

// What all give together at each time, null where none is known.
function summed(all, size) {
  return Array.from({ length: size }, (_, index) => all.map((rates) => rates[index]).filter(known)
    .reduce((sum, value) => (sum ?? 0) + value, null));
}
