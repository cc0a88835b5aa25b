"""Other projects' tables: in, out again with the same content, and hostile files."""

import gzip
import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from autotune import device, files, registry, runtime, table
from autotune.cli import main
from autotune.config import Config, key
from autotune.errors import UsageError
from autotune.interchange.entries import Hints
from autotune.interchange.formats import FORMATS
from autotune.interchange.rows import rows as rows_of
from autotune.table import Row, Table
from autotune.tuning import space
from autotune.tuning.measurement.replay import read_cache_file

DENSE = "N=2048,K=7168,device_name={},dtype=fp8_w8a8,block_shape=[128,{}128].json"
TILE = {"BLOCK_SIZE_M": 64, "BLOCK_SIZE_N": 128, "BLOCK_SIZE_K": 128, "GROUP_SIZE_M": 32, "num_warps": 4}
TILE |= {"num_stages": 3}
AITER_TILE = {**TILE, "num_stages": 2, "waves_per_eu": 2, "matrix_instr_nonkdim": 16, "cache_modifier": ".cg"}
AITER_TILE |= {"NUM_KSPLIT": 4, "kpack": 1}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def imported(name, path, **hints):
    entries, left = FORMATS[name].read(path, Hints(**hints))
    rows, refused = rows_of(entries)
    return rows, [one.reason for one in (*left, *refused)]


def exported(name, rows):
    tables = [Table(k, device.named(d).arch, d, "s", ()).merged(ours) for (k, d), ours in rows.items()]
    files, left = FORMATS[name].write([table.loads(table.dumps(one), "here") for one in tables])
    return {file: json.loads(text.text) for file, text in files.items()}, [one.reason for one in left]


@pytest.mark.parametrize(
    ("engine", "name", "gpu", "content"),
    [
        ("vllm", DENSE.format("NVIDIA_H200", ""), "h200", {"1": TILE, "64": TILE}),
        ("sglang", DENSE.format("NVIDIA_B200", " "), "b200", {"1": TILE, "64": TILE, "4096": TILE}),
        ("vllm", DENSE.format("AMD_Instinct_MI300X", ""), "mi300x", {"8": {**TILE, "waves_per_eu": 0, "kpack": 2}}),
    ],
)
def test_dense_files_of_engines_come_back(tmp_path, engine, name, gpu, content):
    content = {m: {**c, "num_stages": 2} if gpu == "mi300x" else c for m, c in content.items()}
    rows, left = imported(engine, write(tmp_path / name, content))
    assert not left
    assert [home for home in rows] == [("gemm/fp8_block_scaled", gpu)]
    assert {row.tier for row in rows["gemm/fp8_block_scaled", gpu]} == {"imported"}
    assert rows["gemm/fp8_block_scaled", gpu][0].evidence["from"] == engine
    assert exported(engine, rows) == ({("configs/" if engine == "sglang" else "") + name: content}, [])


def test_expert_files_need_model_and_come_back(tmp_path):
    folder = tmp_path / "triton_3_4_0"
    up = "E=256,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128].json"
    down = up.replace(".json", "_down.json")
    wide = {**TILE, "BLOCK_SIZE_N": 64}
    write(folder / up, {"16": TILE})
    write(folder / down, {"16": {**wide, "USE_TMA": True}})
    rows, left = imported("sglang", folder / up)
    assert not rows
    assert "--model" in left[0]
    both = {}
    for name in (up, down):
        for home, found in imported("sglang", folder / name, model="deepseek-v3.2")[0].items():
            both[home] = [*both.get(home, []), *found]
    files, left = exported("sglang", both)
    assert not left
    assert files == {
        f"configs/triton_3_4_0/{up}": {"16": TILE},
        f"configs/triton_3_4_0/{down}": {"16": {**wide, "USE_TMA": True}},
    }
    only = exported("vllm", both)
    assert only[1] == ["vLLM takes the first expert GEMM's config for the second one too"]


def test_names_of_engines_are_of_records_and_of_one_each():
    names = [name for gpu in map(device.named, device.names()) for _, given in gpu.aliases for name in given]
    assert len(names) > 20
    assert len({name.lower() for name in names}) == len(names)


def test_intervals_of_aiter_are_rows_that_serve_them(tmp_path, monkeypatch):
    name = "gfx950-GEMM-A8W8_BLOCKSCALE-N=2048-K=7168.json"
    content = {"M_LEQ_16": {**AITER_TILE, "BLOCK_SIZE_M": 16}, "M_LEQ_64": AITER_TILE, "any": AITER_TILE}
    rows, left = imported("aiter", write(tmp_path / name, content))
    assert not left
    assert {gpu for _, gpu in rows} == {"mi350x", "mi355x"}  # AITER's files are for an architecture
    ours = rows[home := ("gemm/fp8_block_scaled", "mi355x")]
    assert [row.serves[0][1:] for row in ours] == [(1, 16), (17, 64), (65, 2**31 - 1)]
    assert ours[1].config["SPLIT_K"] == 4
    assert exported("aiter", rows) == ({name: content}, [])
    gpu = device.named("mi355x")
    kernel = registry.load(home[0])
    table.save(
        Table(home[0], gpu.arch, gpu.name, "s", tuple(ours)), table.path_of(tmp_path, gpu.arch, gpu.name, home[0])
    )
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    runtime.forget()
    asked = {m: runtime.choose(kernel, kernel.problem(m, 2048, 7168), gpu).row for m in (1, 16, 17, 60, 64, 65, 9999)}
    runtime.forget()
    assert [dict(row.problem)["m"] for row in asked.values()] == [16, 16, 64, 64, 64, 65, 65]


def row(m, gpu, tier="measured", **evidence):
    kernel, home = registry.load("gemm/fp8_block_scaled"), device.named(gpu)
    problem = kernel.problem(m, 2048, 7168, home.fp8)
    config = Config({**kernel.default(problem, home), "SPLIT_K": 1})
    return Row(key(problem), config, tier, evidence, "triton 3.9.0", "c")


@pytest.mark.parametrize("name", ["t4", "triton", "fla"])
def test_measured_rows_go_out_and_come_in(tmp_path, name):
    ours = [row(8192, "h200", us=12.5)]
    files, left = FORMATS[name].write([Table("gemm/fp8_block_scaled", "sm_90", "h200", "s", tuple(ours))])
    assert not left
    ((file, written),) = files.items()
    hints = {"kernel": "gemm/fp8_block_scaled", "device": "h200", "key": ("m", "n", "k", "dtype")}
    rows, left = imported(name, write(tmp_path / Path(file).name, written.text), **hints)
    assert not left
    ((found,),) = rows.values()
    assert (found.problem, found.config, found.tier) == (ours[0].problem, ours[0].config, "imported")


def space_of(gpu="h200", **header):
    """Kernel Tuner's cache file of three configs, one of which failed, for the problem of `row(8192, gpu)`."""
    given = row(8192, gpu)
    configs = [Config({**given.config, "num_warps": warps}) for warps in (4, 8, 16)]
    times = [{"time": 0.5, "times": [0.5]}, {"time": 0.25, "times": [0.25]}, {"__error__": "RuntimeFailedConfig"}]
    entries = {str(i): {**config, **time} for i, (config, time) in enumerate(zip(configs, times, strict=True))}
    names = list(given.config)
    return {**header, "tune_params_keys": names, "problem_size": [8192, 2048, 7168], "cache": entries}, given


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_best_of_replay_space_is_imported(tmp_path, suffix):
    content, given = space_of(device_name="NVIDIA H200", kernel_name="gemm/fp8_block_scaled")
    path = tmp_path / f"space.{suffix}"
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    rows, left = imported("cachefile", path, key=("m", "n", "k"))
    assert not left
    (((kernel, gpu), (found,)),) = rows.items()
    assert (kernel, gpu, found.problem) == ("gemm/fp8_block_scaled", "h200", given.problem)
    assert (found.config["num_warps"], found.evidence["foreign_us"]) == (8, 250.0)
    rows, left = imported("cachefile", path)
    assert not rows
    assert "missing problem fields" in left[0]


def test_replay_space_whose_session_was_cut_short_is_read(tmp_path):
    content, _ = space_of(kernel_name="gemm/fp8_block_scaled")
    whole = json.dumps(content)
    path = write(tmp_path / "space.json", whole.removesuffix("}}") + ",")
    assert read_cache_file(path).outcomes == read_cache_file(write(tmp_path / "whole.json", whole)).outcomes
    rows, _ = imported("cachefile", path, device="h200", key=("m", "n", "k"))
    assert rows


def test_small_file_that_unpacks_into_large_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT_BYTES", 1 << 20)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * (2 << 20)))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        files.read_json(path)


def test_flas_own_lookup_finds_what_we_export(tmp_path, monkeypatch):
    folder = os.environ.get("FLA_SOURCE") or _installed("fla")
    if folder is None:
        pytest.skip("fla-core is not installed, and FLA_SOURCE names no unpacked wheel of it")
    monkeypatch.setenv("FLA_CACHE_MODE", "strict")
    monkeypatch.setenv("FLA_CONFIG_DIR", str(tmp_path / "mi355x"))
    spec = importlib.util.spec_from_file_location("fla_cache", Path(folder) / "fla/ops/utils/cache.py")
    fla = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fla_cache", fla)
    spec.loader.exec_module(fla)
    ours = row(8192, "mi355x", us=12.5)
    files, _ = FORMATS["fla"].write([Table("gemm/fp8_block_scaled", "gfx950", "mi355x", "s", (ours,))])
    ((name, file),) = files.items()
    write(tmp_path / name, file.text)
    values = tuple(value for _, value in ours.problem)
    found = fla.load_cached_config(Path(name).stem, fla.AutotuneKey(values))
    assert (found["num_warps"], found["num_ctas"], found["maxnreg"]) == (ours.config["num_warps"], 1, None)
    assert found["kwargs"]["BLOCK_M"] == ours.config["BLOCK_M"]
    assert fla.load_cached_config(Path(name).stem, fla.AutotuneKey((1, *values[1:]))) is None


def test_modeled_range_is_never_written_as_time():
    ours = Table("gemm/fp8_block_scaled", "sm_90", "h200", "s", (row(64, "h200", "modeled", modeled_us_range=[1, 4]),))
    files, left = FORMATS["triton"].write([ours])
    assert not files
    assert "has no time" in left[0].reason
    ((_, file),) = FORMATS["t4"].write([ours])[0].items()
    assert json.loads(file.text)["results"][0]["times"]["runtimes"] == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("N=1,K=2,device_name=../../etc,dtype=fp8_w8a8.json", {"1": TILE}, "file name"),
        (DENSE.format("NVIDIA_H999", ""), {"1": TILE}, "no device record"),
        (DENSE.format("NVIDIA_H200", ""), {"1": {**TILE, "EVIL": 1}}, "unknown field EVIL"),
        (DENSE.format("NVIDIA_H200", ""), {"1": {**TILE, "num_warps": 3}}, "power of two"),
        (DENSE.format("NVIDIA_H200", ""), {"1": {**TILE, "BLOCK_SIZE_M": -64}}, "no size"),
        (DENSE.format("NVIDIA_H200", ""), {"1": {**TILE, "BLOCK_SIZE_M": 10**30}}, "no size"),
        (DENSE.format("NVIDIA_H200", ""), {"1": {**TILE, "BLOCK_SIZE_K": 256}}, "refuses"),
        (DENSE.format("NVIDIA_H200", ""), {"1": {"BLOCK_SIZE_M": 64}}, "lacks"),
    ],
)
def test_what_cannot_be_mapped_is_listed(tmp_path, name, content, reason):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    place = path if "/" in name else path.rename(tmp_path / name)
    rows, left = imported("vllm", place)
    assert not rows
    assert reason in left[0]


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        '{"1": NaN}',
        "[1, 2]",
        '{"1": 5, "1": 6}',
        '{"results": 3, "configs_timings": 3, "autotune_entries": 3}',
        '{"results": [3], "configs_timings": [3], "autotune_entries": {"a": 3}, "kernel_name": "_gemm"}',
        '{"M_LEQ_1": [], "1": []}',
        '"a","b\nc',
        "\x00\xff",
    ],
)
def test_hostile_files_give_no_row_and_are_named(tmp_path, name, text):
    suffix = "csv" if name == "aiter-csv" else "json"
    aiter = "gfx950-GEMM-A8W8_BLOCKSCALE-N=2048-K=7168"
    file = {"vllm": DENSE.format("NVIDIA_H200", "")[:-5], "sglang": DENSE.format("NVIDIA_H200", " ")[:-5]}
    path = tmp_path / f"{file.get(name, aiter)}.{suffix}"
    path.write_text(text, encoding="latin-1")
    hints = {"kernel": "gemm/fp8_block_scaled", "key": ("m", "n", "k")}
    hints |= {} if name == "aiter" else {"device": "h200"}
    try:
        entries, left = FORMATS[name].read(path, Hints(**hints))
    except UsageError as error:
        assert str(path) in str(error)
    else:
        assert not entries
        assert {one.place for one in left} == {str(path)}


def test_bad_file_among_good_ones_is_named_and_left_out(tmp_path, capsys):
    folder = tmp_path / "theirs"
    write(folder / DENSE.format("NVIDIA_H200", ""), {"64": TILE})
    tables = tmp_path / "tables"
    bad = write(folder / DENSE.format("NVIDIA_B200", ""), "{")
    assert main(["import", "vllm", str(bad), "--tables", str(tables)]) == 2
    assert f"{bad}: not JSON" in capsys.readouterr().err
    assert not tables.exists()
    assert main(["import", "vllm", str(folder), "--tables", str(tables)]) == 0
    assert f"left out: {bad}: not JSON" in capsys.readouterr().out
    assert main(["import", "vllm", str(folder), "--tables", str(tables)]) == 0
    out = tmp_path / "out"
    assert main(["export", "sglang", "--device", "h200", "--tables", str(tables), "-o", str(out)]) == 0
    assert json.loads((out / "configs" / DENSE.format("NVIDIA_H200", " ")).read_text()) == {"64": TILE}
    assert main(["import", "vllm", str(tmp_path / "absent"), "--tables", str(tables)]) == 2


def test_imported_rows_are_first_trials(tmp_path):
    """An imported row is an incumbent of the session: its config is tried whatever the model thinks of it."""
    from autotune.tuning.search import storage, study

    lists = {"BLOCK_M": (16, 64), "num_warps": (4, 8)}
    one = study.Search(storage.journal(tmp_path / "log"), "p", lists, 0)
    incumbent = Config(BLOCK_M=64, num_warps=8)
    one.set_feasible([Config(BLOCK_M=b, num_warps=w) for b in (16, 64) for w in (4, 8)])
    one.enqueue([incumbent])
    assert one.ask(1) == [incumbent]


def test_foreign_winner_is_tried_as_nearest_neighbour():
    feasible = [Config(BLOCK_M=b, num_warps=w) for b in (16, 64) for w in (4, 8)]
    assert space.nearest(feasible, Config(BLOCK_M=64, num_warps=16)) == Config(BLOCK_M=64, num_warps=8)
    assert space.nearest(feasible, feasible[2]) is feasible[2]


PEERS = Path(__file__).parents[2] / "benchmarks" / "serving" / "peers.py"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_engines_own_lookup_finds_what_we_export(tmp_path, engine, monkeypatch):
    folder = os.environ.get(f"{engine.upper()}_SOURCE") or _installed(engine)
    if folder is None:
        pytest.skip(f"{engine} is not installed, and {engine.upper()}_SOURCE names no unpacked archive of it")
    spec = importlib.util.spec_from_file_location("peers", PEERS)
    peers = importlib.util.module_from_spec(spec)
    sys.modules["peers"] = peers
    spec.loader.exec_module(peers)
    dense = [row(m, "h200") for m in (1, 64, 4096)]
    files, _ = FORMATS[engine].write([Table("gemm/fp8_block_scaled", "sm_90", "h200", "s", tuple(dense))])
    peer = peers.load(engine, Path(folder), tmp_path, "NVIDIA H200")
    home, _ = (tmp_path / path for path in peer.modules)
    for name, file in files.items():
        write(home.parent / ("" if engine == "sglang" else "configs") / name, file.text)
    found = peer.block_fp8(2048, 7168, 128, 128)
    assert {m: config["BLOCK_SIZE_M"] for m, config in found.items()} == {
        dict(one.problem)["m"]: one.config["BLOCK_M"] for one in dense
    }
    assert all(
        config["num_warps"] == one.config["num_warps"] for config, one in zip(found.values(), dense, strict=True)
    )


def _installed(engine):
    spec = importlib.util.find_spec(engine)
    return str(Path(spec.origin).parents[1]) if spec and spec.origin else None


def test_configs_of_autotune_are_source_without_idle_options():
    configs = [Config(BLOCK=64, num_warps=4, maxnreg=0, num_ctas=1), Config(BLOCK=128, num_warps=8, maxnreg=64)]
    problems = {rows: key(registry.load("norm/rms_norm").problem(rows, 7168)) for rows in (1, 2, 4)}
    ours = [Row(problem, configs[rows > 2], "modeled", {}, "t", "0" * 16) for rows, problem in problems.items()]
    files, _ = FORMATS["configs"].write([Table("norm/rms_norm", "sm_90", "h200", "s", tuple(ours))])
    assert files["h200/norm/rms_norm.configs.py"].text.splitlines() == [
        "# norm/rms_norm on h200: 3 modeled rows.",
        "configs=[",
        '    triton.Config({"BLOCK": 64}, num_warps=4),  # 2 problems, such as rows=1,cols=7168,residual=False',
        '    triton.Config({"BLOCK": 128}, maxnreg=64, num_warps=8),  # rows=4,cols=7168,residual=False',
        "],",
    ]
