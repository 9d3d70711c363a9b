// How figures and names are put in words. Unknown is never shown as zero, and a text from outside
// is never allowed to look like something else: what is not to be seen is written out.

export const UNKNOWN = "unknown";
const NAME_CHARACTERS_MAX = 96;

export const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

export const count = (value) => (known(value) ? Math.round(value).toLocaleString("en-US") : UNKNOWN);

export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many ?? `${one}s`}`;

export function seconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172800) return `${(value / 3600).toFixed(1)} h`;
  return `${Math.round(value / 86400)} d`;
}

// A time that is counted up: whole seconds.
export const elapsed = (value) => (known(value) && value < 120 ? `${Math.floor(value)} s` : seconds(value));

export function milliseconds(value) {
  if (!known(value)) return UNKNOWN;
  return value < 1000 ? `${Math.round(value)} ms` : seconds(value / 1000);
}

export function rate(value) {
  if (!known(value)) return UNKNOWN;
  return value < 9.95 ? value.toFixed(1) : count(value);
}

// Times are in UTC and say so, as in the commands and the log.
export const moment = (microseconds) => (known(microseconds)
  ? new Date(microseconds / 1000).toISOString().replace("T", " ").replace(/\.\d+Z$/, "Z") : UNKNOWN);

export const clock = (microseconds) => (known(microseconds) ? moment(microseconds).slice(11) : UNKNOWN);

// What kept a call from being answered: by the product's own connections (wire/), and by botocore, whose
// sentences end in the address that was called.
const UNANSWERED = {
  ConnectionClosedError: "connection closed", EndpointConnectionError: "no connection",
  ConnectTimeoutError: "no connection in time", ReadTimeoutError: "no answer in time",
  ConnectionResetError: "connection reset", ConnectionRefusedError: "connection refused",
  TimeoutError: "no connection in time", gaierror: "its name is not found", OSError: "no connection",
  "closed before it answered": "connection closed",
};
const CALL = /^(\S+(?: on .+)?) in (\S+): (?:no connection: )?([A-Za-z]+|closed before it answered)(?=:|$)/;
const ADDRESS = /\s*(?:\b(?:from|to|on|for) )?(?:the )?(?:endpoint )?(?:URL:? )?"?https?:\/\/[^\s"]+"?/gi;

// An error as a person needs it: who does not answer and why, without addresses.
export function inShort(error) {
  const [, call, region, name] = String(error).match(CALL) ?? [];
  if (Object.hasOwn(UNANSWERED, name ?? "")) {
    return visible(`${region} does not answer: ${UNANSWERED[name]} (${call})`, 300);
  }
  return visible(String(error).replace(ADDRESS, "").replace(/\.$/, ""), 300);
}

// Controls, marks of direction and other characters that show nothing or turn a line round.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;
const written = (character) => `\u27e8${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`;

export function visible(value, most = NAME_CHARACTERS_MAX) {
  const text = String(value);
  const characters = [...text.slice(0, 2 * most)];
  const cut = text.length > characters.slice(0, most).join("").length;
  const shown = characters.slice(0, most).join("").replace(UNSEEN, written);
  return cut ? `${shown}\u2026 (${count(text.length)} characters)` : shown;
}
