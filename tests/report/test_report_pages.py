"""`autotune report` and `tune --report`: pages of one file that fetch nothing, whatever tables hold."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import vl_convert

from autotune import device, packages, registry, runtime, table
from autotune.cli import main
from autotune.config import Config, key
from autotune.report import charts
from autotune.report.embedding import script_json
from autotune.report.html import html
from autotune.report.model_page import devices_with_tables
from autotune.report.session_page import EndedSession, best_so_far, session_page_data
from autotune.tuning.search.trials import Study, Trials
from autotune.tuning.session.progress import Summary

NORM = "norm/rms_norm_quant"
HOSTILE = '</script><script>document.title = "broken"</script><img src="https://example.org/x"><!--'


class Reader(HTMLParser):
    """Elements of a page, and the text of its scripts."""

    def __init__(self):
        super().__init__()
        self.elements, self.scripts = [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


TABLES = ("gemm/fp8_block_scaled", "moe/mxfp4_grouped_gemm", NORM)
ARCHS = {"mi355x": "gfx950", "b200": "sm_100"}


def copied_tables(folder):
    """Copy some committed tables, with a hostile toolchain in all rows of one; return the path of that."""
    for kernel in TABLES:
        for name, arch in ARCHS.items():
            copy = table.path_of(folder, arch, name, kernel)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(table.path_of(runtime.tables_root(), arch, name, kernel), copy)
    path = table.path_of(folder, "sm_100", "b200", NORM)
    held = table.load(path)
    rows = tuple(dataclasses.replace(row, toolchain=HOSTILE) for row in held.rows)
    table.save(dataclasses.replace(held, rows=rows), path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page of two devices, and what the command said."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        path = copied_tables(folder / "tables")
        patch.setenv("AUTOTUNE_TABLES", str(folder / "tables"))
        runtime.forget()
        assert main(["report", "-o", str(folder / "page.html"), "--concurrency", "1,64", "-q"]) == 0
        runtime.forget()
    assert path.is_file()
    return folder / "page.html"


def test_page_refers_to_nothing_outside(made):
    reader = read(made)
    loading = {"src", "srcset", "href", "data", "action", "poster"}
    assert not [element for element in reader.elements if loading & element[1].keys()]
    assert "link" not in {tag for tag, _ in reader.elements}
    (policy,) = [attributes["content"] for _, attributes in reader.elements if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'") and "http" not in policy
    style = made.read_text(encoding="utf-8").split("</style>")[0]
    assert not re.search(r"@import|url\(", style)


def test_page_of_many_devices_weighs_under_5_mb(made):
    size = made.stat().st_size
    data = len(read(made).scripts[0].encode())
    assert size - data + data * 8 * 8 / 3 < 5e6, "16 devices in place of 2, and 8 steps in place of 3"


def test_text_of_tables_stays_text(made):
    reader = read(made)
    assert [tag for tag, _ in reader.elements].count("script") == 3
    assert "img" not in {tag for tag, _ in reader.elements}
    data = json.loads(reader.scripts[0])
    assert HOSTILE in data["rows"]["toolchain"]["words"]


def test_page_says_what_is_modeled(made):
    data = json.loads(read(made).scripts[0])
    assert set(data["rows"]["tier"]["words"]) == {"modeled", "no row"}
    assert data["steps"] == ["decode, 1 request", "decode, 64 requests", "prefill"]
    assert data["devices"]["name"]["words"] == ["mi355x", "b200"]
    assert data["left_out"] == []


@pytest.mark.parametrize("text", [HOSTILE, "\u2028\u2029", "<!--<script>", "plain & simple"])
def test_script_json_is_json_that_ends_no_script(text):
    held = script_json({text: [text]})
    assert json.loads(held) == {text: [text]}
    assert not set(held) & set("<\u2028\u2029")
    with pytest.raises(ValueError, match="JSON"):
        script_json(float("nan"))


@pytest.mark.parametrize("name", charts.by_name())
def test_chart_is_vega_lite(name):
    vl_convert.vegalite_to_vega(charts.by_name()[name])


def test_damaged_table_leaves_out_its_device_unless_named(tmp_path, monkeypatch, capsys):
    path = copied_tables(tmp_path / "tables")
    path.write_text("{")
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    runtime.forget()
    page = tmp_path / "page.html"
    assert main(["report", "-o", str(page), "--concurrency", "4", "--json", "-q"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["devices"] == ["mi355x"]
    assert str(path) in said["left out"]["b200"]
    page.unlink()
    assert main(["report", "-o", str(page), "--device", "b200", "--concurrency", "4", "-q"]) == 2
    assert str(path) in capsys.readouterr().err
    assert not page.exists()
    runtime.forget()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "."], "is a folder; name a file"),
        (["-o", "page.html", "--device", "mi355"], "did you mean 'mi355x'"),
        (["-o", "page.html", "--concurrency", "0"], "positive integers"),
        (["-o", "page.html", "--device", "gb10"], "no figure of its links"),
    ],
)
def test_report_refuses_what_it_cannot_do(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *options, "-q"]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_report_without_any_table_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    assert main(["report", "-o", str(tmp_path / "page.html"), "-q"]) == 2
    assert f"no tables under {tmp_path}" in capsys.readouterr().err


def test_absent_extra_is_named_with_its_command(tmp_path, monkeypatch, capsys):
    absent = packages.absent
    monkeypatch.setattr(packages, "absent", lambda names: [*absent(names), *({"vl_convert"} & set(names))])
    assert main(["report", "-o", str(tmp_path / "page.html")]) == 2
    assert 'vl_convert is not installed; pip install "deepseek-autotune[report]"' in capsys.readouterr().err


def test_rehearsals_are_no_devices_of_the_page(tmp_path):
    for folder in ("sm_100/b200", "gfx950/mi355x.simulated-7", "gfx950/mi355x"):
        (tmp_path / folder / "norm").mkdir(parents=True)
    for folder in ("sm_100/b200", "gfx950/mi355x.simulated-7"):
        (tmp_path / folder / "norm/rms_norm.json").write_text("{}")
    assert devices_with_tables(tmp_path) == ["b200"]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session whose trials, failures and table are written by hand."""
    kernel, gpu = registry.load(NORM), device.named("b200")
    problems = {kernel.problem(rows=rows, cols=7168): 2 for rows in (1, 64)}
    config = kernel.default(next(iter(problems)), gpu)
    path = table.path_of(tmp_path_factory.mktemp("tables"), gpu.arch, gpu.name, NORM)
    rows = tuple(table.Row(key(problem), config, "modeled", {}, "triton 3.9.0", "c0de") for problem in problems)
    table.save(table.Table(NORM, gpu.arch, gpu.name, "source", rows), path)
    summary = Summary(NORM, gpu.name, path, problems=2, rows=2, trials=8, seconds={"search": 2.5, "validate": 1.0})
    summary.reasons[("compile", HOSTILE)] = 3
    outcomes = ({"us": 4.0}, {"failed": "compile", "reason": HOSTILE}, {"us": 2.0}, {"us": 3.0})
    tried = tuple((Config(num_warps=2**at), outcome) for at, outcome in enumerate(outcomes))
    study = Study("rows=64,cols=7168", "source", "triton 3.9.0", 0, "model:1")
    trials = [Trials(NORM, gpu.name, study, problem, tried) for problem in problems]
    return EndedSession(kernel, gpu, problems, summary, trials)


@pytest.fixture(scope="module")
def session_page(session, tmp_path_factory):
    path = tmp_path_factory.mktemp("session") / "page.html"
    path.write_text(html(session_page_data([session])), encoding="utf-8")
    return path


def test_session_page_has_curves_failures_stages_and_rows(session, session_page):
    data = json.loads(read(session_page).scripts[0])
    assert data["curves"]["trial"] == [1, 3, 4] * 2
    assert data["curves"]["over_best"] == [2.0, 1.0, 1.0] * 2
    assert (data["failures"]["words"]["words"], data["failures"]["count"]) == ([HOSTILE], [3])
    assert data["stages"]["seconds"] == [2.5, 1.0]
    assert data["rows"]["calls"] == [2, 2]
    assert data["rows"]["tier"]["words"] == ["modeled"]
    assert sum(data["rows"]["share"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("times", "points"),
    [
        ([], []),
        ([None, None], []),
        ([None, 3.0, 4.0, 2.0], [(2, 3.0), (4, 2.0)]),
        ([3.0, None, 3.0], [(1, 3.0), (3, 3.0)]),
    ],
)
def test_curve_has_improvements_and_last_trial(times, points):
    outcomes = [{"failed": "compile"} if us is None else {"us": us} for us in times]
    assert best_so_far(outcomes) == points


@pytest.mark.thorough
def test_tune_writes_page_of_its_sessions(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    page = tmp_path / "session.html"
    tune = ["tune", NORM, "--device", "b200", "--problem", "rows=64,cols=1536", "--trials", "2", "--jobs", "1", "-q"]
    assert main([*tune, "--tables", str(tmp_path / "tables"), "--report", str(page)]) == 0
    data = json.loads(read(page).scripts[0])
    assert data["sessions"]["rows"] == [1]
    assert data["curves"]["trial"][-1] == 2
    assert data["rows"]["tier"]["words"] == ["modeled"]
    assert data["rows"]["how"]["words"] == ["exact"]


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.implicitly_wait(20)
    yield driver
    driver.quit()


def errors(browser):
    """Errors that the console shows, a refused request among them."""
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.mark.thorough
def test_page_works_in_browser(made, browser):
    from selenium.webdriver.support.select import Select

    def select(label, value):
        chosen = browser.find_element("xpath", f"//label[starts-with(normalize-space(), '{label}')]/select")
        Select(chosen).select_by_value(value)

    def kernels():
        return [node.text for node in browser.find_elements("css selector", "details.kernel > summary b")]

    browser.get(made.as_uri())
    assert browser.title == "deepseek-v4-pro on mi355x, b200"
    assert "nothing was measured" in browser.find_element("css selector", ".banner").text
    for section in ("bars", "map"):
        assert browser.find_elements("css selector", f"#{section} svg"), section
    assert len(browser.find_elements("css selector", "#top tbody tr")) == 10
    every = kernels()
    assert NORM in every and len(every) > 20

    head = browser.find_element("xpath", "//section[@id='top']//th[.='share of step']/button")
    head.click(), head.click()
    shares = [node.text for node in browser.find_elements("css selector", "#top tbody tr td:nth-child(6)")]
    numbers = [float(share.split()[0]) for share in shares]
    assert numbers == sorted(numbers, reverse=True)

    select("Family", "norm")
    assert set(kernels()) == {name for name in every if name.startswith("norm/")}
    select("Family", "")
    select("Tier", "modeled")
    assert set(kernels()) == {"gemm/fp8_block_scaled", "moe/mxfp4_grouped_gemm", NORM}
    select("Tier", "")
    browser.find_element("css selector", "input[type=search]").send_keys("mxfp4")
    assert kernels() == ["moe/mxfp4_grouped_gemm"]
    browser.find_element("css selector", "input[type=search]").clear()
    browser.find_element("css selector", "input[value=mi355x]").click()
    figures = browser.find_elements("css selector", "#figures tbody td:first-child")
    assert {node.text for node in figures} == {"b200"}
    select("Show", "gain over the default")

    browser.get(f"{made.as_uri()}#kernel/{NORM}")
    browser.refresh()
    opened = browser.find_element("css selector", "details[open]")
    assert NORM in opened.text
    assert opened.find_elements("css selector", "svg")
    select("Device", "b200")
    toolchains = {node.text for node in opened.find_elements("css selector", "tbody td:last-child")}
    assert toolchains == {HOSTILE}
    browser.find_element("id", "theme").click()
    assert browser.execute_script("return getComputedStyle(document.documentElement).colorScheme") == "light"
    assert browser.title == "deepseek-v4-pro on mi355x, b200"
    assert not errors(browser)


@pytest.mark.thorough
def test_session_page_works_in_browser(session_page, browser):
    browser.get(session_page.as_uri())
    assert browser.title == f"Tuning of {NORM}"
    for section in ("curves", "stages", "failures"):
        assert browser.find_elements("css selector", f"#{section} svg"), section
    assert HOSTILE in browser.find_element("css selector", "#failures tbody").text
    browser.find_element("css selector", "#sessions tbody a").click()
    assert NORM in browser.find_element("css selector", "details[open]").text
    assert not errors(browser)
