const page = JSON.parse(document.getElementById("data").textContent);
const rows = records(page.rows).map(row => ({ ...row, terms: row.resources.map((name, at) => [name, row.terms_us[at]]).filter(([, us]) => us >= 0.005) })), cells = records(page.cells), devices = records(page.devices);
const family = kernel => kernel.split("/")[0];
const state = { step: page.first_step, devices: new Set(devices.map(device => device.name)), family: "", tier: "", text: "", view: Object.keys(page.views)[0] };

const matches = row => state.devices.has(row.device)
  && (!state.family || family(row.kernel) === state.family)
  && (!state.tier || row.tier.split(", ").includes(state.tier))
  && (!state.text || [row.kernel, row.shape, row.config, row.places, row.tier, row.matrix].some(text => text && text.toLowerCase().includes(state.text)));
const link = kernel => make("a", { href: `#kernel/${kernel}` }, kernel);
const config = { title: "config", of: row => row.config, show: row => make("code", {}, row.config), className: "config" };
const spilled = { title: "spills", of: row => row.spills, show: row => row.spills === null ? "unknown" : short(row.spills) };
const instruction = { title: "matrix instruction", of: row => row.matrix, show: row => make("span", { title: row.matrix_why }, row.matrix) };
const tier = { title: "tier", of: row => row.tier, show: row => tierTag(row.tier) };
const timing = [
  { title: "default us", of: row => row.default_us }, { title: "tuned us", of: row => row.us },
  { title: "expected within", of: row => row.least_us, show: row => span(row.least_us, row.most_us) || "measured" },
  { title: "bound us", of: row => row.bound_us },
];

function controls() {
  const changed = name => value => { state[name] = value; render(); };
  const box = device => make("label", {}, make("input", { type: "checkbox", checked: true, value: device.name, onchange: event => {
    state.devices[event.target.checked ? "add" : "delete"](device.name);
    render();
  } }), ` ${device.name}`);
  const options = (values, all) => [["", all], ...values.map(value => [value, value])];
  return make("div", { className: "controls" },
    page.steps.length > 1 ? select("Step", page.steps.map(name => [name, name]), changed("step"), state.step) : null,
    make("span", { className: "devices" }, ...devices.map(box)),
    select("Family", options(unique(rows.map(row => family(row.kernel))).sort(), "all"), changed("family")),
    select("Tier", options(unique(rows.map(row => row.tier)).sort(), "all"), changed("tier")),
    make("input", { type: "search", placeholder: "kernel, config, text", ariaLabel: "text to look for", oninput: event => changed("text")(event.target.value.trim().toLowerCase()) }),
    themeButton());
}

function tiersBanner() {
  const counts = new Map();
  for (const row of rows) counts.set(row.tier, (counts.get(row.tier) || 0) + 1);
  const measured = counts.get("measured") || 0;
  const words = measured ? `${measured} of ${rows.length} times are measured; all others are modeled.` : "Every time on this page is modeled; nothing was measured.";
  return make("p", { className: "banner" }, make("b", {}, words), ` A modeled time is the cost model's, and the truth is expected within the range beside it. Problems by tier of the row that serves them: ${[...counts].map(pair => pair.reverse().join(" ")).join(", ")}.`);
}

const sections = {};
function section(name, title, about, ...more) {
  sections[name] = make("div");
  return make("section", { id: name }, make("h2", {}, title), ...[about].flat().map(words => make("p", { className: "quiet" }, words)), ...more, sections[name]);
}
const chartIn = (name, fluid = "") => sections[name].firstChild || sections[name].appendChild(make("div", { className: `chart ${fluid}`.trim() }));

function renderFigures() {
  const shown = records(page.figures).filter(row => state.devices.has(row.device) && (row.step === state.step || state.step === "prefill"));
  const facts = Object.fromEntries(devices.map(device => [device.name, device]));
  sections.figures.replaceChildren(table([
    { title: "device", of: row => row.device }, { title: "requests", of: row => row.concurrency },
    { title: "step ms, default", of: row => row.default_ms[1], show: row => interval(row.default_ms) },
    { title: "step ms, tuned", of: row => row.tuned_ms[1], show: row => interval(row.tuned_ms) },
    { title: "gain", of: row => row.default_ms[1] / row.tuned_ms[1], show: row => `×${(row.default_ms[1] / row.tuned_ms[1]).toFixed(2)}` },
    { title: "step ms, bound", of: row => row.bound_ms }, { title: "prefill", of: row => row.prefill_share, show: row => percent(row.prefill_share) },
    { title: "tok/s/GPU", of: row => row.tokens_per_s_per_gpu[1], show: row => interval(row.tokens_per_s_per_gpu) },
    { title: "tok/s/user", of: row => row.tokens_per_s_per_user[1], show: row => interval(row.tokens_per_s_per_user) },
    { title: "$/Mtok", of: row => row.usd_per_million_tokens && row.usd_per_million_tokens[1], show: row => row.usd_per_million_tokens ? interval(row.usd_per_million_tokens) : "no price known" },
    { title: "matrix time of the step", of: row => products(row.device, row.step), className: "words" },
    { title: "tables", of: row => facts[row.device].kernels_with_table, show: row => `${facts[row.device].kernels_with_table} kernels; ${facts[row.device].rows.map(([name, count]) => `${count} rows ${name}`).join(", ") || "no row"}` },
    { title: "memory", of: row => facts[row.device].weights_gb, show: row => { const { weights_gb, caches_gb, memory_gb } = facts[row.device]; return `${short(weights_gb + caches_gb)} of ${short(memory_gb)} GB${weights_gb + caches_gb > memory_gb ? ": DOES NOT FIT" : ""}`; } },
  ], shown));
}

/** How products are made, as parts of the time of all kernels that make any. */
function products(device, step) {
  const times = new Map(), here = rows.filter(row => row.device === device && row.step === step && row.matrix !== "no products");
  for (const row of here) times.set(row.matrix, (times.get(row.matrix) || 0) + row.calls * row.us);
  const whole = sum([...times.values()]);
  return [...times].sort((a, b) => b[1] - a[1]).map(([kind, us]) => `${percent(us / whole)} ${kind}`).join(", ");
}

function renderBars() {
  const named = row => ({ ...row, bar: `${row.device} ${row.version}` });
  const here = name => records(page[name]).filter(row => row.step === state.step && state.devices.has(row.device)).map(named);
  draw(chartIn("bars", "fluid"), "step_bars", { segments: here("segments"), ranges: here("ranges").filter(row => row.least_ms < row.most_ms) });
}

function shaded(cell) {
  switch (page.views[state.view]) {
    case "distance": return { shade: cell.distance, label: `×${short(cell.distance)}`, dark: cell.distance > 10 };
    case "gain": return { shade: cell.gain, label: cell.tier === "no row" ? "no row" : `×${cell.gain.toFixed(2)}`, dark: cell.gain < 2 };
    case "matrix": {
      const kind = cell.matrix.split(", ")[0];
      return { shade: kind, label: kind.replace(" instruction", "").replace("no products", "–") + (cell.spills ? ` s${cell.spills}` : ""), dark: kind === "native" };
    }
    default: { const first = cell.tier.split(", ")[0]; return { shade: first, label: cell.tier.includes(", ") ? `${first}+` : first, dark: first === "measured" }; }
  }
}

async function renderMap() {
  const shown = cells.filter(cell => cell.step === state.step && matches(cell)).map(cell => ({ ...cell, ...shaded(cell) }));
  shown.sort((a, b) => a.kernel.localeCompare(b.kernel) || devices.findIndex(d => d.name === a.device) - devices.findIndex(d => d.name === b.device));
  if (!shown.length) return sections.map.replaceChildren(make("p", {}, "No kernel matches the filters."));
  if (sections.map.firstChild?.tagName === "P") sections.map.replaceChildren();
  const view = await draw(chartIn("map", "wide"), state.view, { cells: shown });
  view?.addEventListener("click", (_, item) => { if (item?.datum?.kernel) openKernel(item.datum.kernel, item.datum.device); });
}

function renderTop() {
  const shown = rows.filter(row => row.step === state.step && matches(row)).sort((a, b) => b.gap - a.gap).slice(0, 10);
  sections.top.replaceChildren(shown.length ? table([
    { title: "kernel", of: row => row.kernel, show: row => link(row.kernel) }, { title: "device", of: row => row.device },
    { title: "called by", of: row => row.places }, { title: "tokens", of: row => row.size }, { title: "calls a step", of: row => row.calls },
    { title: "share of step", of: row => row.share, show: row => percent(row.share) },
    { title: "over the bound", of: row => row.us / row.bound_us, show: row => `×${short(row.us / row.bound_us)}` },
    { title: "to gain at most", of: row => row.gap, show: row => percent(row.gap) },
    ...timing, tier, instruction, spilled,
  ], shown, "top") : make("p", {}, "No row matches the filters."));
}

function renderKernels() {
  const shown = rows.filter(matches), open = new Set([...document.querySelectorAll("details.kernel[open]")].map(node => node.id));
  sections.kernels.replaceChildren(...unique(shown.map(row => row.kernel)).sort().map(kernel => kernelSection(kernel, shown.filter(row => row.kernel === kernel), open)));
}

function kernelSection(kernel, shown, open) {
  const id = `kernel/${kernel}`, served = shown.filter(row => row.tier !== "no row").length;
  const node = make("details", { className: "kernel", id },
    make("summary", {}, make("b", {}, kernel), make("span", { className: "quiet" }, unique(shown.map(row => page.paths[row.path] || "")).join(", ")),
      ...unique(shown.map(row => row.tier)).map(tierTag), make("span", { className: "quiet" }, `${served} of ${shown.length} problems have a row`)));
  node.addEventListener("toggle", () => { if (node.open && node.children.length === 1) node.append(kernelBody(shown)); });
  if (open.has(id)) node.open = true;
  return node;
}

function kernelBody(shown) {
  const here = unique(shown.map(row => row.device)), body = make("div"), lines = make("div", { className: "chart fluid" });
  const picked = { device: pickedDevice && here.includes(pickedDevice) ? pickedDevice : here[0], shape: "" };
  const shapes = () => unique(shown.filter(row => row.device === picked.device).map(row => row.shape));
  const choice = make("span");
  const held = make("div");
  function show() {
    if (!shapes().includes(picked.shape)) picked.shape = shapes()[0];
    choice.replaceChildren(select("Shape", shapes().map(shape => [shape, shape || "the only one"]), value => { picked.shape = value; show(); }, picked.shape));
    const mine = shown.filter(row => row.device === picked.device && row.shape === picked.shape).sort((a, b) => a.size - b.size);
    const line = (row, name, us, term = false) => ({ size: row.size, line: name, us, term });
    const longest = longestTerms(mine);
    const points = mine.flatMap(row => [line(row, "default", row.default_us), line(row, "tuned", row.us), line(row, "bound", row.bound_us), ...row.terms.filter(([name]) => longest.includes(name)).map(([name, us]) => line(row, name, us, true))]);
    requestAnimationFrame(() => draw(lines, "over_sizes", { points: points.filter(point => point.us > 0), band: mine.map(row => ({ size: row.size, least_us: row.least_us, most_us: row.most_us })) }));
    held.replaceChildren(table([
      { title: "tokens", of: row => row.size }, { title: "step", of: row => row.step, className: "path" }, { title: "called by", of: row => row.places }, { title: "calls a step", of: row => row.calls },
      ...timing, tier, { title: "found", of: row => row.how, show: row => make("span", { title: row.why }, row.how) }, config, instruction, spilled,
      { title: "terms, us each alone", of: row => Math.max(0, ...row.terms.map(term => term[1])), show: row => [...row.terms].sort((a, b) => b[1] - a[1]).map(([name, us]) => `${name} ${short(us)}`).join(", "), className: "config" },
      { title: "proved under", of: row => row.toolchain },
    ], mine));
  }
  body.append(make("p", {}, select("Device", here.map(name => [name, name]), value => { picked.device = value; show(); }, picked.device), " ", choice),
    make("p", { className: "quiet" }, "Band: the range of the tuned time. Grey: what a resource alone would take by the model, the four longest; they overlap and do not add up."), lines, held);
  show();
  return body;
}

/** The four terms that come nearest to the tuned time at some size: more lines could not be told apart. */
function longestTerms(shown) {
  const nearest = new Map();
  for (const row of shown) for (const [name, us] of row.terms) nearest.set(name, Math.max(nearest.get(name) || 0, us / row.us));
  return [...nearest].filter(([, part]) => part >= 0.05).sort((a, b) => b[1] - a[1]).slice(0, 4).map(([name]) => name);
}

let pickedDevice = "";
function openKernel(kernel, device = "") {
  pickedDevice = device;
  const node = document.getElementById(`kernel/${kernel}`);
  if (!node) return;
  node.open = true;
  node.scrollIntoView();
}
addEventListener("hashchange", () => openKernel(decodeURIComponent(location.hash).replace(/^#kernel\//, "")));

function render() {
  if (page.figures) renderFigures(), renderBars();
  if (page.sessions) renderSessions();
  renderMap();
  renderTop();
  renderKernels();
}

document.title = page.title;
document.querySelector("main").append(
  make("h1", {}, page.title), make("p", { className: "quiet" }, page.subtitle), tiersBanner(), controls(),
  ...(page.sessions ? sessionSections() : []),
  ...(page.figures ? [section("figures", "Throughput and cost", page.notes), section("bars", "Where a step's time goes", "One bar each for default configs, for what the tables serve, and for the roofline bound; one colour for each group of hot paths. The line across a bar is the range within which its end is expected. Filters other than devices leave these bars whole.")] : []),
  section("map", "Kernels by devices", "Sums over the calls of the step. A kernel that no row serves counts with its default config. s32: 32 are spilled (registers on AMD, bytes of stack on NVIDIA). Click a cell for the kernel.",
    make("p", { className: "view" }, select("Show", Object.keys(page.views).map(name => [name, name]), value => { state.view = value; renderMap(); }, state.view))),
  section("top", "The ten rows that matter most", "By what could be gained at most: the share of the step, times the part of it that is above the roofline bound. Launches count as time above it."),
  section("kernels", "Kernels", "Configs by number of tokens, for the problems of this workload.", null),
  ...page.left_out.map(([name, reason]) => make("p", { className: "banner" }, `${name} is left out: ${reason}`)),
  make("footer", {}, make("p", { className: "quiet" }, page.made_by)));
render();
if (location.hash) dispatchEvent(new Event("hashchange"));
