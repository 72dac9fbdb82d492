"use strict";
// The decision: as ranking/recommend.py and ranking/choice.py take it, under the page's limits.

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
// As choice.usual_cost among the allowed: the latency where all have it on one device and nobody's
// is noisy, else the MACs.
function usualCost(b, allowed) {
  const rows = allowed.map((i) => b.rows[i]), asked = $("cheapest").value;
  const known = (axis) => rows.every((r) => r.costs[axis] !== undefined);
  if (asked) return asked;
  const calm = rows.every((r) => !r.noisy.includes("latency_ms_p50"));
  if (calm && oneDevice(rows) && known("latency_ms_p50")) return "latency_ms_p50";
  return known("macs") ? "macs" : "params";
}
// As pareto.one_device: whether times of these rows may be compared; null is "on several".
const oneDevice = (rows) => rows.every((r) => r.device !== null && r.device === rows[0].device);
// In the metric's unit: hundredths of it, or of the best value.
function tolerance(b, allowed) {
  const points = +$("tolerance").value;
  return (points / 100) * (DATA.targets.includes(b.metric) ? Math.abs(b.rows[allowed[0]].value) : 1);
}


const MOST_OTHERS = 6;
const points = (b, v) => (percent(b.metric) ? `${(100 * v).toFixed(1)} points` : show(b.metric, v) + (b.unit ? ` ${b.unit}` : ""));
const named = (axis) => DATA.titles[axis].replace(/ \((s|ms|J)\)$/, "");
const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

function drawPick(d) {
  const cards = $("pick"), b = d.b;
  cards.replaceChildren();
  for (const { axis, input, out } of limits())
    out.textContent = +input.value >= steps[axis].length ? "no limit" : costText(axis, steps[axis][+input.value]);
  $("out-tolerance").textContent = DATA.targets.includes(b.metric) ? `${+$("tolerance").value}% of the best` : plural(+$("tolerance").value, "point");
  if (d.pick === null) add(add(cards, "div", "", "card"), "p", "No model keeps to these limits.", "big");
  else {
    const same = d.cheap === d.pick, alone = d.allowed.length === 1;
    card(cards, `Most accurate: ${b.rows[d.pick].label}`, [...accurate(d), ...(same && !alone ? [["Also", `${good(d)}.`]] : [])], d.pick, b);
    if (d.cheap === null) card(cards, "Cheapest good enough: none", [["Why", nobody(d)]]);
    else if (!same) card(cards, `Cheapest good enough: ${b.rows[d.cheap].label}`, cheapest(d), d.cheap, b);
  }
  drawOthers(d);
}

function card(parent, title, facts, i, b) {
  const box = add(parent, "div", "", "card"), list = document.createElement("dl");
  add(box, "p", title, "big");
  for (const [name, text] of i === undefined ? facts : [...facts, ...spent(b.rows[i])]) {
    add(list, "dt", name);
    add(list, "dd", text);
  }
  box.append(list);
}

// What a pick costs, and what its user must know besides.
function spent(row) {
  const found = DATA.shown.filter((axis) => row.costs[axis] !== undefined)
    .map((axis) => (axis === "params" || axis === "macs" ? `${costOf(row, axis)} ${named(axis)}` : `${named(axis)} ${costText(axis, row.costs[axis])}${row.noisy.includes(axis) ? " (noisy)" : ""}`));
  return [["It costs", found.length ? found.join(", ") : "nothing was measured"], ["Licence", row.license],
    ...(row.flags ? [["Beware", row.flags]] : [])];
}

function quality(b, row) {
  const sign = percent(b.metric) ? "%" : b.unit ? ` ${b.unit}` : "";
  const [value, low, high] = row.text.replace(/[[\],]/g, "").split(" ");
  return `${b.metric} ${value}${sign}, 95% interval ${low} to ${high}${sign}${b.over}`;
}

function accurate(d) {
  const { b, allowed } = d, others = d.tied.filter((i) => i !== d.pick).map((i) => b.rows[i].label), x = d.of && d.of.get(d.pick);
  const sure = allowed.length === 1 ? "It is the only model allowed, so there is nothing to choose between."
    : (x ? `It is the best of the ${allowed.length} models allowed with probability ${x.first.toFixed(2)}. Over all that the data allow it falls short of the true best by ${points(b, x.loss)} on average. ` : `${b.unsure} `)
      + (others.length ? `The data cannot tell it from ${others.length < 3 ? others.join(" and ") : `${others.length} others`}.` : "The data suffice to tell it from every other that is allowed.")
      + (b.left_out.length ? ` ${plural(b.left_out.length, "model")} could not be ranked with these.` : "");
  return [["Quality", quality(b, b.rows[d.pick])], ["How sure", sure]];
}

const far = (d) => `within ${points(d.b, d.most)} of the true best`;
const good = (d) => `The cheapest good enough by ${named(d.axis)}: it is ${far(d)} with probability ${d.of.get(d.cheap).within.toFixed(2)}`;
const nobody = (d) => (d.of ? `No model whose ${named(d.axis)} is known is ${far(d)} with a probability of ${DATA.sure} or more.` : d.b.unsure);

function cheapest(d) {
  const { b, axis } = d, row = b.rows[d.cheap], best = b.rows[d.pick], x = d.of.get(d.cheap);
  const most = best.costs[axis], less = most > 0 ? ` (${Math.round(100 * (1 - row.costs[axis] / most))}% less)` : "";
  const saved = most === undefined ? `the most accurate's ${named(axis)} is not known` : `${named(axis)} ${costOf(row, axis)} instead of ${costOf(best, axis)}${less}`;
  return [["Quality", quality(b, row)], ["It saves", saved],
    ["How sure", `It is ${far(d)} with probability ${x.within.toFixed(2)}. On average it falls short of it by ${points(b, x.loss)}.`]];
}

// Why not the others: of those that have a score the best first, then those that were not ranked.
function drawOthers(d) {
  const place = $("others"), { b } = d;
  place.replaceChildren();
  const rest = b.rows.map((_, i) => i).filter((i) => i !== d.pick && i !== d.cheap);
  const why = (i) => d.why[i] || (d.tied.includes(i) ? "a tie: the data cannot tell it from the most accurate" : `${points(b, b.rows[d.pick].value - b.rows[i].value)} behind`);
  const axis = d.axis || "params";
  const rows = rest.slice(0, MOST_OTHERS).map((i) => [b.rows[i].label, range(b, b.rows[i]), b.rows[i].costs[axis] === undefined ? "" : costOf(b.rows[i], axis), why(i)]);
  rows.push(...b.left_out.slice(0, MOST_OTHERS).map(([label, reason]) => [label, "", "", `not ranked: ${reason}`]));
  if (!rows.length) return;
  add(place, "h3", "Why not the others");
  const scroll = add(place, "div", "", "scroll"), table = add(scroll, "table", "", "wrapped");
  for (const [name, value] of [["tabindex", 0], ["role", "region"], ["aria-label", "Why not the others"]]) scroll.setAttribute(name, value);
  const head = add(add(table, "thead"), "tr");
  for (const text of ["model", `${unit(b.metric)} [95%]`, named(axis), "why not"]) add(head, "th", text).scope = "col";
  const body = add(table, "tbody");
  for (const cells of rows) {
    const tr = add(body, "tr");
    cells.forEach((text, at) => { const cell = add(tr, at ? "td" : "th", text); if (!at) cell.scope = "row"; });
  }
  tableTools(scroll);
  const more = Math.max(rest.length - MOST_OTHERS, 0), out = Math.max(b.left_out.length - MOST_OTHERS, 0);
  const said = [more && `${plural(more, "more model")} in the leaderboard below`, out && `${out} more that could not be ranked, under failures`].filter(Boolean);
  if (said.length) add(place, "p", `And ${said.join("; ")}.`, "dim");
}
