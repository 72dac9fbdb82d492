"use strict";
// The charts. Each gives its picture, and the header and rows behind it, which "Copy CSV" takes.

function put(id, draw) {
  const place = $(id);
  if (!place) return;
  place.replaceChildren();
  cut = 0;
  const drawn = draw(Math.max(place.clientWidth || 640, 280));
  if (!drawn) return add(place, "p", "Nothing to show.", "dim");
  place.append(drawn.plot);
  if (cut > MOST) add(place, "p", `The first ${MOST} of ${cut}: filter the leaderboard to see others.`, "dim");
  figureTools(place, drawn);
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
// Both ends of a long name: either may tell it apart.
const short = (name, most) => (name.length <= most ? name : `${name.slice(0, most - 1 - Math.floor(most / 3))}…${name.slice(name.length - Math.floor(most / 3))}`);
// Room for names on the left, and the names cut to it: 10 px of type are about 6 px wide.
function names(labels, width) {
  const left = Math.min(20 + 6.2 * Math.max(...labels.map((m) => m.length)), 290, 0.42 * width);
  return { marginLeft: left, tickFormat: (name) => short(name, Math.floor((left - 14) / 6)) };
}
// Numbers of a log axis of `width` pixels that have room: all, else 1, 2 and 5 of each decade, else
// the decades; else some of them; on an axis that holds none of these even steps.
function logTicks(values, width) {
  const [low, high] = d3.extent(values), decades = d3.range(Math.floor(Math.log10(low)), Math.ceil(Math.log10(high)) + 1);
  const inside = (digits) => decades.flatMap((k) => digits.map((n) => n * 10 ** k)).filter((v) => v >= 0.999 * low && v <= 1.001 * high);
  const place = (v) => (width * Math.log10(v / low)) / Math.log10(high / low);
  const spaced = (ticks) => ticks.reduce((kept, v) => (kept.length && place(v) - place(kept.at(-1)) < 40 ? kept : [...kept, v]), []);
  const [every, some, few] = [d3.range(1, 10), [1, 2, 5], [1]].map(inside);
  if (every.length < 2) return low < high ? d3.ticks(low, high, 4) : [low];
  const fitting = [every, some, few].find((ticks) => ticks.length >= 2 && spaced(ticks).length === ticks.length);
  return fitting || spaced(some.length >= 2 ? some : every);
}

// Names that cover no other name, no mark and no interval, in the order of `points`, which go between
// `left` and `width`; `at` places a point in pixels. A name longer than the room on its side is cut;
// one that has no place is left out, but for the picks'.
function apart(points, all, at, left, width) {
  const overlaps = (p, q) => p.x0 < q.x1 && q.x0 < p.x1 && p.y0 < q.y1 && q.y0 < p.y1;
  const taken = all.map((p) => { const [x, y] = at(p), [, low] = at({ ...p, y: p.lo }), [, high] = at({ ...p, y: p.hi });
    return { x0: x - 4, x1: x + 4, y0: Math.min(low, high, y - 4), y1: Math.max(low, high, y + 4) }; });
  const kept = [];
  for (const p of points) {
    const [x, y] = at(p), tried = [];
    for (const [right, dy] of [[true, -8], [false, -8], [true, 10], [false, 10], [true, -22], [false, -22], [true, 24], [false, 24]]) {
      const room = Math.floor((right ? width - x - 8 : x - 8 - left) / 6.2);
      if (room < Math.min(p.label.length, p.must ? 8 : 14)) continue; // what is left of a name must tell it
      const label = short(p.label, room), wide = 6.2 * label.length;
      const box = right ? { x0: x + 8, x1: x + 8 + wide } : { x0: x - 8 - wide, x1: x - 8 };
      Object.assign(box, { y0: y + dy - 6, y1: y + dy + 6 });
      if (box.x0 >= left && box.x1 <= width) tried.push({ ...p, label, right, dy, box, free: !taken.some((q) => overlaps(box, q)) });
    }
    const found = tried.find((place) => place.free) || (p.must && tried[0]);
    if (!found) continue;
    taken.push(found.box);
    kept.push(found);
  }
  return kept;
}

function drawPareto(d) {
  put("plot-pareto", (width) => {
    const { b } = d, axis = $("axis").value, k = scale(b);
    if (DATA.timed.includes(axis) && !b.one_device) return null;
    const points = b.rows.map((r, i) => ({ ...r, i, x: Math.log10(r.costs[axis]), y: k * r.value, lo: k * r.low, hi: k * r.high,
      state: d.why[i] ? "ruled out" : d.tied.includes(i) ? "the best, or tied with it" : "behind the best" })).filter((p) => Number.isFinite(p.x));
    if (!points.length) return null;
    const front = [];
    for (const p of points.filter((q) => !d.why[q.i]).sort((x, y) => x.x - y.x || y.value - x.value))
      if (!front.length || p.value > front.at(-1).value) front.push(p);
    const crowd = points.length > 100; // small marks then, and on a phone no name but the picks'
    const picked = (p) => p.i === d.pick || p.i === d.cheap;
    const wanted = points.filter((p) => points.length <= 15 || picked(p) || (front.includes(p) && (width > 500 || !crowd)));
    wanted.sort((p, q) => picked(q) - picked(p) || front.includes(q) - front.includes(p));
    // The axis is linear in the logarithm: on a log scale Plot leaves numbers out by a rule of its own.
    const ticks = logTicks(points.map((p) => p.costs[axis]), width - 142).map(Math.log10);
    const options = { width, height: 420, marginLeft: 50, marginRight: 20, marginTop: 30, ariaLabel: `${b.metric} against ${DATA.titles[axis]}`,
      x: { inset: 36, label: `${DATA.titles[axis]}, log scale →`, tickFormat: (v) => costText(axis, 10 ** v), ticks },
      y: { label: `↑ ${unit(b.metric)}, 95% interval`, grid: true, nice: true }, r: { type: "identity" },
      color: { domain: ["the best, or tied with it", "behind the best", "ruled out"], range: ["var(--tied)", "var(--rest)", "var(--out)"], legend: true },
      marks: [
        Plot.line(front, { x: "x", y: "y", stroke: "var(--front)", curve: "step-after" }),
        Plot.ruleX(points, { x: "x", y1: "lo", y2: "hi", stroke: "state", strokeOpacity: crowd ? 0.3 : 0.7 }),
        Plot.dot(points, { x: "x", y: "y", fill: "state", r: (p) => (picked(p) ? 6 : crowd ? 1.5 : 3) }),
      ] };
    const empty = Plot.plot(options), x = empty.scale("x"), y = empty.scale("y");
    const at = (p) => [x.apply(p.x), y.apply(p.y)];
    const shown = apart(wanted.map((p) => ({ ...p, must: picked(p) })), crowd ? points.map((p) => ({ ...p, lo: p.y, hi: p.y })) : points, at, 50, width);
    options.marks.push(
      ...shown.map((p) => Plot.text([p], { x: "x", y: "y", text: "label", dx: p.right ? 8 : -8, dy: p.dy, textAnchor: p.right ? "start" : "end", fill: "currentColor" })),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: (p) => `${p.label}\n${range(b, p)}\n${costOf(p, axis)}\n${p.state}` })));
    return { plot: Plot.plot(options), header: ["model", DATA.titles[axis] + bytesUnit(axis), unit(b.metric), "low", "high", "state"],
      rows: points.map((p) => [p.label, p.costs[axis], ...triple(p.y, p.lo, p.hi), p.state]) };
  });
}
const bytesUnit = (axis) => (axis.endsWith("bytes") ? " (bytes)" : "");
// Value, low and high as people write them: of an error metric low and high change places.
const triple = (value, low, high) => [value, Math.min(low, high), Math.max(low, high)].map((v) => +v.toPrecision(6));

function drawHeat(b) {
  put("plot-heat", (width) => {
    const sets = b.heat.datasets, models = first(b.heat.models, (m) => m);
    if (!models.length || !sets.length) return null;
    const at = new Map(b.heat.models.map((m, i) => [m, i]));
    const cells = models.flatMap((label) => sets.map((dataset, j) =>
      ({ label, dataset, value: b.heat.value[at.get(label)][j], text: b.heat.text[at.get(label)][j] })));
    const { marginLeft, tickFormat } = names(models, width);
    // Scores alone span the scale: a cell that failed has none.
    const scored = cells.filter((h) => h.value !== null), [low, high] = d3.extent(scored, (h) => h.value);
    const full = Math.max(width, marginLeft + 74 * sets.length), room = (full - marginLeft - 20) / sets.length;
    const plot = Plot.plot({ width: full, height: 70 + 24 * models.length, marginLeft, marginTop: 40, marginBottom: 10, ariaLabel: `${b.metric} of each model on each dataset`,
      x: { domain: sets, axis: "top", padding: 0, label: null, tickFormat: (name) => short(name, Math.max(6, Math.floor(room / 6.2))) }, y: { domain: models, label: null, padding: 0, tickFormat },
      color: { scheme: "blues", domain: [low - 0.25 * (high - low || 1), high] },
      marks: [
        Plot.cell(cells.filter((h) => h.value === null), { x: "dataset", y: "label", fill: "none", stroke: "var(--rest)", strokeDasharray: "3 3", inset: 2 }),
        Plot.cell(scored, { x: "dataset", y: "label", fill: "value", inset: 0.5 }),
        Plot.text(cells, { x: "dataset", y: "label", text: "text", fill: (h) => (h.value === null ? "currentColor" : h.value >= (low + high) / 2 ? "#fff" : "#000") }),
        Plot.tip(cells, Plot.pointer({ x: "dataset", y: "label", title: (h) => `${h.label}\n${h.dataset}\n${h.text}` })),
      ] });
    return { plot, header: ["model", "dataset", unit(b.metric), "status"],
      rows: cells.map((h) => [h.label, h.dataset, h.value === null ? "" : +(scale(b) * h.value).toPrecision(6), h.value === null ? h.text : "ok"]) };
  });
}

function drawForest(b) {
  put("plot-forest", (width) => {
    const k = scale(b), at = $("where").value;
    const some = at === "" ? b.rows : b.forest[+at].rows.map(([label, value, low, high, kind]) =>
      ({ label, value, low, high, tied: kind === "tied", control: kind === "control" }));
    const rows = first(some, (r) => r.label).map((r) => ({ ...r, y: r.label, x: k * r.value, lo: k * r.low, hi: k * r.high }));
    if (!rows.length) return null;
    const { marginLeft, tickFormat } = names(rows.map((r) => r.label), width);
    const kinds = { "the best, or tied with it": "var(--tied)", "behind the best": "currentColor", control: "var(--rest)" };
    const kind = (r) => (r.control ? "control" : r.tied ? "the best, or tied with it" : "behind the best");
    const plot = Plot.plot({ width, height: 60 + 22 * rows.length, marginLeft, marginTop: 10, ariaLabel: "95% intervals",
      x: { label: `${unit(b.metric)} →`, grid: true, nice: true, ticks: Math.max(3, Math.min(10, (width - marginLeft) / 60)) }, y: { domain: rows.map((r) => r.y), label: null, tickFormat },
      color: { domain: Object.keys(kinds), range: Object.values(kinds), legend: true },
      marks: [
        Plot.ruleY(rows, { y: "y", x1: "lo", x2: "hi", strokeWidth: 2, stroke: kind }),
        Plot.dot(rows, { y: "y", x: "x", r: 4, fill: kind }),
        Plot.tip(rows, Plot.pointerY({ y: "y", x: "x", title: (r) => `${r.label}\n${range(b, r)}` })),
      ] });
    return { plot, header: ["model", unit(b.metric), "low", "high", "kind"], rows: rows.map((r) => [r.label, ...triple(r.x, r.lo, r.hi), kind(r)]) };
  });
}

// Mean ranks over the datasets; a bar joins models that cannot be told apart (Demsar 2006).
function drawRanks(b) {
  if (!$("ranks")) return;
  $("ranks").hidden = !b.ranks;
  if (!b.ranks) return;
  $("ranks-note").textContent = b.ranks.note;
  put("plot-ranks", (width) => {
    const { rows, bars } = b.ranks, all = rows.map((r) => r.label);
    const { marginLeft, tickFormat } = names(all, width);
    const lanes = 1 + Math.max(-1, ...bars.map((x) => x.lane)), most = rows.length;
    const step = (most - 1) / 40;
    const plot = Plot.plot({ width, height: 60 + 22 * most, marginLeft, marginTop: 10, ariaLabel: "Mean rank of each model, and the groups that cannot be told apart",
      x: { label: "mean rank, 1 is best →", grid: true, domain: [1, most + step * (1 + lanes)], ticks: Math.min(most, 10) }, y: { domain: all, label: null, tickFormat },
      marks: [
        Plot.ruleY(rows, { y: "label", x1: 1, x2: "rank", strokeOpacity: 0.35 }),
        Plot.dot(rows, { y: "label", x: "rank", r: 5, fill: "currentColor", tip: true }),
        Plot.ruleX(bars, { x: (bar) => most + step * (1 + bar.lane), y1: (bar) => bar.labels[0], y2: (bar) => bar.labels.at(-1), stroke: "var(--tied)", strokeWidth: 4 }),
      ] });
    return { plot, header: ["model", "mean rank", "cannot be told from"], rows: rows.map((r) => [r.label, r.rank,
      [...new Set(bars.filter((bar) => bar.labels.includes(r.label)).flatMap((bar) => bar.labels))].filter((m) => m !== r.label).join("; ")]) };
  });
}

function drawShots() {
  put("plot-shots", (width) => DATA.shots.length && { header: ["model", "dataset and method", "examples a class", "score (%)"],
    rows: DATA.shots.map((s) => [s.label, s.facet, s.shots, +(100 * s.value).toPrecision(6)]),
    plot: Plot.plot({ width, height: 360, marginLeft: 50, marginRight: 20, ariaLabel: "Accuracy against examples a class",
      x: { type: "log", base: 2, label: "examples a class →", tickFormat: "d", ticks: [...new Set(DATA.shots.map((s) => s.shots))] }, y: { label: "↑ (%)", grid: true }, color: { legend: true }, fx: { label: null },
      marks: [
        Plot.line(DATA.shots, { x: "shots", y: (s) => 100 * s.value, stroke: "label", fx: "facet" }),
        Plot.dot(DATA.shots, { x: "shots", y: (s) => 100 * s.value, fill: "label", fx: "facet", tip: true }),
      ] }) });
}

function drawCurves() {
  DATA.curves.forEach(({ title, lines }, i) => put(`plot-curves-${i}`, (width) => {
    const points = lines.flatMap((line) => line.precision.map((precision, at) => ({ ...line, recall: at / 100, precision })));
    const plot = Plot.plot({ width, height: 360, marginLeft: 50, marginRight: 20, ariaLabel: `Precision against recall, ${title}`,
      x: { label: "recall →", ticks: [0, 0.2, 0.4, 0.6, 0.8, 1] }, y: { label: "↑ precision", grid: true, domain: [0, 1] }, fx: { label: null },
      color: { legend: true, domain: [...new Set(lines.map((line) => line.label))] },
      marks: [
        Plot.line(points, { x: "recall", y: "precision", stroke: "label", fx: "at", curve: "step-before" }),
        Plot.tip(points, Plot.pointer({ x: "recall", y: "precision", fx: "at", title: (p) => `${p.label}\n${p.at}\nrecall ${p.recall.toFixed(2)}\nprecision ${p.precision.toFixed(3)}` })),
      ] });
    return { plot, header: ["model", "matched at", "recall", "precision"], rows: points.map((p) => [p.label, p.at, p.recall, p.precision]) };
  }));
}

function drawLines() {
  for (const c of DATA.lines) put(`plot-${c.id}`, (width) => {
    const aside = (label) => (c.ticks.length ? 4 * (c.labels.indexOf(label) - (c.labels.length - 1) / 2) : 0);
    const x = c.ticks.length ? { type: "point", domain: c.ticks } : { tickFormat: "~s", ticks: 5 };
    const plot = Plot.plot({ width, height: 320, marginLeft: 50, marginRight: 20, ariaLabel: c.title,
      x: { label: `${c.x} →`, ...x }, y: { label: `↑ ${c.y}`, grid: true, nice: true }, color: { legend: true, domain: c.labels },
      marks: [
        ...(c.zero ? [Plot.ruleY([0], { stroke: "var(--rest)" })] : []),
        ...c.labels.flatMap((label) => { const some = c.points.filter((p) => p.label === label), dx = aside(label);
          return [Plot.line(some, { x: "x", y: "y", stroke: "label", dx }), Plot.ruleX(some.filter((p) => p.low !== null), { x: "x", y1: "low", y2: "high", stroke: "label", dx }), Plot.dot(some, { x: "x", y: "y", fill: "label", dx })]; }),
        Plot.tip(c.points, Plot.pointer({ x: "x", y: "y", title: (p) => `${p.label}\n${c.x} ${p.x}\n${triple(p.y, p.low ?? p.y, p.high ?? p.y).join(" ")}` })),
      ] });
    return { plot, header: ["model", c.x, c.y, "low", "high"], rows: c.points.map((p) => [p.label, p.x, p.y, p.low, p.high]) };
  });
}

// Quality against each cost: a line from the original to each of its variants. Both heads of a variant
// cost the same, so they stand beside each other.
function drawCompression() {
  const colours = { original: "currentColor", "non-inferior": "var(--tied)", inconclusive: "var(--rest)", regressed: "var(--front)" };
  const aside = (r) => ({ carried: -4, anew: 4 }[r.head] ?? 0);
  for (const { title, name, metric, axes, rows } of DATA.compression) for (const axis of axes) put(`plot-compression-${name}-${axis}`, (width) => {
    if (rows.length < 2) return null;
    const k = percent(metric) ? 100 : 1;
    const points = rows.map((r) => ({ ...r, x: Math.log10(r.costs[axis]), y: k * r.value, lo: k * (r.low ?? r.value), hi: k * (r.high ?? r.value) }));
    const ticks = logTicks(points.map((p) => p.costs[axis]), width - 142).map(Math.log10), from = points[0];
    const options = { width, height: 320, marginLeft: 50, marginRight: 20, marginTop: 30, ariaLabel: `${metric} against ${DATA.titles[axis]}, ${title}`,
      x: { inset: 36, label: `${DATA.titles[axis]}, log scale →`, tickFormat: (v) => costText(axis, 10 ** v), ticks },
      y: { label: `↑ ${unit(metric)}, 95% interval`, grid: true, nice: true },
      color: { domain: Object.keys(colours), range: Object.values(colours), legend: true },
      marks: [
        Plot.link(points.slice(1), { x1: from.x, y1: from.y, x2: "x", y2: "y", stroke: "var(--out)" }),
        ...[-4, 0, 4].flatMap((dx) => { const some = points.filter((p) => aside(p) === dx);
          return [Plot.ruleX(some, { x: "x", y1: "lo", y2: "hi", stroke: "kind", dx }), Plot.dot(some, { x: "x", y: "y", fill: "kind", r: 4, dx })]; }),
      ] };
    const empty = Plot.plot(options), x = empty.scale("x"), y = empty.scale("y");
    const shown = apart(points, points, (p) => [x.apply(p.x) + aside(p), y.apply(p.y)], 50, width);
    options.marks.push(
      ...shown.map((p) => Plot.text([p], { x: "x", y: "y", text: "label", dx: aside(p) + (p.right ? 8 : -8), dy: p.dy, textAnchor: p.right ? "start" : "end", fill: "currentColor" })),
      Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: (p) => `${p.label}\n${p.text}\n${costText(axis, p.costs[axis])}\n${p.kind}` })));
    return { plot: Plot.plot(options), header: ["variant", DATA.titles[axis] + bytesUnit(axis), unit(metric), "low", "high", "verdict"],
      rows: points.map((p) => [p.label, p.costs[axis], ...triple(p.y, p.lo, p.hi), p.kind]) };
  });
}

function drawCost(b) {
  put("plot-cost", (width) => {
    const bars = b.rows.flatMap((r) => ["extract_seconds", "fit_seconds", "train_seconds"].filter((s) => r.costs[s] > 0)
      .map((s) => ({ label: r.label, stage: named(s), value: r.costs[s] })));
    if (!bars.length) return null;
    const models = first([...new Set(bars.map((x) => x.label))], (m) => m), kept = new Set(models);
    const { marginLeft, tickFormat } = names(models, width), shown = bars.filter((x) => kept.has(x.label));
    const plot = Plot.plot({ width, height: 60 + 22 * models.length, marginLeft, ariaLabel: "Seconds of each stage", x: { label: "seconds →", grid: true, ticks: Math.max(3, Math.min(10, (width - marginLeft) / 60)) }, y: { domain: models, label: null, tickFormat },
      color: { legend: true, domain: ["extraction", "fit", "training"], range: ["var(--tied)", "var(--front)", "var(--good)"] },
      marks: [Plot.barX(shown, { y: "label", x: "value", fill: "stage", tip: true })] });
    return { plot, header: ["model", "stage", "seconds"], rows: shown.map((x) => [x.label, x.stage, x.value]) };
  });
}
