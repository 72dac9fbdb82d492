"use strict";
// "Copy CSV" and "Copy PNG" of each figure and table. Where the browser does not let the page copy,
// a file is saved instead. Made here, because without scripts they would do nothing.

// Buttons for `kinds`, each [CSV or PNG, what makes its Blob], and the line that says what happened.
function tools(title, kinds) {
  const bar = document.createElement("div");
  bar.className = "tools";
  const buttons = kinds.map(([kind, make]) => [add(bar, "button", `Copy ${kind}`), kind, make]);
  const said = add(bar, "span");
  said.role = "status";
  for (const [button, kind, make] of buttons) {
    Object.assign(button, { type: "button", ariaLabel: `Copy ${kind}: ${title}` });
    button.addEventListener("click", async () => {
      said.textContent = "";
      try { said.textContent = await hand(await make(), `${fileName(title)}.${kind.toLowerCase()}`); }
      catch (error) { said.textContent = `Not copied: ${error.message}`; }
    });
  }
  return bar;
}
const fileName = (title) => title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 80) || "zoobench";

async function hand(blob, name) {
  try {
    await navigator.clipboard.write([new ClipboardItem({ [blob.type]: blob })]);
    return "Copied.";
  } catch {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    return `Saved as ${name}, because this browser does not let the page copy.`;
  }
}

function figureTools(place, drawn) {
  const of = DATA.boards.length ? `${board().name}: ` : ""; // what is pretrained may be ranked by nothing
  const title = `${of}${drawn.plot.ariaLabel || drawn.plot.querySelector("svg[aria-label]").getAttribute("aria-label")}`;
  place.append(tools(title, [["CSV", () => csv([drawn.header, ...drawn.rows])], ["PNG", () => png(place, title)]]));
}
function tableTools(scroll) {
  scroll.after(tools(scroll.getAttribute("aria-label"), [["CSV", () => csv(cells(scroll.querySelector("table")))]]));
}

// As escape.csv: no text is a formula.
function csv(lines) {
  const cell = (value) => {
    let text = String(value);
    if (typeof value === "string" && /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]/.test(text)) text = /^[+-][0-9.]+$/.test(text) ? String(+text) : `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return new Blob([lines.map((line) => `${line.map(cell).join(",")}\n`).join("")], { type: "text/plain" });
}
// The rows of a table that are shown; a score with its interval becomes three columns.
function cells(table) {
  const texts = (tr) => [...tr.cells].map((cell) => cell.textContent);
  const header = texts(table.tHead.rows[0]), rows = [...table.tBodies[0].rows].filter((tr) => !tr.hidden).map(texts);
  const split = header.map((text) => text.endsWith(" [95%]"));
  const parts = (text) => { const [value, low, high] = text.replace(/[[\],]/g, "").split(" "); return [value, low ?? "", high ?? ""]; };
  const wide = (line, three) => line.flatMap((text, i) => (split[i] ? three(text) : [text]));
  return [wide(header, (text) => [text.slice(0, -6), "low", "high"]), ...rows.map((row) => wide(row, parts))];
}

// The chart with its title and legend, at twice its size, in the colours of the page's theme.
async function png(place, title) {
  const svg = [...place.querySelectorAll("svg[aria-label]")].at(-1), page = getComputedStyle(document.body);
  const { width, height } = svg.getBoundingClientRect(), swatches = [...place.querySelectorAll("[class*=-swatches] > span")];
  const image = new Image(), top = swatches.length ? 54 : 30;
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(alone(svg))}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * (width + 20), height: 2 * (height + top + 10) });
  const pen = canvas.getContext("2d");
  pen.scale(2, 2);
  pen.fillStyle = page.backgroundColor;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = page.color;
  pen.font = "600 13px system-ui, sans-serif";
  pen.fillText(title, 10, 20, width);
  pen.font = "11px system-ui, sans-serif";
  let x = 10;
  for (const swatch of swatches) {
    pen.fillStyle = getComputedStyle(swatch.querySelector("svg")).fill;
    pen.fillRect(x, 32, 12, 12);
    pen.fillStyle = page.color;
    pen.fillText(swatch.textContent, x + 17, 42);
    x += 32 + pen.measureText(swatch.textContent).width;
  }
  pen.drawImage(image, 10, top, width, height);
  return new Promise((done, fail) => canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("the picture is too large"))), "image/png"));
}
// A chart's text by itself: what it takes from the page's style is written into it.
function alone(svg) {
  const copy = svg.cloneNode(true), style = getComputedStyle(svg);
  const from = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
    for (const name of ["fill", "stroke"])
      if (/var\(|currentColor/.test(element.getAttribute(name))) element.setAttribute(name, getComputedStyle(from[i])[name]);
  });
  for (const name of ["color", "font-family", "font-size"]) copy.style.setProperty(name, style.getPropertyValue(name));
  return new XMLSerializer().serializeToString(copy);
}
