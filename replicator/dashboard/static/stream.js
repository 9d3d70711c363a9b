// The stream of statuses: server-sent events by fetch, since only fetch can carry a token. When it
// breaks or falls silent it is begun anew, less and less often; the page itself says that it is old.

const SILENT_MS = 5000;
const AGAIN_MS = [500, 1000, 2000, 5000];

let token = null;   // in this tab's memory only

export const hasToken = () => token !== null;
export function setToken(value) { token = value || null; }

export function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { cache: "no-store", credentials: "omit", ...options, headers });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Calls `onStatus` with each status; `onRefused` when a token is wanted, and awaits it.
export async function follow({ onStatus, onRefused }) {
  for (let failures = 0; ; failures += 1) {
    try {
      const told = await once(onStatus, onRefused);
      if (told) failures = 0;
    } catch {
      // Said by the age that the page shows; the browser has logged the rest.
    }
    await pause(AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)]);
  }
}

async function once(onStatus, onRefused) {
  const ending = new AbortController();
  let silent = setTimeout(() => ending.abort(), SILENT_MS);
  let told = 0;
  try {
    const answer = await ask("/events", { signal: ending.signal });
    if (answer.status === 401) {
      clearTimeout(silent);
      await onRefused();
      return 1;
    }
    if (!answer.ok) return 0;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return told;
      clearTimeout(silent);
      silent = setTimeout(() => ending.abort(), SILENT_MS);
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").find((line) => line.startsWith("data: "));
        if (data) { onStatus(JSON.parse(data.slice(6))); told += 1; }
      }
    }
  } finally {
    clearTimeout(silent);
    ending.abort();
  }
}
