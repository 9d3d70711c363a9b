// The links, source by target, one matrix per table. A cell is a button that opens its link. What
// is well stays quiet; what is not has a colour, a sign and a word.

import { spark } from "./charts.js";
import { byId, element, keep, setData, setText, svg } from "./dom.js";
import { LEGEND, SIGNS, WORDS, route } from "./reading.js";
import { elapsed, known, milliseconds, seconds, visible } from "./spoken.js";

export function showLegend() {
  const entries = ["ok", "warn", "bad", "unknown", "paused"];
  keep(byId("legend"), entries, (tone) => tone, (tone) => {
    const sign = element("span", "sign", SIGNS[tone]);
    sign.dataset.tone = tone;
    sign.setAttribute("aria-hidden", "true");
    return element("span", "state", sign, ` ${LEGEND[tone]}`);
  }, () => {});
}

function latency({ state, link, behind_s, since_s }) {
  const { p50, p99 } = link.latency_ms ?? {};
  if (state === "stalled") {
    return known(behind_s) ? `${seconds(behind_s)} behind` : `unknown for ${elapsed(since_s)}`;
  }
  if (state === "retrying") return known(p99) ? `retrying \u00b7 p99 ${milliseconds(p99)}` : "retrying";
  if (!known(p50) && !known(p99)) return "no recent change";
  return `p50 ${milliseconds(p50)} \u00b7 p99 ${milliseconds(p99)}`;
}

function makeCell(reading, choose) {
  const sign = element("span", "sign");
  sign.setAttribute("aria-hidden", "true");
  const word = element("span", "unseen");
  const lead = element("span", "lead");
  const detail = element("span", "detail");
  const picture = svg("svg", {
    viewBox: "0 0 120 20", preserveAspectRatio: "none", class: "spark", "aria-hidden": "true",
  });
  const path = svg("path", { d: "" });
  picture.append(path);
  const button = element("button", "cell",
    element("span", "route", `${route(reading)} `), sign, word, lead, detail, picture);
  button.type = "button";
  button.addEventListener("click", () => choose(reading.key));
  const cell = element("td", "", button);
  Object.assign(cell, { button, sign, word, lead, detail, path });
  return cell;
}

function updateCell(cell, reading, record, chosen) {
  setData(cell.button, "tone", reading.tone);
  setText(cell.sign, SIGNS[reading.tone]);
  setText(cell.word, `${WORDS[reading.tone]}: `);
  setText(cell.lead, reading.lead);
  setText(cell.detail, latency(reading));
  const pressed = String(chosen === reading.key);
  if (cell.button.getAttribute("aria-pressed") !== pressed) {
    cell.button.setAttribute("aria-pressed", pressed);
  }
  spark(cell.path, record.series.get(reading.key));
}

function heading(scope, text) {
  const node = element("th", "", visible(text));
  node.scope = scope;
  return node;
}

function makeTable(name) {
  const head = element("tr");
  const corner = element("td", "corner", "from \\ to");
  const body = element("tbody");
  const mode = element("span", "quiet");
  const title = element("h3", "", visible(name));
  const grid = element("table", "matrix", element("caption", "unseen", `Links of ${visible(name)}`),
    element("thead", "", head), body);
  const node = element("div", "table", element("div", "title", title, mode), grid);
  Object.assign(node, { head, corner, body, mode });
  return node;
}

function updateTable(node, { links, mode }, record, chosen, choose) {
  setText(node.mode, mode);
  const targets = [...new Set(links.map((link) => link.target))];
  const sources = [...new Set(links.map((link) => link.source))];
  const columns = [...sources.filter((each) => targets.includes(each)),
    ...targets.filter((each) => !sources.includes(each))];
  const byRoute = new Map(links.map((link) => [JSON.stringify([link.source, link.target]), link]));
  keep(node.head, [null, ...columns], (each) => each,
    (each) => (each === null ? node.corner : heading("col", each)), () => {});
  keep(node.body, sources, (each) => each, (source) => element("tr"), (row, source) => {
    keep(row, [null, ...columns], (each) => `${each === null} ${byRoute.has(JSON.stringify([source, each]))} ${each}`,
      (target) => {
        if (target === null) return heading("row", source);
        const reading = byRoute.get(JSON.stringify([source, target]));
        if (reading) return makeCell(reading, choose);
        return element("td", "none", source === target ? "\u2014" : "no link");
      },
      (cell, target) => {
        const reading = byRoute.get(JSON.stringify([source, target]));
        if (reading && cell.button) updateCell(cell, reading, record, chosen);
      });
  });
}

export function showMatrices(links, record, chosen, choose) {
  const tables = new Map();
  for (const link of links) {
    if (!tables.has(link.table)) tables.set(link.table, []);
    tables.get(link.table).push(link);
  }
  const items = [...tables].map(([name, found]) => ({ name, links: found, mode: visible(found[0].pipeline.mode ?? "") }));
  keep(byId("tables"), items, (item) => item.name, (item) => makeTable(item.name),
    (node, item) => updateTable(node, item, record, chosen, choose));
}
