// The progress page: figures of the campaign, drawn here from JSON.

import { bar, base, blob, brief, el, follow, get, image, percent } from "/static/api.js";

const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, ...inside) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

// Lines over the number of labels. A series is {name, kind, points: [x, y, low, high]}.
function chart(title, series, low, high, word) {
  const [W, H, left, right, top, bottom] = [640, 250, 72, 12, 12, 44];
  const xs = series.flatMap((one) => one.points.map((point) => point[0]));
  const most = Math.max(...xs, 1);
  const x = (value) => left + (value / most) * (W - left - right);
  const y = (value) => H - bottom - ((value - low) / (high - low)) * (H - top - bottom);
  const drawn = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  const text = (words, px, py, anchor) => {
    drawn.append(svg("text", { x: px, y: py, "text-anchor": anchor }, words));
  };
  for (let i = 0; i <= 4; i++) {
    const value = low + ((high - low) * i) / 4;
    drawn.append(svg("line", { x1: left, x2: W - right, y1: y(value), y2: y(value), class: "grid" }));
    text(word(value), left - 8, y(value) + 4, "end");
    const label = Math.round((most * i) / 4);
    if (i === 0 || label !== Math.round((most * (i - 1)) / 4)) text(label, x(label), H - 20, "middle");
  }
  text("labels", (left + W - right) / 2, H - 3, "middle");
  for (const { kind, points } of series) {
    const path = (list) => list.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(" ");
    if (points[0].length > 2) {
      const edge = [...points.map((p) => [p[0], p[3]]), ...points.toReversed().map((p) => [p[0], p[2]])];
      if (points.length > 1) drawn.append(svg("polygon", { points: path(edge), class: `band ${kind}` }));
      else {
        const [px, , down, up] = points[0];
        drawn.append(svg("line", { x1: x(px), x2: x(px), y1: y(down), y2: y(up), class: `line ${kind}` }));
      }
    }
    drawn.append(svg("polyline", { points: path(points), class: `line ${kind}` }));
    for (const [px, py] of points) drawn.append(svg("circle", { cx: x(px), cy: y(py), r: 3.5, class: `dot ${kind}` }));
  }
  const legend = series.length < 2 ? [] : [el("p", { class: "legend quiet" }, ...series.map((one) => el("span", { class: one.kind }, one.name)))];
  return el("figure", {}, drawn, ...legend);
}

function table(head, rows) {
  const cells = (row, kind) => el("tr", {}, ...row.map((cell) => el(kind, kind === "th" ? { scope: "col" } : {}, cell ?? "–")));
  return el("div", { class: "wide" }, el("table", {}, el("thead", {}, cells(head, "th")), el("tbody", {}, ...rows.map((row) => cells(row, "td")))));
}

function fill(id, ...parts) {
  const section = at(id);
  section.hidden = parts.length === 0;
  for (const old of section.querySelectorAll(":scope > .made")) old.remove();
  for (const part of parts) {
    part.classList.add("made");
    section.append(part);
  }
}

const within = (share) => (share.share === null ? "–" : `${percent(share.share)} (${share.right} of ${share.total})`);

function draw(figures) {
  const { about, rounds } = figures;
  document.title = `Progress · ${about.name}`;
  at("name").textContent = about.name;
  at("question").textContent = about.question;
  const counts = {
    answers: figures.answers,
    "items settled": `${figures.settled} of ${figures.rows}`,
    round: figures.round + 1,
    "answers an hour": figures.per_hour === null ? "–" : Math.round(figures.per_hour),
    "none of these": figures.kinds.reject,
    "can't tell": figures.kinds.abstain,
  };
  at("counts").replaceChildren(...Object.entries(counts).map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value))));
  const called = rounds.filter((round) => round.called.total > 0);
  const shares = called.map((round) => [round.report.labels, round.called.share, round.called.low, round.called.high]);
  const listed = el("details", {}, el("summary", {}, "As a table"), table(["round", "labels", "called right", "95 % band"], called.map((round) => [round.round + 1, round.report.labels, within(round.called), `${percent(round.called.low)} to ${percent(round.called.high)}`])));
  fill("curve", ...(called.length ? [chart("Share called right over labels", [{ name: "called right", kind: "first", points: shares }], 0, 1, percent), listed] : []));
  confidence(rounds.filter((round) => round.report.nll_after !== undefined && round.report.nll_before !== undefined));
  const top = Math.max(...Object.values(figures.classes), 1);
  fill("classes", ...(Object.keys(figures.classes).length ? [el("ul", { class: "bars" }, ...Object.entries(figures.classes).map(([name, count]) => bar(name, count / top, count)))] : []));
  const people = figures.people.map((one) => [one.annotator, one.kinds.label, one.kinds.reject, one.kinds.abstain, one.seconds === null ? "–" : `${brief(one.seconds)} s`, within(one.agreement)]);
  fill("people", ...(people.length ? [table(["who", "labels", "none of these", "can't tell", "median time", "agrees with others"], people)] : []));
  thumbnails(figures.batch);
}

function confidence(rounds) {
  if (!rounds.length) return fill("nll");
  const line = (name, kind, key) => ({ name, kind, points: rounds.map((round) => [round.report.labels, round.report[key]]) });
  const lines = [line("before", "second", "nll_before"), line("after", "first", "nll_after")];
  const high = Math.max(...lines.flatMap((one) => one.points.map((point) => point[1]))) * 1.1;
  fill("nll", chart("Held-out loss over labels", lines, 0, high, brief));
}

let batch = null;
function thumbnails(items) {
  at("batch").hidden = !items.length;
  const rows = JSON.stringify(items);
  if (rows === batch) return;
  batch = rows;
  const inside = (item) => {
    if (item.image) return image(item.image, `item ${item.id}`);
    const words = item.text ?? (item.fields ?? []).map((pair) => `${pair[0]}: ${typeof pair[1] === "number" ? brief(pair[1]) : pair[1]}`).join(", ");
    return el("p", {}, (words || (item.numbers ?? []).slice(0, 6).map(brief).join(" ")).slice(0, 140));
  };
  at("batch").querySelector("ol").replaceChildren(...items.map((item) => el("li", {}, inside(item), el("span", { class: "quiet" }, item.id))));
}

function status(state) {
  const round = `round ${state.round + 1}: ${Math.min(state.settled, state.size)} of ${state.size} settled`;
  at("state").textContent = state.training ? "the net is learning" : state.size ? round : "complete: nothing is left to ask";
  at("note").textContent = state.error ? `The last round could not be computed: ${state.error} The next answer tries again.` : "";
}

let busy = false;
let again = false;
async function refresh() {
  if (busy) return void (again = true);
  busy = true;
  try {
    const figures = await get("progress");
    draw(figures);
    if (figures.about.state) status(figures.about.state);
  } catch (error) {
    at("note").textContent = error.status ? error.message : "Waiting for the server.";
  }
  setTimeout(() => {
    busy = false;
    if (again) refresh();
    again = false;
  }, 1000);
}

for (const button of document.querySelectorAll("[data-export]")) {
  button.addEventListener("click", async () => {
    const kind = button.dataset.export;
    try {
      const url = URL.createObjectURL(await blob(`export.${kind}`));
      el("a", { href: url, download: `${base.split("/").at(-2)}.${kind}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    } catch (error) {
      at("note").textContent = error.message;
    }
  });
}
refresh();
follow((state) => (status(state), refresh()));
