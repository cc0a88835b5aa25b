"use strict";
// What the page is built from. Text of the data becomes text nodes only, never markup.

function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) key in node ? (node[key] = value) : node.setAttribute(key, value);
  node.append(...children.filter(child => child !== null));
  return node;
}

/** Rows of a table that `html.columns` wrote by column. */
function records(columns) {
  const whole = Object.entries(columns).map(([name, column]) => [name, Array.isArray(column) ? column : column.at.map(at => column.words[at])]);
  return whole.length ? whole[0][1].map((_, row) => Object.fromEntries(whole.map(([name, values]) => [name, values[row]]))) : [];
}
const unique = values => [...new Set(values)];
const sum = values => values.reduce((total, value) => total + value, 0);

/** Three digits that count, and never an exponent of ten. */
function short(number) {
  if (number === null || number === undefined) return "";
  if (number === 0) return "0";
  const digits = Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.abs(number)))));
  return number.toLocaleString("en", { maximumFractionDigits: digits });
}
const percent = part => `${short(100 * part)} %`;
const span = (least, most) => least === most ? "" : `${short(least)} to ${short(most)}`;
const interval = ([least, value, most]) => `${short(value)} (${short(least)} to ${short(most)})`;

const tierTag = tier => make("span", { className: `tag ${tier === "no row" ? "none" : tier}` }, tier === "no row" ? "no row: default" : tier);

/** A table whose heads sort it. A column: `title`, `of` (row to value), and perhaps `show` (row to text or node), `className`. */
function table(columns, rows, className = "") {
  const body = make("tbody");
  const heads = columns.map((column, at) => make("th", { scope: "col" }, make("button", { type: "button", onclick: () => sort(at) }, column.title)));
  let sorted = null;
  function sort(at) {
    const descending = sorted === at && heads[at].getAttribute("aria-sort") === "ascending";
    heads.forEach(head => head.removeAttribute("aria-sort"));
    heads[at].setAttribute("aria-sort", descending ? "descending" : "ascending");
    sorted = at;
    const value = columns[at].of, sign = descending ? -1 : 1;
    fill([...rows].sort((a, b) => sign * compare(value(a), value(b))));
  }
  function fill(ordered) {
    body.replaceChildren(...ordered.map(row => make("tr", {}, ...columns.map(column => {
      const value = column.of(row), shown = column.show ? column.show(row) : typeof value === "number" ? short(value) : value ?? "";
      return make("td", { className: `${typeof value === "number" ? "number" : ""} ${column.className || ""}`.trim() }, shown);
    }))));
  }
  fill(rows);
  return make("div", { className: "wide" }, make("table", { className }, make("thead", {}, make("tr", {}, ...heads)), body));
}
function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

/** Draw a chart of the page with these data; only the last of several calls on one node is shown. */
async function draw(node, name, datasets) {
  const turn = (node.turn = (node.turn || 0) + 1);
  const spec = { ...page.charts[name], datasets };
  const shown = make("div", { className: node.className });
  const probe = node.isConnected ? node.clientWidth : 0;
  if (spec.width === "container") spec.width = Math.max(260, probe - 8), spec.autosize = { type: "fit-x", contains: "padding" };
  if (probe < 520) spec.config = { ...spec.config, legend: { ...spec.config.legend, columns: 2 } };
  const { view } = await vegaEmbed(shown, spec, { actions: false, renderer: "svg" });
  if (turn !== node.turn) return view.finalize(), null;
  if (node.view) node.view.finalize();
  node.view = view;
  node.replaceChildren(...shown.childNodes);
  return view;
}

function select(title, options, onchange, value = options[0][0]) {
  const node = make("select", { onchange: () => onchange(node.value) }, ...options.map(([option, words]) => make("option", { value: option }, words)));
  node.value = value;
  return make("label", {}, `${title} `, node);
}

/** Follows the reader's system until the button says otherwise. */
function themeButton() {
  const themes = { "as the system": "", light: "light", dark: "dark" };
  const names = Object.keys(themes);
  let at = 0;
  const node = make("button", { type: "button", id: "theme", onclick: () => { at = (at + 1) % names.length; show(); } });
  function show() {
    document.documentElement.style.colorScheme = themes[names[at]];
    node.textContent = `Colours: ${names[at]}`;
  }
  show();
  return node;
}
