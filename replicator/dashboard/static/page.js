// The page: what comes in, and what is shown of it. Once a second a status arrives and everything is
// brought up to date in place. When none arrives the page says since when, greys the figures and
// calls the state unknown: old figures never pass for new ones.

import { Record } from "./charts.js";
import { byId, element, keep, setData, setText } from "./dom.js";
import { Conflicts, showAttention, showCounts, showExposure } from "./lists.js";
import { showLegend, showMatrices } from "./matrix.js";
import { Panel } from "./panel.js";
import { askToken, prepareDialog } from "./pause.js";
import { SIGNS, Since, TITLES, exposureTone, quarantined, readings, route, stakes, verdict, worstExposure, worstOf } from "./reading.js";
import { count, known, plural, rate, seconds, visible } from "./spoken.js";
import { ask, follow } from "./stream.js";

const STALE_S = 3;
const AHEAD_LINKS_MAX = 48;   // more are not asked for ahead, to spare the process
const THEMES = { auto: "\u25d0 auto", light: "\u2600\ufe0e light", dark: "\u263e\ufe0e dark" };

const record = new Record();
const since = new Since();
const conflicts = new Conflicts();
const panel = new Panel(record);
let status = null;
let links = [];
let chosen = null;        // the link that a person chose; the worst if none
let shown_s = null;       // when figures were last shown, whole
let broken = "";          // why the newest cannot be shown
let announced = "";
const now_s = () => performance.now() / 1000;
const opened_s = now_s();

// --- what arrives -------------------------------------------------------------------------------

async function take(document_) {
  const first = status === null;
  status = document_;
  if (presented()) shown_s = now_s();
  showAge();
  if (first) await remember();
}

// Whether all of the status could be shown; why not is said by the sentence.
function presented() {
  try {
    show();
    broken = "";
  } catch (error) {
    broken = visible(error, 200);
    console.error(error);
  }
  return !broken;
}

// What the process remembers is drawn at once, so that an open page is not needed to have a past.
async function remember() {
  const table = links.length > AHEAD_LINKS_MAX ? `&table=${encodeURIComponent(links[0].table)}` : "";
  try {
    const answer = await ask(`/api/history?window=10m${table}`);
    if (answer.ok) { record.begin(await answer.json()); since.states.clear(); }
  } catch {
    // The charts then begin with now.
  }
  presented();
}

function show() {
  links = readings(status, since, now_s(), (key) => record.silent_s(key));
  record.add(links, status.now_us);
  if (chosen && !links.some((link) => link.key === chosen)) chosen = null;
  const shown = chosen ? links.find((link) => link.key === chosen) : steadyWorst();
  showVerdict(verdict(status, links), stakes(status));
  showTiles();
  showMatrices(links, record, shown?.key, choose);
  panel.show(shown, links);
  showExposure(status);
  showAttention(status, links);
  showCounts(status);
  conflicts.look(status);
  const up = seconds((status.now_us - status.started_us) / 1e6);
  setText(byId("process"), `${visible(status.version ?? "", 24)} \u00b7 up ${up}`);
}

// The worst link, but no jumping about among links that are all well.
function steadyWorst() {
  const worst = worstOf(links);
  const standing = links.find((link) => link.key === panel.reading?.key);
  return standing && worst && standing.tone === worst.tone ? standing : worst;
}

function choose(key) {
  chosen = key;
  if (status) { presented(); showAge(); }
}

// --- the top ------------------------------------------------------------------------------------

function showVerdict({ tone, text }, lost) {
  setData(byId("verdict"), "tone", tone);
  setText(byId("sign"), SIGNS[tone]);
  setText(byId("sentence"), text);
  setText(byId("stakes"), lost);
  announce(`${tone} ${text.replace(/[\d.,]+ (ms|s|min|h|d)\b/g, "")}`, text);
}

// Readers of the screen by ear hear a new state, not every second of it.
function announce(about, text) {
  if (about === announced) return;
  announced = about;
  setText(byId("said"), text);
}

function total(name) {
  return links.map((link) => record.series.get(link.key)?.[name].at(-1)).filter(known)
    .reduce((sum, value) => (sum ?? 0) + value, null);
}

function tiles() {
  const worst = worstOf(links);
  const exposed = worstExposure(status);
  const decided = status.pipelines.reduce((sum, each) => sum + (each.records?.conflicts ?? 0), 0);
  const kept = quarantined(status);
  const gaps = status.pipelines.filter((each) => each.gap).length;
  return [
    { name: "Furthest behind", figure: worst ? seconds(worst.behind_s) : "\u2014",
      more: worst ? route(worst) : "no link", tone: worst?.tone ?? "unknown" },
    { name: "Lost if a region vanished", figure: exposed ? seconds(exposed.seconds) : "unknown",
      more: exposed ? `${visible(exposed.region)}${exposed.records ? `, \u2265 ${plural(exposed.records, "change")}` : ""}` : "not reported",
      tone: exposureTone(exposed?.seconds) },
    { name: "Throughput", figure: known(total("rate")) ? `${rate(total("rate"))}/s` : "unknown",
      more: "changes applied, all links", tone: "ok" },
    { name: "Conflicts decided", figure: count(decided), more: "since the start", tone: "ok" },
    { name: "Quarantine and gaps", figure: `${count(kept)} \u00b7 ${count(gaps)}`,
      more: kept || gaps ? "see Attention" : "nothing waits, nothing lost", tone: gaps ? "bad" : kept ? "warn" : "ok" },
  ];
}

function showTiles() {
  keep(byId("tiles"), tiles(), (each) => each.name, (each) => {
    const figure = element("b", "figure");
    const more = element("span", "quiet");
    return Object.assign(element("div", "tile", element("span", "label", each.name), figure, more), { figure, more });
  }, (node, each) => {
    setData(node, "tone", each.tone);
    setText(node.figure, each.figure);
    setText(node.more, each.more);
  });
}

// --- age, theme ---------------------------------------------------------------------------------

function showAge() {
  const silent_s = now_s() - (shown_s ?? opened_s);
  const stale = silent_s > STALE_S || broken !== "";
  document.body.classList.toggle("outdated", stale && status !== null);
  setData(byId("pulse"), "tone", stale || !status ? "unknown" : "ok");
  if (stale) {
    const text = broken ? `The newest figures cannot be shown (${broken}).` : `No data for ${Math.floor(silent_s)} s.`;
    setText(byId("age"), broken ? "not shown" : `no data for ${Math.floor(silent_s)} s`);
    showVerdict({ tone: "unknown", text }, unseen());
  } else if (status) {
    setText(byId("age"), "live");
  }
  const tone = byId("verdict").dataset.tone;
  document.title = `${SIGNS[tone]} ${TITLES[tone]} \u00b7 Replicator`;
}

function unseen() {
  if (broken) return "Load the page anew. What is true now is at /api/status; some of what is shown is from before.";
  return status ? "What is shown is from before; what happens now is unknown." : "The replicator does not answer.";
}

function prepareTheme() {
  const names = Object.keys(THEMES);
  const use = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    setText(byId("theme"), THEMES[name]);
    byId("theme").title = `Colours: ${name}`;
    panel.redraw();
  };
  let at = 0;
  byId("theme").addEventListener("click", () => { at = (at + 1) % names.length; use(names[at]); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => panel.redraw());
}

showLegend();
prepareDialog();
prepareTheme();
setInterval(showAge, 1000);
follow({ onStatus: take, onRefused: () => askToken("This page shows its figures to those who have the token.") });
