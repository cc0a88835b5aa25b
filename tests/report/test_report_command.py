"""`autotune report`: a page of one file that fetches nothing, whatever tables hold."""

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import vl_convert

from autotune import packages, runtime, table
from autotune.cli import main
from autotune.report import charts
from autotune.report.embedding import script_json
from autotune.report.model_page import devices_with_tables

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


def copied_tables(folder, *devices):
    """Copy committed tables, with a hostile toolchain in all rows of one table; return the path of that."""
    for name in devices:
        shutil.copytree(next(runtime.tables_root().glob(f"*/{name}")), folder / find_arch(name) / name)
    path = table.path_of(folder, "sm_100", "b200", NORM)
    held = table.load(path)
    rows = tuple(dataclasses.replace(row, toolchain=HOSTILE) for row in held.rows)
    table.save(dataclasses.replace(held, rows=rows), path)
    return path


def find_arch(name):
    return next(runtime.tables_root().glob(f"*/{name}")).parent.name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page of two devices, and what the command said."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        path = copied_tables(folder / "tables", "mi355x", "b200")
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
    path = copied_tables(tmp_path / "tables", "mi355x", "b200")
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
        (["-o", "."], "is a folder"),
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


@pytest.mark.thorough
def test_page_works_in_browser(made):
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    from selenium.webdriver.support.select import Select

    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    browser.implicitly_wait(20)

    def select(label, value):
        chosen = browser.find_element("xpath", f"//label[starts-with(normalize-space(), '{label}')]/select")
        Select(chosen).select_by_value(value)

    def kernels():
        return [node.text for node in browser.find_elements("css selector", "details.kernel > summary b")]

    try:
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
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    finally:
        browser.quit()
