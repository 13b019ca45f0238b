"use strict";
// What all pages share: calls of the API, elements made of plain text, numbers and times in words.

const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";

class Problem extends Error {
  constructor(told) {
    super(told.detail);
    this.told = told;
  }
}

/** Calls the API and returns what it answers; throws a Problem with what it says is wrong. */
const ask = async (path, { method = "GET", body, key } = {}) => {
  const headers = { "X-CSRF-Token": csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const answer = await fetch(`/api/v1${path}`, {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  const isJson = (answer.headers.get("Content-Type") ?? "").includes("json");
  const told = isJson ? await answer.json() : { detail: `the service answered ${answer.status}` };
  if (!answer.ok) throw new Problem(told);
  return told;
};

/** Returns all rows of a list that comes in parts. */
const askAll = async (path, rowKey) => {
  const rows = [];
  for (;;) {
    const cursor = rows.length ? `&cursor=${encodeURIComponent(rows.at(-1)[rowKey])}` : "";
    const part = await ask(`${path}?limit=1000${cursor}`);
    rows.push(...part);
    if (part.length < 1000) return rows;
  }
};

/** Returns an element; children are elements, or text, which is never read as HTML. */
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((one) => one != null));
  return made;
};

/** Puts rows into the place of others, but for those that are the same. */
const replaceRows = (body, rows) => {
  rows.forEach((row, at) => {
    const now = body.children[at];
    if (!now) body.append(row);
    else if (!now.isEqualNode(row)) now.replaceWith(row);
  });
  while (body.children.length > rows.length) body.lastChild.remove();
};

const trouble = (text) => {
  const place = document.getElementById("trouble");
  if (place.textContent !== (text ?? "")) place.textContent = text ?? "";
  place.hidden = !text;
};

const inWords = (state) => (state ?? "").replaceAll("_", " ");
const stateOf = (state) => make("span", { class: `state ${state}` }, inWords(state));
const digits = (value) => {
  if (value == null) return "";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size >= 1e4 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
};
const duration = (seconds) => {
  if (seconds == null) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
};
const sizeOf = (bytes) => {
  if (bytes == null) return "";
  const gib = bytes / 2 ** 30;
  return gib >= 1 ? `${gib.toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;
};
const ago = (text) => {
  const seconds = (Date.now() - Date.parse(text)) / 1000;
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 90) return "just now";
  if (seconds < 86400) return `${duration(seconds)} ago`;
  return new Date(text).toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
};
const drawKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

/** Calls `look` now and every few seconds while the page is seen; says when nobody answers. */
const keepLooking = (look, everyMs) => {
  const again = async () => {
    if (!document.hidden) {
      try {
        await look();
        trouble(null);
      } catch (error) {
        trouble(error instanceof Problem ? error.message : "The service does not answer. This page goes on when it is back.");
      }
    }
    setTimeout(again, everyMs);
  };
  again();
};
