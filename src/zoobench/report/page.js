"use strict";
// The page's own behaviour. Text reaches the document as text only, never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const percent = (metric) => DATA.fractions.includes(metric);
const show = (metric, v) => (percent(metric) ? (100 * v).toFixed(1) : DATA.targets.includes(metric) ? String(+v.toPrecision(4)) : v.toFixed(3));
// b.sign is -1 for an error metric: its scores are negated, so that larger is better throughout.
// A ranked row brings its text, so that the page never rounds a number in two ways.
const range = (b, r) => r.text ?? `${show(b.metric, b.sign * r.value)} [${[r.low, r.high].map((v) => b.sign * v).sort((x, y) => x - y).map((v) => show(b.metric, v)).join(", ")}]`;
const si = (v) => {
  for (const [size, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (v >= 0.9995 * size) return String(+(v / size).toPrecision(3)) + letter;
  return String(+v.toPrecision(3));
};
// What a limit is of: a cost, or a number of trust, of which some are limited from below.
const held = (row, axis) => row.costs[axis] ?? row.trust[axis];
const atLeast = (axis) => DATA.least.includes(axis);
const costOf = (row, axis) => costText(axis, row.costs[axis]) + (row.noisy.includes(axis) ? "~" : "");
const costText = (axis, v) =>
  DATA.trusted.includes(axis) ? show(axis, v) : axis.endsWith("bytes") ? `${+(v / 1e6).toPrecision(3)} MB` : axis.startsWith("latency") ? `${+v.toPrecision(3)} ms`
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
    const values = [...new Set(b.rows.map((r) => held(r, axis)).filter((v) => v !== undefined))].sort((x, y) => (atLeast(axis) ? y - x : x - y));
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
    const value = held(row, axis);
    if (value === undefined) return `${DATA.titles[axis]} not known`;
    if (atLeast(axis) ? value < limit : value > limit) return `${DATA.titles[axis]} ${costText(axis, value)}${row.noisy.includes(axis) ? "~" : ""} ${atLeast(axis) ? "below" : "above"} ${costText(axis, limit)}`;
  }
  const wanted = $("license").value;
  if (wanted === "permissive" && !row.permissive) return `licence ${row.license}`;
  if (wanted && wanted !== "permissive" && row.license !== wanted) return `licence ${row.license}`;
  return "";
}

function add(parent, tag, text, kind) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (kind) element.className = kind;
  parent.append(element);
  return element;
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
  filterRows(); drawRows(b); drawRanks(b); drawShots(); drawCurves(); drawLines(); drawCompression(); redecide();
}

for (const scroll of document.querySelectorAll("div.scroll")) tableTools(scroll);
for (const button of document.querySelectorAll("thead button")) button.addEventListener("click", () => sortBy(button.closest("th")));
if (DATA.boards.length) {
  $("board").addEventListener("change", () => { setSliders(); setForest(); redraw(); });
  for (const input of document.querySelectorAll(".limit input, .limit select")) input.addEventListener("input", limited);
  $("axis").addEventListener("change", redecide);
  $("where").addEventListener("change", () => drawForest(board()));
  $("filter").addEventListener("input", refilter);
  $("only-tied").addEventListener("change", refilter);
  addEventListener("resize", redrawLater);
  setSliders(); setForest(); redraw();
} else {
  addEventListener("resize", delayed(drawLines));
  drawLines();
}
