"use strict";
// The page's own behaviour. Text reaches the document as text only, never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const percent = (metric) => DATA.fractions.includes(metric);
const show = (metric, v) => (percent(metric) ? (100 * v).toFixed(1) : DATA.targets.includes(metric) ? String(+v.toPrecision(4)) : v.toFixed(3));
// b.sign is -1 for an error metric: its scores are negated, so that larger is better throughout.
const range = (b, r) => `${show(b.metric, b.sign * r.value)} [${[r.low, r.high].map((v) => b.sign * v).sort((x, y) => x - y).map((v) => show(b.metric, v)).join(", ")}]`;
const si = (v) => {
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (v >= 0.9995 * size) return String(+(v / size).toPrecision(3)) + letter;
  return String(+v.toPrecision(3));
};
const costOf = (row, axis) => costText(axis, row.costs[axis]) + (row.noisy.includes(axis) ? "~" : "");
const costText = (axis, v) =>
  axis.endsWith("bytes") ? `${+(v / 1e6).toPrecision(3)} MB` : axis.startsWith("latency") ? `${+v.toPrecision(3)} ms`
  : axis.endsWith("seconds") ? `${+v.toPrecision(3)} s` : si(v);
const board = () => DATA.boards[+$("board").value];
const limits = () => [...document.querySelectorAll(".limit[data-axis]")].filter((d) => !d.hidden)
  .map((d) => ({ axis: d.dataset.axis, input: d.querySelector("input"), out: d.querySelector("output") }));
let steps = {}, dropped = new Set();

// Sliders step through the values that the models really have; the last step is "no limit".
function setSliders() {
  const b = board();
  steps = {};
  for (const d of document.querySelectorAll(".limit[data-axis]")) {
    const axis = d.dataset.axis;
    const values = [...new Set(b.rows.map((r) => r.costs[axis]).filter((v) => v !== undefined))].sort((x, y) => x - y);
    d.hidden = values.length === 0 || (DATA.timed.includes(axis) && !b.one_device);
    if (d.hidden) continue;
    steps[axis] = values;
    const input = d.querySelector("input");
    input.max = values.length;
    input.value = values.length;
  }
}

function reason(b, row) {
  for (const { axis, input } of limits()) {
    const values = steps[axis];
    if (!values || +input.value >= values.length) continue;
    const limit = values[+input.value];
    if (row.costs[axis] === undefined) return `${DATA.titles[axis]} not known`;
    if (row.costs[axis] > limit) return `${DATA.titles[axis]} ${costOf(row, axis)} above ${costText(axis, limit)}`;
  }
  const wanted = $("license").value;
  if (wanted === "permissive" && !row.permissive) return `licence ${row.license}`;
  if (wanted && wanted !== "permissive" && row.license !== wanted) return `licence ${row.license}`;
  return "";
}

// As ranking/recommend.py: j is tied when no allowed model is significantly better,
// Holm-corrected over j's own comparisons (uncorrected p in b.raw).
function tiedAmong(b, allowed) {
  const most = allowed.length - 1;
  return allowed.filter((j) => {
    let least = 1;
    for (const i of allowed) { // best first, so that a clear case ends at once
      if (b.rows[i].value <= b.rows[j].value) break;
      least = Math.min(least, pair(b, j, i));
      if (least * most <= 0.05) return false; // Holm's strictest step rejects it
    }
    return least > 0.05 || least > holmLimit(allowed.filter((i) => i !== j).map((i) => pair(b, j, i)));
  });
}
// The largest p that Holm rejects; -1 where it rejects none.
function holmLimit(all) {
  let limit = -1;
  for (const [k, p] of Float64Array.from(all).sort().entries()) {
    if (p * (all.length - k) > 0.05) break;
    limit = p;
  }
  return limit;
}
function pair(b, i, j) {
  if (b.raw.length) return b.raw[i][j];
  const [x, y] = [b.rows[i], b.rows[j]];
  const error = Math.hypot(x.high - x.low, y.high - y.low) / 3.92;
  const z = Math.abs(x.value - y.value) / (error || 1e-12);
  // Abramowitz and Stegun 26.2.17: absolute error below 7.5e-8.
  const t = 1 / (1 + 0.2316419 * z);
  const poly = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return Math.min(1, 2 * Math.exp(-z * z / 2) / Math.sqrt(2 * Math.PI) * poly);
}

function decide() {
  const b = board();
  const why = b.rows.map((r) => reason(b, r));
  const allowed = b.rows.map((_, i) => i).filter((i) => !why[i]);
  if (!allowed.length) return { b, why, allowed, tied: [], pick: null, cheap: null };
  const tied = tiedAmong(b, allowed);
  const axis = usualCost(b, allowed), most = tolerance(b, allowed);
  if (!b.posterior.length) return { b, why, allowed, tied, axis, most, pick: allowed[0], cheap: null };
  const of = new Map(allowed.map((i) => [i, { loss: 0, first: 0, within: 0 }]));
  for (const draw of b.posterior) {
    const top = Math.max(...allowed.map((i) => draw[i]));
    const sharing = allowed.filter((i) => draw[i] === top).length;
    for (const [i, x] of of) {
      x.loss += (top - draw[i]) / 1e5;
      if (draw[i] === top) x.first += 1 / sharing;
      if (top - draw[i] <= 1e5 * most) x.within += 1;
    }
  }
  for (const x of of.values()) for (const name of Object.keys(x)) x[name] /= b.posterior.length;
  const pick = allowed.reduce((x, y) => (of.get(y).loss < of.get(x).loss ? y : x));
  const cost = (i) => b.rows[i].costs[axis];
  const enough = allowed.filter((i) => of.get(i).within >= DATA.sure && cost(i) !== undefined);
  const cheaper = (x, y) => (cost(y) < cost(x) || (cost(y) === cost(x) && of.get(y).loss < of.get(x).loss) ? y : x);
  return { b, why, allowed, tied, axis, most, of, pick, cheap: enough.length ? enough.reduce(cheaper) : null };
}
// As ranking/recommend.py: the latency where all have it on one device, else the MACs.
function usualCost(b, allowed) {
  for (const axis of ["latency_ms_p50", "macs"])
    if ((!DATA.timed.includes(axis) || b.one_device) && allowed.every((i) => b.rows[i].costs[axis] !== undefined)) return axis;
  return "params";
}
// In the metric's unit: hundredths of it, or of the best value.
function tolerance(b, allowed) {
  const points = +$("tolerance").value;
  return (points / 100) * (DATA.targets.includes(b.metric) ? Math.abs(b.rows[allowed[0]].value) : 1);
}

function line(parent, text, kind) {
  const p = document.createElement("p");
  p.textContent = text;
  if (kind) p.className = kind;
  parent.append(p);
}

function drawPick(d) {
  const card = $("pick");
  card.replaceChildren();
  for (const { axis, input, out } of limits())
    out.textContent = +input.value >= steps[axis].length ? "no limit" : costText(axis, steps[axis][+input.value]);
  $("out-tolerance").textContent = `${+$("tolerance").value}${DATA.targets.includes(d.b.metric) ? "% of the best" : " points"}`;
  if (d.pick === null) return line(card, "No model keeps to these limits.", "big");
  const points = (v) => (percent(d.b.metric) ? `${(100 * v).toFixed(1)} points` : show(d.b.metric, v));
  const told = (i) => {
    const row = d.b.rows[i], size = row.costs.params === undefined ? "" : `, ${si(row.costs.params)} parameters`;
    line(card, `${d.b.metric} ${range(d.b, row)}${size}, licence ${row.license}.`);
    if (d.of) line(card, `P(best) = ${d.of.get(i).first.toFixed(2)}, expected loss ${points(d.of.get(i).loss)}.`);
  };
  line(card, `Most accurate: ${d.b.rows[d.pick].label}`, "big");
  told(d.pick);
  const title = DATA.titles[d.axis], far = `within ${points(d.most)} of the true best`;
  const sure = d.cheap === null ? "" : `${far} with probability ${d.of.get(d.cheap).within.toFixed(2)}`;
  if (!d.of) line(card, "Cheapest good enough: the luck of the runs is not known.");
  else if (d.cheap === null) line(card, `Cheapest good enough: none whose ${title} is known is ${far} with probability ${DATA.sure}.`);
  else if (d.cheap === d.pick) line(card, `It is also the cheapest good enough, by ${title}: ${sure}.`);
  else {
    line(card, `Cheapest good enough: ${d.b.rows[d.cheap].label}`, "big");
    told(d.cheap);
    line(card, `It is ${sure}; ${title} ${costOf(d.b.rows[d.cheap], d.axis)} for ${costOf(d.b.rows[d.pick], d.axis)}.`);
  }
  const others = d.tied.filter((i) => i !== d.pick).map((i) => d.b.rows[i].label);
  line(card, others.length
    ? `The most accurate cannot be told from: ${others.slice(0, 12).join(", ")}${others.length > 12 ? ", …" : ""}.`
    : d.allowed.length > 1 ? "The data suffice to tell the best of those allowed." : "It is the only one allowed.");
  const out = d.b.rows.map((r, i) => [r.label, d.why[i]]).filter(([, w]) => w);
  if (out.length) line(card, `Ruled out: ${out.slice(0, 12).map(([l, w]) => `${l} (${w})`).join("; ")}${out.length > 12 ? `; and ${out.length - 12} more` : ""}.`, "dim");
}

function put(id, draw) {
  const place = $(id);
  if (!place) return;
  place.replaceChildren();
  cut = 0;
  const plot = draw(Math.max(place.clientWidth || 640, 300));
  if (plot) place.append(plot);
  else line(place, "Nothing to show.", "dim");
  if (plot && cut > MOST) line(place, `The first ${MOST} of ${cut}: filter the leaderboard to see others.`, "dim");
}
// Long charts show the first rows of those that the leaderboard's filter lets through.
const MOST = 60;
let cut = 0;
function first(items, label) {
  const kept = items.filter((x) => !dropped.has(label(x)));
  cut = kept.length;
  return kept.slice(0, MOST);
}
const scale = (b) => b.sign * (percent(b.metric) ? 100 : 1);
const unit = (metric) => metric + (percent(metric) ? " (%)" : "");

// Of many names those that cover no other, the first ones first; `at` is the place in pixels
// on the axes of all points.
// A name longer than the room on its side (10 pixels more on the left, 100 on the right) is cut.
function apart(points, all, width, height) {
  const span = (values) => { const low = Math.min(...values); return [low, Math.max(...values) - low || 1]; };
  const [x0, dx] = span(all.map((p) => Math.log(p.x))), [y0, dy] = span(all.map((p) => p.y));
  const kept = [];
  for (const p of points) {
    const at = (width * (Math.log(p.x) - x0)) / dx, y = (height * (p.y - y0)) / dy;
    const room = Math.floor((at < width / 2 ? width - at + 100 : at + 10) / 6);
    const label = p.label.length > room ? p.label.slice(0, room - 1) + "…" : p.label, wide = 6 * label.length + 12;
    const box = { ...p, label, at, y0: y, from: at < width / 2 ? at : at - wide, to: at < width / 2 ? at + wide : at };
    if (kept.every((q) => Math.abs(q.y0 - y) > 13 || q.to < box.from || box.to < q.from)) kept.push(box);
  }
  return kept;
}

function drawPareto(d) {
  put("plot-pareto", (width) => {
    const axis = $("axis").value, k = scale(d.b);
    if (DATA.timed.includes(axis) && !d.b.one_device) return null;
    const points = d.b.rows.map((r, i) => ({ ...r, i, x: r.costs[axis], y: k * r.value, lo: k * r.low, hi: k * r.high,
      state: d.why[i] ? "ruled out" : d.tied.includes(i) ? "tied with the best" : "behind the best" })).filter((p) => p.x > 0);
    if (!points.length) return null;
    const front = [];
    for (const p of points.filter((q) => !d.why[q.i]).sort((a, b) => a.x - b.x || b.value - a.value))
      if (!front.length || p.value > front.at(-1).value) front.push(p);
    const crowd = points.length > 100; // small marks then, and on a phone no name but the pick's
    const inner = width - 188; // without the margins and insets below
    const wanted = points.filter((p) => points.length <= 15 || p.i === d.pick || p.i === d.cheap || (front.includes(p) && (width > 500 || !crowd)));
    const named = points.length <= 15 ? wanted : apart(wanted.sort((p, q) => (q.i === d.pick) - (p.i === d.pick)), points, inner, 370);
    const side = (right) => named.filter((p) => right === (p.at === undefined || p.at < inner / 2));
    return Plot.plot({ width, height: 420, marginLeft: 50, marginRight: 90, marginTop: 30, ariaLabel: `${d.b.metric} against ${DATA.titles[axis]}`,
      x: { type: "log", inset: 24, label: `${DATA.titles[axis]} →`, tickFormat: (v) => costText(axis, v), ticks: Math.max(2, width / 130) },
      y: { label: `↑ ${unit(d.b.metric)}`, grid: true, nice: true }, r: { type: "identity" },
      color: { domain: ["tied with the best", "behind the best", "ruled out"], range: ["var(--tied)", "var(--rest)", "var(--out)"], legend: true },
      marks: [
        Plot.line(front, { x: "x", y: "y", stroke: "var(--front)", curve: "step-after" }),
        Plot.ruleX(points, { x: "x", y1: "lo", y2: "hi", stroke: "state", strokeOpacity: crowd ? 0.3 : 0.7 }),
        Plot.dot(points, { x: "x", y: "y", fill: "state", r: (p) => (p.i === d.pick || p.i === d.cheap ? 6 : crowd ? 1.5 : 3) }),
        [[8, "start", true], [-8, "end", false]].map(([dx, textAnchor, right]) =>
          Plot.text(side(right), { x: "x", y: "y", text: "label", dx, dy: -6, textAnchor, lineAnchor: "bottom", fill: "currentColor" })),
        Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: (p) => `${p.label}\n${range(d.b, p)}\n${costOf(p, axis)}\n${p.state}` })),
      ] });
  });
}

function drawHeat(b) {
  put("plot-heat", (width) => {
    const sets = b.heat.datasets, models = first(b.heat.models, (m) => m);
    if (!models.length) return null;
    const at = new Map(b.heat.models.map((m, i) => [m, i]));
    const cells = models.flatMap((label) => sets.map((dataset, j) =>
      ({ label, dataset, value: b.heat.value[at.get(label)][j], text: b.heat.text[at.get(label)][j] })));
    const left = Math.min(260, 20 + 7 * Math.max(...models.map((m) => m.length)));
    const values = cells.map((h) => h.value).filter((v) => v !== null);
    const middle = (Math.min(...values) + Math.max(...values)) / 2;
    const full = Math.max(width, left + 90 * sets.length);
    return Plot.plot({ width: full, height: 70 + 24 * models.length, marginLeft: left, marginTop: 40, marginBottom: 10, ariaLabel: `${b.metric} of each model on each dataset`,
      x: { domain: sets, axis: "top", padding: 0, label: null, tickFormat: (s) => s.split("/").pop().slice(0, 24) }, y: { domain: models, label: null, padding: 0 },
      color: { scheme: "blues", domain: [Math.min(...values) - 0.25 * (Math.max(...values) - Math.min(...values) || 1), Math.max(...values)] },
      marks: [
        Plot.cell(cells.filter((h) => h.value !== null), { x: "dataset", y: "label", fill: "value", inset: 0.5 }),
        Plot.text(cells, { x: "dataset", y: "label", text: "text", fill: (h) => (h.value === null ? "currentColor" : h.value > middle ? "#fff" : "#000") }),
        Plot.tip(cells, Plot.pointer({ x: "dataset", y: "label", title: (h) => `${h.label}\n${h.dataset}\n${h.text}` })),
      ] });
  });
}

function drawForest(b) {
  put("plot-forest", (width) => {
    const k = scale(b), at = $("where").value;
    const some = at === "" ? b.rows : b.forest[+at].rows.map(([label, value, low, high, kind]) =>
      ({ label, value, low, high, tied: kind === "tied", control: kind === "control" }));
    const rows = first(some, (r) => r.label).map((r) => ({ ...r, y: r.label, x: k * r.value, lo: k * r.low, hi: k * r.high }));
    if (!rows.length) return null;
    const left = Math.min(260, 20 + 7 * Math.max(...rows.map((r) => r.label.length)));
    return Plot.plot({ width, height: 60 + 22 * rows.length, marginLeft: left, marginTop: 10, ariaLabel: "95% intervals",
      x: { label: `${unit(b.metric)} →`, grid: true, nice: true }, y: { domain: rows.map((r) => r.y), label: null },
      marks: [
        Plot.ruleY(rows, { y: "y", x1: "lo", x2: "hi", strokeWidth: 2, stroke: (r) => (r.control ? "var(--rest)" : r.tied ? "var(--tied)" : "currentColor") }),
        Plot.dot(rows, { y: "y", x: "x", r: 4, fill: (r) => (r.control ? "var(--rest)" : r.tied ? "var(--tied)" : "currentColor") }),
        Plot.tip(rows, Plot.pointerY({ y: "y", x: "x", title: (r) => `${r.label}\n${range(b, r)}` })),
      ] });
  });
}

// Mean ranks over the datasets; a bar joins models that cannot be told apart (Demsar 2006).
function drawRanks(b) {
  if (!$("ranks")) return;
  $("ranks").hidden = !b.ranks;
  if (!b.ranks) return;
  $("ranks-note").textContent = b.ranks.note;
  put("plot-ranks", (width) => {
    const { rows, bars } = b.ranks, names = rows.map((r) => r.label);
    const left = Math.min(260, 20 + 7 * Math.max(...names.map((m) => m.length)));
    const lanes = 1 + Math.max(-1, ...bars.map((x) => x.lane)), most = rows.length;
    const step = (most - 1) / 40;
    return Plot.plot({ width, height: 60 + 22 * most, marginLeft: left, marginTop: 10, ariaLabel: "Mean rank of each model, and the groups that cannot be told apart",
      x: { label: "mean rank, 1 is best →", grid: true, domain: [1, most + step * (1 + lanes)], ticks: Math.min(most, 10) }, y: { domain: names, label: null },
      marks: [
        Plot.ruleY(rows, { y: "label", x1: 1, x2: "rank", strokeOpacity: 0.35 }),
        Plot.dot(rows, { y: "label", x: "rank", r: 5, fill: "currentColor", tip: true }),
        Plot.ruleX(bars, { x: (bar) => most + step * (1 + bar.lane), y1: (bar) => bar.labels[0], y2: (bar) => bar.labels.at(-1), stroke: "var(--tied)", strokeWidth: 4 }),
      ] });
  });
}

function drawShots() {
  put("plot-shots", (width) => DATA.shots.length && Plot.plot({ width, height: 360, marginLeft: 50, marginRight: 20, ariaLabel: "Accuracy against examples a class",
    x: { type: "log", base: 2, label: "examples a class →", tickFormat: "d", ticks: [...new Set(DATA.shots.map((s) => s.shots))] }, y: { label: "↑ (%)", grid: true }, color: { legend: true }, fx: { label: null },
    marks: [
      Plot.line(DATA.shots, { x: "shots", y: (s) => 100 * s.value, stroke: "label", fx: "facet" }),
      Plot.dot(DATA.shots, { x: "shots", y: (s) => 100 * s.value, fill: "label", fx: "facet", tip: true }),
    ] }));
}

function drawCost(b) {
  put("plot-cost", (width) => {
    const bars = b.rows.flatMap((r) => ["extract_seconds", "fit_seconds", "train_seconds"].filter((s) => r.costs[s] > 0)
      .map((s) => ({ label: r.label, stage: DATA.titles[s], value: r.costs[s] })));
    if (!bars.length) return null;
    const models = first([...new Set(bars.map((x) => x.label))], (m) => m);
    const left = Math.min(260, 20 + 7 * Math.max(...models.map((m) => m.length)));
    return Plot.plot({ width, height: 60 + 22 * models.length, marginLeft: left, ariaLabel: "Seconds of each stage", x: { label: "seconds →", grid: true }, y: { domain: models, label: null },
      color: { legend: true, domain: ["extraction", "fit", "training"], range: ["var(--tied)", "var(--front)", "var(--good)"] },
      marks: [Plot.barX(bars.filter((x) => models.includes(x.label)), { y: "label", x: "value", fill: "stage", tip: true })] });
  });
}

function setForest() {
  const where = $("where");
  where.replaceChildren(new Option("all datasets: mean", ""), ...board().forest.map((f, i) => new Option(f.dataset, i)));
}

function filterRows() {
  const wanted = $("filter").value.trim().toLowerCase(), tied = $("only-tied").checked;
  const rows = [...document.querySelectorAll(`.board[data-board="${$("board").value}"] tbody tr`)];
  dropped = new Set();
  for (const tr of rows) {
    tr.hidden = !tr.textContent.toLowerCase().includes(wanted) || (tied && !tr.classList.contains("tied"));
    if (tr.hidden) dropped.add(tr.cells[1].textContent);
  }
  $("count").textContent = `${rows.filter((tr) => !tr.hidden).length} of ${rows.length} models`;
}

// "88.1 [86.0, 90.2]", "1.2 points" and "+0.31" sort by their number, all else as text.
const sortKey = (text) => (/^[+-]?[0-9.]+( |$)/.test(text) ? String(parseFloat(text)) : text);

function sortBy(th) {
  const table = th.closest("table"), body = table.tBodies[0], at = th.cellIndex;
  const up = th.getAttribute("aria-sort") ? th.getAttribute("aria-sort") !== "ascending" : !th.classList.contains("high");
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (tr) => tr.cells[at].dataset.v ?? sortKey(tr.cells[at].textContent);
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return up ? order : -order;
  });
  body.append(...rows);
}

function drawRows(b) { drawHeat(b); drawForest(b); drawCost(b); }
const delayed = (draw) => { let waiting; return () => { clearTimeout(waiting); waiting = setTimeout(draw, 150); }; };
const drawLater = delayed(() => drawRows(board())), redrawLater = delayed(redraw), redecideLater = delayed(redecide);
function refilter() { filterRows(); drawLater(); }
// A thousand models take a moment: the slider must not stick.
function limited() { if (board().rows.length > 300) redecideLater(); else redecide(); }
function redecide() { const d = decide(); drawPick(d); drawPareto(d); }
function redraw() {
  const b = board();
  for (const part of document.querySelectorAll("[data-board]")) part.hidden = part.dataset.board !== $("board").value;
  filterRows(); drawRows(b); drawRanks(b); drawShots(); redecide();
}

for (const button of document.querySelectorAll("thead button")) button.addEventListener("click", () => sortBy(button.closest("th")));
if (DATA.boards.length) {
  $("board").addEventListener("change", () => { setSliders(); setForest(); redraw(); });
  for (const input of document.querySelectorAll(".limit input, #license")) input.addEventListener("input", limited);
  $("axis").addEventListener("change", redecide);
  $("where").addEventListener("change", () => drawForest(board()));
  $("filter").addEventListener("input", refilter);
  $("only-tied").addEventListener("change", refilter);
  addEventListener("resize", redrawLater);
  setSliders(); setForest(); redraw();
}
