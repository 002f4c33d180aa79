// The labeling page. Answers go into an outbox and are shown as given at once; the outbox is sent in
// order, again and again until the server has each answer. The same answer twice changes nothing
// there, so that sending again is always safe.

import { beliefs, brief, el, follow, get, image, keep, kept, pause, picture, post } from "/static/api.js";

const AHEAD = 3; // questions in front of the person and behind it
const PAST = 50; // answers that can be undone
const BREAK = 15 * 60 * 1000; // a longer rest is no work
const at = (id) => document.getElementById(id);

let about = null;
let state = null;
let queue = []; // questions; the first one is shown
let revising = null; // a past answer that is shown again
let outbox = kept("outbox") ?? [];
let past = kept("past") ?? [];
let times = kept("times") ?? [];
let since = performance.now(); // when the shown question came
let asking = false;
let online = true;
let lost = false; // the token is no longer valid

const known = () => new Set([...past, ...outbox].map((one) => one.token));
const shown = () => revising?.ask ?? queue[0] ?? null;
const store = () => {
  keep("outbox", outbox);
  keep("past", past.slice(-PAST));
  keep("times", times.slice(-500));
};

// --- answers

function answer(kind, value = null) {
  const ask = shown();
  if (!ask || lost) return;
  const seconds = Math.round(performance.now() - since) / 1000;
  outbox.push({ token: ask.token, kind, value, seconds, revise: revising !== null });
  past = past.filter((one) => one.token !== ask.token);
  past.push({ token: ask.token, ask, kind, value });
  queue = queue.filter((one) => one.row !== ask.row);
  revising = null;
  times.push(Date.now());
  store();
  note("");
  show();
  send();
  refill();
}

function undo() {
  const last = past.at(-1);
  if (!last) return;
  if (revising) return note("Answer this one first; then the one before can be undone.");
  revising = last;
  show();
}

let sending = false;
async function send() {
  if (sending) return;
  sending = true;
  for (let wait = 300; outbox.length && !lost; ) {
    const first = outbox[0];
    saved();
    try {
      const receipt = await post("answer", first);
      outbox.shift();
      online = true;
      wait = 300;
      strip(first, receipt);
    } catch (error) {
      if (error.status === 401) lose(error);
      else if (error.status >= 400 && error.status < 500 && error.status !== 408) {
        outbox.shift(); // the server has said why; sending again would change nothing
        note(error.message);
      } else {
        online = false;
        saved();
        await pause(wait);
        wait = Math.min(2 * wait, 5000);
      }
    }
    store();
  }
  sending = false;
  saved();
}

// --- questions

async function refill() {
  if (asking || lost || queue.length >= AHEAD) return;
  asking = true;
  try {
    const got = await post("ask", { n: Math.min(AHEAD + outbox.length, 20) });
    online = true;
    const answered = known();
    for (const ask of got.asks) {
      if (answered.has(ask.token) || queue.some((one) => one.row === ask.row)) continue;
      queue.push(ask);
      if (ask.image) picture(ask.image).catch(() => {});
    }
    if (got.state) hear(got.state);
  } catch (error) {
    if (error.status === 401) lose(error);
    else if (error.status) note(error.message);
    else online = false;
  }
  asking = false;
  saved();
  if (!shownIs(shown())) show();
}

// A new round: what is in front of the person stays, what is behind it was chosen by an older net.
function hear(news) {
  const turned = state && news.round !== state.round;
  state = news;
  if (turned) queue = queue.slice(0, 1);
  bar();
  if (turned || !shown()) refill();
  if (!shown()) idle();
}

// --- what is seen

let onScreen = null;
const shownIs = (ask) => (ask?.token ?? null) === onScreen;

function show() {
  const ask = shown();
  if (!shownIs(ask)) since = performance.now();
  onScreen = ask?.token ?? null;
  at("item").hidden = at("answers").hidden = !ask;
  at("others").hidden = !ask && !past.length;
  at("idle").hidden = Boolean(ask);
  at("undo").disabled = !past.length || revising !== null;
  for (const button of document.querySelectorAll("[data-kind]")) button.disabled = !ask;
  if (!ask) return idle();
  at("item").replaceChildren(...seen(ask));
  at("why").replaceChildren(...(about.beliefs === "before" ? [why(ask), ...believed(ask.belief)] : []));
  const said = revising ? `You said ${spoken(revising)}. Your new answer replaces it.` : "";
  if (revising) note(said);
  for (const button of at("classes").children) {
    button.classList.toggle("was", revising?.kind === "label" && revising.value === button.dataset.value);
  }
  if (!about.classes) {
    at("value").value = revising?.kind === "label" ? revising.value : "";
    at("value").focus();
  }
}

function seen(ask) {
  const parts = [];
  if (ask.image) parts.push(image(ask.image, `item ${ask.id}`));
  if (ask.text !== undefined) parts.push(el("p", { class: "text" }, ask.text));
  if (ask.fields) {
    const pair = ([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, typeof value === "number" ? brief(value) : value));
    parts.push(el("dl", { class: "fields" }, ...ask.fields.map(pair)));
  }
  if (ask.numbers) {
    const more = ask.shape.reduce((a, b) => a * b, 1) - ask.numbers.length;
    const cells = ask.numbers.map((value) => el("li", {}, brief(value)));
    parts.push(el("ol", { class: "numbers", start: 0 }, ...cells));
    if (more > 0) parts.push(el("p", { class: "quiet" }, `and ${more} more numbers`));
  }
  return parts;
}

const why = (ask) =>
  ask.score === null
    ? el("span", {}, "Carried over from the round before. ")
    : el("span", {}, `Picked by ${about.strategy}: score ${brief(ask.score)}, place ${ask.rank + 1}. `);
const believed = (belief) => (belief ? [el("span", {}, "The net believes "), beliefs(belief, about.classes)] : []);
const spoken = (one) =>
  ({ label: one.value, reject: "none of these", abstain: "can't tell", skip: "later" })[one.kind];

// The answer just given, beside what the net believed before it.
function strip(sent, receipt) {
  const one = past.find((other) => other.token === sent.token);
  if (!one || about.beliefs === "never" || sent.kind === "skip") return;
  const inside = [el("p", {}, "You said ", el("strong", {}, spoken(sent)), ".")];
  if (receipt.belief) {
    const first = about.classes?.[receipt.belief.indexOf(Math.max(...receipt.belief))];
    const same = sent.kind === "label" && first === sent.value;
    if (same) inside[0].append(" So did the net.");
    inside.push(el("div", { class: "believed" }, el("span", { class: "quiet" }, "The net believed"), beliefs(receipt.belief, about.classes)));
  } else inside.push(el("p", { class: "quiet" }, "The net had no opinion yet."));
  inside.push(el("p", { class: "quiet" }, why(one.ask)));
  const thumb = one.ask.image ? [image(one.ask.image, "")] : [];
  at("strip").replaceChildren(...thumb, el("div", {}, ...inside));
  at("strip").hidden = false;
}

function idle() {
  if (shown()) return;
  const calm = (title, text) => {
    if (at("idle").dataset.said === title + text) return;
    at("idle").dataset.said = title + text;
    at("idle").classList.toggle("learning", title.startsWith("The net is"));
    at("idle").replaceChildren(el("div", { class: "pulse", "aria-hidden": "true" }), el("h2", {}, title), el("p", {}, text));
  };
  note("");
  at("why").replaceChildren();
  if (lost) return calm("This link is not valid", "Open the start link that you were given, or ask for a new one. Answers that wait are kept in this tab.");
  if (!online) return calm("Waiting for the server", "Your answers are kept in this tab. It goes on by itself.");
  if (!state || !about) return calm("One moment", "The first question is coming.");
  if (state.error) return calm("The net could not learn", `${state.error} Your answers are saved, and the next answer tries again.`);
  if (state.training) return calm("The net is learning from your answers", "The next questions come by themselves, usually within seconds.");
  if (state.size === 0) return calm("All done", "Nothing is left to ask. Thank you.");
  return calm("The rest is with others", "All open questions of this round are with other people. It goes on by itself when they have answered.");
}

function bar() {
  if (!state) return;
  const settled = Math.min(state.settled, state.size);
  at("bar").max = Math.max(state.size, 1);
  at("bar").value = settled;
  at("round").textContent = state.size ? `${settled} of ${state.size} in round ${state.round + 1}` : "complete";
  at("round").classList.toggle("learning", state.training);
}

function saved() {
  const waiting = outbox.length;
  const text = lost ? "not signed in" : !online ? "waiting for the server" : waiting ? "saving" : past.length ? "saved" : "";
  at("saved").textContent = !online && waiting ? `${text} (${waiting} kept here)` : text;
  at("saved").dataset.state = lost || !online ? "waiting" : waiting ? "saving" : "saved";
  at("speed").textContent = speed();
  if (!shown()) idle();
}

function speed() {
  const gaps = times.slice(1).map((time, i) => time - times[i]).filter((gap) => gap < BREAK);
  const worked = gaps.reduce((a, b) => a + b, 0);
  return gaps.length < 4 ? "" : `${Math.round((3600000 * gaps.length) / worked)} an hour`;
}

function note(text) {
  at("note").textContent = text;
}

function lose(error) {
  lost = true;
  queue = [];
  revising = null;
  show();
  note(error.message);
  saved();
}

// --- keys and buttons

// Classes named by digits have their own digit as key; else the first ten have 1 to 9 and 0.
function keyOf(i) {
  if (about.classes.every((name) => /^\d$/.test(name))) return about.classes[i];
  return i < 10 ? "1234567890"[i] : null;
}

function build() {
  document.title = `${about.question} · ${about.name}`;
  at("question").textContent = about.question;
  if (!about.classes) {
    at("number").hidden = false;
    at("reject").hidden = true;
    at("number").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = at("value").value.trim().replace(",", ".");
      if (text === "" || !Number.isFinite(Number(text))) return note("Type a number.");
      answer("label", Number(text));
    });
    return;
  }
  const button = (name, i) => {
    const key = keyOf(i);
    const inside = key === name ? [] : key ? [el("kbd", {}, key)] : [];
    const made = el("button", { "aria-keyshortcuts": key }, el("span", {}, name), ...inside);
    made.dataset.value = name;
    made.addEventListener("click", () => answer("label", name));
    return made;
  };
  at("classes").replaceChildren(...about.classes.map(button));
  at("classes").classList.toggle("short", about.classes.every((name) => name.length <= 3));
  at("find").hidden = about.classes.length <= 10;
  at("find").addEventListener("input", find);
}

function find() {
  const text = at("find").value.toLowerCase();
  for (const button of at("classes").children) {
    button.hidden = !button.dataset.value.toLowerCase().includes(text);
  }
}

function typed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !about) return;
  const key = event.key.toLowerCase();
  if (event.target === at("find")) {
    const first = at("classes").querySelector("button:not([hidden])");
    if (key === "enter" && first && at("find").value) first.click();
    if (key !== "enter" && key !== "escape") return;
    at("find").value = "";
    find();
    at("find").blur();
    return;
  }
  if (key === "/" && !at("find").hidden) return event.preventDefault(), at("find").focus();
  const kinds = { r: "reject", t: "abstain", l: "skip" };
  if (key === "u" || key === "z") {
    event.preventDefault();
    return undo();
  }
  if (kinds[key]) {
    event.preventDefault();
    return press(document.querySelector(`[data-kind=${kinds[key]}]`));
  }
  const i = about.classes?.findIndex((_, i) => keyOf(i) === key) ?? -1;
  if (i >= 0) press(at("classes").children[i]);
}

function press(button) {
  if (button.disabled || button.hidden) return;
  button.click();
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 140);
}

for (const button of document.querySelectorAll("[data-kind]")) {
  button.addEventListener("click", () => answer(button.dataset.kind));
}
at("undo").addEventListener("click", undo);
addEventListener("keydown", typed);
addEventListener("online", () => (refill(), send()));
addEventListener("beforeunload", (event) => outbox.length && event.preventDefault());

async function start() {
  for (let wait = 300; ; wait = Math.min(2 * wait, 5000)) {
    try {
      about = await get("about");
      online = true;
      break;
    } catch (error) {
      if (error.status === 401) return lose(error);
      if (error.status) return note(error.message);
      online = false;
      saved();
      await pause(wait);
    }
  }
  build();
  if (about.state) hear(about.state);
  show();
  send();
  refill();
  follow(hear);
  setInterval(() => (saved(), refill()), 3000); // whatever was missed
}
saved();
start();
