// What every part of the page uses: elements, numbers, words. Text goes into the page as text only, never as HTML.

const $ = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

/** Sizes in decimal units with three digits, as dbuild prints them. */
function bytes(count) {
  if (count < 1000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB", "PB"];
  let value = count / 1000;
  let unit = 0;
  while (value >= 999.5 && unit + 1 < units.length) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${units[unit]}`;
}

function seconds(ms) {
  const whole = Math.floor(ms / 1000);
  if (whole < 10) return `${(ms / 1000).toFixed(2)} s`;
  if (whole < 600) return `${(ms / 1000).toFixed(1)} s`;
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} m`;
}

function count(number, one, many) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many || `${one}s`}`;
}

const WORDS = {
  waiting: "not started", running: "unfinished", cached: "cached", done: "done",
  skipped: "skipped", canceled: "canceled", failed: "failed",
};
const SIGNS = { waiting: "·", running: "…", cached: "=", done: "+", skipped: "-", canceled: "/", failed: "!" };

/** A state as a word with its sign: never colour alone. */
function badge(state) {
  return h("span", { class: `badge ${state}` }, `${SIGNS[state]} ${WORDS[state]}`);
}

function when(ms) {
  return new Date(ms).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** The head of a column that has bars: the numbers beside them say the same. */
const BARS = ["", "lane-of"];

/** A row of a table: the first cell names it. Where the cells stand below each other each brings its head along. */
function tableRow(heads, cells, attributes) {
  return h("tr", attributes, cells.map((content, index) =>
    index === 0
      ? h("th", { scope: "row" }, content ?? "")
      : h("td", { class: heads[index][1], "data-head": content === "" ? null : heads[index][0] }, content ?? "")));
}

/** A table: heads are [text, class]; rows are lists of cells, each a text or an element. */
function table(caption, heads, rows) {
  return h("table", {},
    h("caption", { class: "sr" }, caption),
    h("thead", {}, h("tr", {}, heads.map(([text, style]) => h("th", { scope: "col", class: style }, text || h("span", { class: "sr" }, "As a bar"))))),
    h("tbody", {}, rows.map((row) => (row instanceof Node ? row : tableRow(heads, row)))));
}

/** A bar of parts, each [class, share of the whole]. The numbers are in the table beside it. */
function bar(parts, whole, offset) {
  const element = h("div", { class: "bar", "aria-hidden": "true" });
  if (offset) element.append(size(h("i", { class: "none" }), offset, whole));
  for (const [style, value] of parts) if (value > 0) element.append(size(h("i", { class: style }), value, whole));
  return element;
}

function size(element, value, whole) {
  element.style.width = `${whole > 0 ? (100 * value) / whole : 0}%`;
  return element;
}

const DATA = JSON.parse($("data").textContent);
