// What both pages share: the token, requests, events, and elements made of data.

export const base = location.pathname.replace(/[^/]*$/, ""); // "/c/name/"
const KEY = `bayesal ${base}`;

// The start link carries the token behind "#", where no server and no log sees it. It moves to the
// storage of this tab. There is no cookie.
function arrived() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    if (given !== kept("token")) forget();
    keep("token", given);
    history.replaceState(null, "", location.pathname);
  }
}
export function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem(KEY + name));
  } catch {
    return null;
  }
}
export function keep(name, value) {
  sessionStorage.setItem(KEY + name, JSON.stringify(value));
}
function forget() {
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(KEY)) sessionStorage.removeItem(key);
}
arrived();
addEventListener("hashchange", () => location.reload());

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options) {
  const response = await fetch(base + path, {
    ...options,
    headers: { ...options.headers, Authorization: `Bearer ${kept("token") ?? ""}` },
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  throw new Refused(response.status, said.error ?? `the server answered ${response.status}`);
}
const patient = () => AbortSignal.timeout(20000);

export async function get(path) {
  return (await request(path, { signal: patient() })).json();
}
export async function post(path, given) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify(given);
  return (await request(path, { method: "POST", headers, body, signal: patient() })).json();
}
export async function blob(path) {
  return (await request(path, { signal: patient() })).blob();
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Server-sent events, read by hand: EventSource cannot send the token.
export async function follow(say) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const response = await request("events", {});
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        wait = 500;
        const parts = (text + value).split("\n\n");
        text = parts.pop();
        for (const part of parts) if (part.startsWith("data: ")) say(JSON.parse(part.slice(6)));
      }
    } catch (error) {
      if (error.status === 401) return;
    }
    await pause(wait);
  }
}

// An element. Texts are set as text, so that what is in an item is never read as HTML.
export function el(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...inside.map((one) => (one instanceof Node ? one : String(one))));
  return made;
}
export function brief(number) {
  if (!Number.isFinite(number)) return "–";
  if (number === 0 || Number.isInteger(number)) return String(number);
  return Math.abs(number) < 0.001 ? number.toExponential(1) : String(+number.toPrecision(3));
}
export const percent = (share) => `${Math.round(100 * share)} %`;

// Pictures, fetched once with the token: addresses of this tab.
const pictures = new Map();
export function picture(path) {
  if (!pictures.has(path)) {
    pictures.set(path, blob(path).then((data) => URL.createObjectURL(data)));
    pictures.get(path).catch(() => pictures.delete(path));
    for (const [old, url] of pictures) {
      if (pictures.size <= 80) break;
      pictures.delete(old);
      url.then(URL.revokeObjectURL, () => {});
    }
  }
  return pictures.get(path);
}
export function image(path, alt) {
  const made = el("img", { alt, draggable: "false" });
  made.addEventListener("load", () => {
    if (made.naturalWidth <= 128 && made.naturalHeight <= 128) made.classList.add("pixels");
  });
  picture(path).then(
    (url) => (made.src = url),
    (error) => made.replaceWith(el("p", { class: "note" }, `No picture: ${error.message}`)),
  );
  return made;
}

// What the net believes: the likeliest classes as bars, or a number with its deviation.
export function beliefs(belief, classes, most = 3) {
  if (!classes) return el("span", {}, `${brief(belief[0])} ± ${brief(belief[1])}`);
  const order = belief.map((p, i) => [p, classes[i]]).sort((a, b) => b[0] - a[0]).slice(0, most);
  return el("ul", { class: "bars" }, ...order.map(([p, name]) => bar(name, p, percent(p))));
}

export function bar(name, share, text) {
  const fill = el("span", { class: "fill" });
  fill.style.inlineSize = `${100 * share}%`;
  return el("li", {}, el("span", { class: "name" }, name), el("span", { class: "track" }, fill), el("span", { class: "amount" }, text));
}
