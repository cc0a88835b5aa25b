"""A release of an engine is read out of its wheel piece by piece, and our tables are held against its lookups."""

import io
import json
import zipfile
from urllib.error import URLError

import pytest

from autotune import device, registry, table
from autotune.check import engine_lint, engine_source
from autotune.check.engine_source import RangeFile, Release
from autotune.cli import main
from autotune.config import Config, key
from autotune.errors import UsageError
from autotune.interchange import plugins
from autotune.interchange.vllm_sglang import DENSE
from autotune.table import Row, Table

GPU = device.named("h200")
FILES = {
    "vllm/plugins/__init__.py": 'GROUP = "vllm.general_plugins"',
    "vllm/envs.py": "VLLM_BATCH_INVARIANT: bool = False",
    "vllm/model_executor/layers/quantization/utils/fp8_utils.py": (
        "def get_w8a8_block_fp8_configs(N, K, block_n, block_k): return None"
    ),
    "vllm/model_executor/layers/fused_moe/fused_moe.py": "def get_moe_configs(E, N, dtype, block_n, block_k): ...",
    "vllm/model_executor/layers/fused_moe/configs/E=8,N=64,device_name=NVIDIA_H200.json": "{}",
    "vllm/engine/large.py": "x = 1\n" * 500_000,
    "vllm-1.0.dist-info/METADATA": "Requires-Dist: torch==2.14.0",
}
LARGE = "vllm/engine/large.py"


class Index:
    """A package index with one wheel, which answers ranges and counts the bytes that it sent."""

    def __init__(self, monkeypatch, ranges=True):
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in FILES.items():
                archive.writestr(name, text)
        self.wheel, self.ranges, self.sent = wheel.getvalue(), ranges, 0
        monkeypatch.setattr(engine_source, "urlopen", self)

    def __call__(self, request, timeout):
        if request.full_url == f"{engine_source.INDEX}/vllm/":
            names = ["vllm-1.0-cp38-abi3-manylinux_2_28_x86_64.whl", "vllm-1.0.tar.gz"]
            return self.answer(
                json.dumps({"files": [{"filename": n, "url": f"https://x/{n}"} for n in names]}).encode()
            )
        if not request.full_url.endswith("x86_64.whl"):
            raise URLError("no such package")
        asked = request.get_header("Range")
        if asked is None or not self.ranges:
            return self.answer(self.wheel)
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        self.sent += last + 1 - first
        return self.answer(self.wheel[first : last + 1])

    @staticmethod
    def answer(content):
        answer = io.BytesIO(content)
        answer.headers = {"Content-Length": str(len(content))}
        return answer


def test_wheel_is_read_piece_by_piece(monkeypatch):
    index = Index(monkeypatch)
    monkeypatch.setattr(engine_source, "_CHUNK", 1000)
    with zipfile.ZipFile(RangeFile("https://x/x86_64.whl")) as archive:
        assert {name: archive.read(name).decode() for name in FILES if name != LARGE} == {
            name: text for name, text in FILES.items() if name != LARGE
        }
    assert index.sent < len(index.wheel) / 50


def test_release_holds_what_is_wanted_and_is_fetched_once(tmp_path, monkeypatch):
    index = Index(monkeypatch)
    for _ in range(2):
        release = engine_source.find("vllm==1.0", tmp_path)
    assert release.text("vllm.envs") == FILES["vllm/envs.py"]
    assert not (release.folder / LARGE).exists()
    assert index.sent < 2 * len(index.wheel)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [release.folder.name]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("tgi==1.0", "must be one of sglang, vllm"),
        ("vllm==2.0", "has no such wheel"),
        ("sglang==0.5.0", "cannot be read from"),
    ],
)
def test_release_that_cannot_be_had_is_refused(tmp_path, monkeypatch, wanted, reason):
    Index(monkeypatch)
    with pytest.raises(UsageError, match=reason):
        engine_source.find(wanted, tmp_path)


def test_server_without_ranges_is_refused(tmp_path, monkeypatch):
    Index(monkeypatch, ranges=False)
    with pytest.raises(UsageError, match="no range requests"):
        engine_source.find("vllm==1.0", tmp_path)
    assert not (tmp_path / "vllm-1.0-source").exists()


def release_of(folder, **changes):
    for name, text in {**FILES, **changes}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Release("vllm", "1.0", folder)


def save(root, **changes):
    kernel = registry.load(DENSE)
    problem = kernel.problem(64, 2048, 7168)
    config = Config({**kernel.default(problem, GPU), "PERSISTENT": False, "SPLIT_K": 1, **changes})
    rows = (Row(key(problem), config, "measured", {"us": 2.0}, "triton 3.9.0", "c"),)
    path = table.path_of(root, GPU.arch, GPU.name, DENSE)
    table.save(Table(DENSE, GPU.arch, GPU.name, kernel.identity.kernel, rows), path)


def test_rows_that_the_engine_reads_are_shown(tmp_path):
    save(tmp_path / "tables")
    files, findings = engine_lint.read(tmp_path / "tables", release_of(tmp_path / "engine"))
    assert {one.tiers for one in files} == {"1 measured"}
    assert all(one.device == "h200" and one.name.startswith("N=2048,K=7168") for one in files)
    assert findings == []


def test_rows_that_the_engine_cannot_run_are_dead(tmp_path):
    save(tmp_path / "tables", SPLIT_K=4)
    files, findings = engine_lint.read(tmp_path / "tables", release_of(tmp_path / "engine"))
    assert files == []
    assert ["SPLIT_K=4" in one.reason for one in findings] == [True]


@pytest.mark.parametrize("source", ["", "def get_moe_configs(E, N, shape): ...", "get_moe_configs = None"])
def test_lookup_that_moved_makes_all_rows_dead(tmp_path, source):
    save(tmp_path / "tables")
    (home,) = plugins.HOMES["vllm"][plugins.EXPERTS]
    release = release_of(tmp_path / "engine", **{f"{home.replace('.', '/')}.py": source})
    files, findings = engine_lint.read(tmp_path / "tables", release)
    assert files == []
    assert [one.kind for one in findings] == ["dead"]


def test_engines_own_files_that_no_lookup_builds_are_dead(tmp_path):
    folder = "vllm/model_executor/layers/fused_moe/configs"
    names = (
        "E=8,N=64,device_name=NVIDIA_H200_141GB,dtype=fp8_w8a8.json",
        "E=8,N=64,device_name=NVIDIA_B200,dtype=fp8_w8a8,block_shape=[128, 128].json",
    )
    release = release_of(tmp_path, **{f"{folder}/{name}": "{}" for name in names})
    _, findings = engine_lint.read(tmp_path / "tables", release)
    assert sorted(one.place for one in findings) == sorted(f"{folder}/{name}" for name in names)


def test_lint_shows_what_a_release_reads(tmp_path, monkeypatch, capsys):
    Index(monkeypatch)
    save(tmp_path / "tables")
    main(["lint", "--tables", str(tmp_path / "tables"), "--engine", "vllm==1.0"])
    said = capsys.readouterr().out
    assert "read by vllm==1.0" in said
    assert "1 measured" in said
