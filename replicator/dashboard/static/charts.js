// The charts: what they show, and how. Times are in seconds, latencies in milliseconds on a
// logarithmic scale, for a good link lies near 100 ms and a bad one near an hour. What was unknown
// is hatched, never drawn as zero.

import { byId, element, keep, setText, svg } from "./dom.js";
import { known, milliseconds, rate, visible } from "./spoken.js";

export const SLOTS = 600;   // of live figures, one a second
const HOLE_S = 4;           // nothing came for longer: what was then is unknown, and drawn so
const TICKS_MS = [10, 100, 1000, 10000, 60000, 600000, 3600000, 36000000];
const [LAG_FLOOR_MS, LAG_TOP_MS] = [10, 10000];
const LINES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 2], [1, 4]];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// What was seen of each link, second by second; begins with what the process remembers.
export class Record {
  constructor() { this.series = new Map(); this.counted = new Map(); }

  begin(document_) {
    for (const link of document_.links) {
      const key = JSON.stringify([link.table, link.source, link.target]);
      const times = link.p50_ms.map((_, index) => document_.start_s + index * document_.step_s);
      const before = this.series.get(key)?.times[0] ?? Infinity;
      const size = times.filter((time) => time < before).length;
      const kept = this.series.get(key) ?? { times: [], p50: [], p99: [], behind: [], rate: [] };
      this.series.set(key, {
        times: [...times.slice(0, size), ...kept.times],
        p50: [...link.p50_ms.slice(0, size), ...kept.p50],
        p99: [...link.p99_ms.slice(0, size), ...kept.p99],
        behind: [...link.backlog_s.slice(0, size), ...kept.behind],
        rate: [...link.applied_per_s.slice(0, size), ...kept.rate],
      });
    }
  }

  add(links, now_us) {
    for (const reading of links) {
      const now_s = Math.floor(now_us / 1e6);
      if (!this.series.has(reading.key)) {
        this.series.set(reading.key, { times: [], p50: [], p99: [], behind: [], rate: [] });
      }
      const kept = this.series.get(reading.key);
      if (kept.times.at(-1) >= now_s) continue;
      const { link } = reading;
      if (now_s - kept.times.at(-1) > HOLE_S) this.leaveOut(reading.key, kept.times.at(-1) + 1, now_s - 1);
      push(kept, now_s, {
        p50: link.latency_ms?.p50, p99: link.latency_ms?.p99, behind: reading.behind_s,
        rate: this.rate(reading.key, link.applied, now_us),
      });
    }
  }

  // The page slept, or the process was away: both ends of that time are unknown, and so is the rate.
  leaveOut(key, from_s, to_s) {
    this.counted.delete(key);
    for (const time_s of [from_s, to_s]) push(this.series.get(key), time_s, {});
  }

  rate(key, applied, now_us) {
    const before = this.counted.get(key);
    if (!known(applied)) { this.counted.delete(key); return null; }
    this.counted.set(key, { applied, now_us });
    if (!before || applied < before.applied || now_us <= before.now_us) return null;
    return (applied - before.applied) / ((now_us - before.now_us) / 1e6);
  }

  // For how long the newest figures of a link have been unknown; 0 if they always were.
  silent_s(key) {
    const { times, behind } = this.series.get(key) ?? { times: [], behind: [] };
    const seen = behind.findLastIndex(known);
    return seen < 0 ? 0 : times.at(-1) - times[seen];
  }
}

function push(kept, time_s, figures) {
  kept.times.push(time_s);
  for (const name of ["p50", "p99", "behind", "rate"]) kept[name].push(figures[name] ?? null);
  for (const values of Object.values(kept)) if (values.length > SLOTS) values.shift();
}

const axis = (more) => ({
  stroke: () => colour("--quiet"), font: "12px system-ui, sans-serif",
  grid: { stroke: () => colour("--grid"), width: 1 }, ticks: { show: false }, ...more,
});

const times = axis({
  space: 70, size: 26,
  values: (plot, splits, index, space, step_s) => splits.map((time) =>
    new Date(time * 1000).toLocaleTimeString("en-GB", {
      timeZone: "UTC", hour: "2-digit", minute: "2-digit", ...(step_s < 60 && { second: "2-digit" }),
    })),
});

function hatch(plot) {
  const [xs] = plot.data;
  const unknown = plot.data[plot.data.length - 1];
  if (!plot.markUnknown || !xs.length) return;
  const { ctx } = plot;
  const step = xs.length > 1 ? xs[xs.length - 1] - xs[xs.length - 2] : 1;
  ctx.save();
  ctx.fillStyle = colour("--hatch");
  for (let index = 0; index < xs.length; index += 1) {
    if (known(unknown[index])) continue;
    const from = index;
    while (index + 1 < xs.length && !known(unknown[index + 1])) index += 1;
    const left = plot.valToPos(xs[from] - step / 2, "x", true);
    const right = plot.valToPos(xs[index] + step / 2, "x", true);
    ctx.fillRect(left, plot.bbox.top, Math.max(1, right - left), plot.bbox.height);
  }
  ctx.restore();
}

class Chart {
  constructor(place, height, options) {
    this.place = byId(place);
    this.height = height;
    this.options = options;
    this.plot = null;
    this.shape = "";
    new ResizeObserver(() => this.fit()).observe(this.place);
  }

  show(shape, series, data, span) {
    if (this.plot && this.shape !== shape) { this.plot.destroy(); this.plot = null; }
    this.shape = shape;
    this.span = span;
    if (!this.plot) {
      const width = Math.max(200, this.place.clientWidth);
      const options = { ...this.options, width, height: this.height, series: [{}, ...series],
        tzDate: (time_s) => uPlot.tzDate(new Date(time_s * 1000), "Etc/UTC"), legend: { show: false }, cursor: { drag: { setScale: false }, points: { size: 6 } },
        scales: { ...this.options.scales, x: { time: true, range: () => this.span } },
        hooks: { drawClear: [hatch], ...this.options.hooks } };
      this.plot = new uPlot(options, data, this.place);
      this.plot.markUnknown = this.options.markUnknown;
    }
    this.plot.setData(data);
  }

  fit() {
    const width = this.place.clientWidth;
    if (this.plot && width > 0) this.plot.setSize({ width, height: this.height });
  }

  redraw() { this.plot?.redraw(); }
}

const line = (index, more = {}) => ({
  stroke: () => colour(LINES[index % LINES.length]), width: 2, dash: DASHES[index % DASHES.length],
  points: { show: false }, spanGaps: false, ...more,
});

const logarithmic = {
  y: { distr: 3, log: 10, range: (plot, low, high) => [LAG_FLOOR_MS, Math.max(LAG_TOP_MS, (high ?? 0) * 1.5)] },
};

export class LagChart extends Chart {
  constructor() {
    super("lag-chart", 230, {
      markUnknown: true, scales: logarithmic,
      axes: [times, axis({
        size: 62,
        splits: (plot, index, low, high) => TICKS_MS.filter((tick) => tick >= low && tick <= high),
        filter: (plot, splits) => splits,
        values: (plot, splits) => splits.map(milliseconds),
      })],
    });
  }

  // `figures`: times, p50, p99 in ms and behind in s, null where unknown.
  draw(figures, span) {
    const atLeast = (values, factor) =>
      values.map((value) => (known(value) ? Math.max(LAG_FLOOR_MS, value * factor) : null));
    const data = [figures.times, atLeast(figures.p50, 1), atLeast(figures.p99, 1),
      atLeast(figures.behind, 1000)];
    const behind = line(2, { dash: [], width: 1, fill: () => colour("--under") });
    this.show("lag", [line(0), line(1), behind], data, span);
    keys("lag-legend", [
      ["p50", milliseconds(lastOf(figures.p50)), 0],
      ["p99", milliseconds(lastOf(figures.p99)), 1],
      ["behind", milliseconds(last(figures.behind, 1000)), 2],
    ]);
  }
}

export class RateChart extends Chart {
  constructor() {
    super("rate-chart", 130, {
      scales: { y: { range: (plot, low, high) => [0, Math.max(1, (high ?? 0) * 1.15)] } },
      axes: [times, axis({ size: 62, values: (plot, splits) => splits.map((value) => `${value}/s`) })],
    });
  }

  // `lines`: by name, changes a second at each of `at`.
  draw(at, lines, span) {
    const names = [...lines.keys()];
    this.show(names.join("\n"), names.map((_, index) => line(index)), [at, ...lines.values()], span);
    keys("rate-legend", names.map((name, index) =>
      [visible(name), perSecond(last(lines.get(name))), index]));
  }
}

const lastOf = (values) => values.slice(-10).findLast(known);
const last = (values, factor = 1) => (known(values.at(-1)) ? values.at(-1) * factor : null);

const perSecond = (value) => (known(value) ? `${rate(value)}/s` : rate(value));

function keys(place, entries) {
  keep(byId(place), entries, ([name, , index]) => `${index} ${name}`, ([name, , index]) => {
    const sample = svg("svg", { viewBox: "0 0 24 6", class: `sample line-${index % LINES.length + 1}` });
    const dash = place === "lag-legend" && index === 2 ? "" : DASHES[index % DASHES.length].join(" ");
    sample.append(svg("path", { d: "M0 3h24", "stroke-dasharray": dash || "none" }));
    sample.setAttribute("aria-hidden", "true");
    const figure = element("b");
    const node = element("span", "key", sample, `${name} `, figure);
    node.figure = figure;
    return node;
  }, (node, [, figure]) => setText(node.figure, figure));
}

// A small line of the age of what is missing, over the last two minutes; a gap where unknown.
export function spark(node, kept) {
  const behind = (kept?.behind ?? []).slice(-120);
  const times = (kept?.times ?? []).slice(-120);
  let path = "";
  let drawn = false;
  behind.forEach((value, index) => {
    const x = 119 - (times.at(-1) - times[index]);
    if (!known(value) || x < 0) { drawn = false; return; }
    const height = Math.min(1, Math.log10(1 + value * 10) / 3);
    path += `${drawn ? "L" : "M"}${x} ${(19 - 17 * height).toFixed(1)}`;
    drawn = true;
  });
  if (node.getAttribute("d") !== path) node.setAttribute("d", path);
}
