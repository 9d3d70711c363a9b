// Pausing and resuming, and the asking for a token.

import { byId, setText } from "./dom.js";
import { visible } from "./spoken.js";
import { ask, hasToken, setToken } from "./stream.js";

let answered = null;   // what waits for the dialog

// Ask for the token; true when one was given.
export function askToken(text, error = "") {
  const dialog = byId("ask");
  setText(byId("ask-text"), text);
  setText(byId("ask-error"), error);
  byId("token").value = "";
  if (answered) answered(false);
  if (!dialog.open) dialog.showModal();
  byId("token").focus();
  return new Promise((resolve) => { answered = resolve; });
}

function close(given) {
  const resolve = answered;
  answered = null;
  if (byId("ask").open) byId("ask").close();
  if (resolve) resolve(given);
}

export function prepareDialog() {
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(byId("token").value.trim());
    byId("token").value = "";
    close(true);
  });
  byId("ask-no").addEventListener("click", () => close(false));
  byId("ask").addEventListener("cancel", (event) => { event.preventDefault(); close(false); });
}

// Pause or resume a link; returns a line to show, empty when all went well.
export async function switchLink(link, paused) {
  const what = `${paused ? "Pause" : "Resume"} ${visible(link.source)} \u2192 ${visible(link.target)} of ${visible(link.table)}.`;
  let error = "";
  for (;;) {
    if (!hasToken() && !(await askToken(what, error))) return "";
    const body = { table: link.table, source: link.source, target: link.target, paused };
    let answer;
    try {
      answer = await ask("/api/pause", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
      });
    } catch {
      return "The replicator did not answer; nothing is known of the order.";
    }
    if (answer.ok) return "";
    const said = await answer.json().catch(() => ({}));
    error = said.error ?? `Refused with status ${answer.status}.`;
    if (answer.status !== 401) return error;
    setToken(null);
  }
}
