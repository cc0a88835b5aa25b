// The parts of the page that only a tuning session has.

function sessionSections() {
  return [
    section("sessions", "Sessions", "Gain: default over tuned time, a geometric mean over the calls of a step, as the tier says."),
    section("curves", "Search", "The best time so far over trials, for each problem, as a multiple of the best that was found. Trials of earlier runs that this session resumed are among them.", make("p", { className: "view" })),
    section("stages", "Seconds by stage", "Wall time of this run; compilers run beside the search."),
    section("failures", "Failures by cause", "Configs that were tried and failed. That is expected: a search looks at the edges of what fits."),
  ];
}

function renderSessions() {
  const here = session => [...state.devices].some(device => session.endsWith(` on ${device}`));
  const shown = records(page.sessions).filter(row => state.devices.has(row.device));
  sections.sessions.replaceChildren(table([
    { title: "kernel", of: row => row.kernel, show: row => link(row.kernel) }, { title: "device", of: row => row.device }, tier,
    { title: "gain", of: row => row.gain, show: row => `×${row.gain.toFixed(2)}` },
    { title: "problems", of: row => row.problems }, { title: "rows written", of: row => row.rows }, { title: "up to date", of: row => row.up_to_date },
    { title: "tried", of: row => row.trials }, { title: "feasible", of: row => row.feasible }, { title: "compiled", of: row => row.compiled }, { title: "from cache", of: row => row.from_cache },
    { title: "proved", of: row => row.validated }, { title: "seconds", of: row => row.seconds }, { title: "compilers, CPU s", of: row => row.compile_cpu_s }, { title: "GPU s", of: row => row.gpu_s },
    { title: "table", of: row => row.table, show: row => make("code", {}, row.table), className: "path" },
  ], shown));
  renderCurves(records(page.curves).filter(row => here(row.session)));
  const stages = records(page.stages).filter(row => here(row.session)), failures = records(page.failures).filter(row => here(row.session));
  fillChart("stages", "stage_bars", { stages }, stages, "No stage took any time.");
  fillChart("failures", "failure_bars", { failures }, failures, "No config failed.");
  if (failures.length) sections.failures.append(table([
    { title: "session", of: row => row.session }, { title: "cause", of: row => row.cause }, { title: "configs", of: row => row.count }, { title: "reason", of: row => row.words, className: "config" },
  ], failures));
}

function fillChart(name, chart, datasets, shown, none) {
  sections[name].replaceChildren();
  if (!shown.length) return sections[name].append(make("p", {}, none));
  draw(chartIn(name, "fluid"), chart, datasets);
}

function renderCurves(shown) {
  const names = unique(shown.map(row => row.session)), place = document.querySelector("#curves .view");
  const show = session => {
    const mine = shown.filter(row => row.session === session), problems = unique(mine.map(row => row.problem));
    fillChart("curves", "search_curves", { curves: mine.map(row => ({ ...row, rank: problems.indexOf(row.problem) })) }, mine, "No trial is on disk.");
  };
  place.replaceChildren(names.length > 1 ? select("Session", names.map(name => [name, name]), show) : "");
  show(names[0]);
}
