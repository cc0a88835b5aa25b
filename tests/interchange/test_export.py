"""Exported files answer at every size through the engine's own lookup, and lose nothing in silence."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from autotune import device, registry, table
from autotune.cli import main
from autotune.config import Config, key
from autotune.interchange import importing, inductor
from autotune.interchange.entries import Hints
from autotune.interchange.formats import FORMATS
from autotune.table import Row, Table

GEMM, MOE, LINEAR = "gemm/fp8_block_scaled", "moe/fp8_grouped_gemm", "gemm/bf16_linear"
SIZES = (*range(1, 300), *(2**n + d for n in range(9, 17) for d in (-1, 0, 1)))


def row(kernel, gpu, tier="measured", serves=(), evidence=None, toolchain="triton 3.9.0, ptxas 13.4.59", **problem):
    """A row of the kernel's default config, changed by fields of `problem` that are written in capitals."""
    found, home = registry.load(kernel), device.named(gpu)
    config = {name: value for name, value in problem.items() if name.isupper() or name.startswith("num_")}
    fields = {name: value for name, value in problem.items() if name not in config}
    asked = found.problem(**fields)
    made = Config({**found.default(asked, home), **({"SPLIT_K": 1} if kernel == GEMM else {}), **config})
    return Row(key(asked), made, tier, evidence or {"us": 9.0}, toolchain, "c", serves)


def read_back(kernel, gpu, *rows):
    """The rows as a table that was saved and read again, in its order."""
    return table.loads(table.dumps(Table(kernel, device.named(gpu).arch, gpu, "s", rows)), "here")


def contents(name, *tables):
    files, left = FORMATS[name].write(list(tables))
    return {file: json.loads(one.text) for file, one in files.items()}, left


BOUNDS = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def as_aiter_looks_up(content, m):
    """AITER's `get_gemm_config`; KeyError where it finds nothing."""
    for bound in BOUNDS:
        if m <= bound and f"M_LEQ_{bound}" in content:
            return content[f"M_LEQ_{bound}"]
    for bound in reversed(BOUNDS):
        if m >= bound and f"M_GEQ_{bound}" in content:
            return content[f"M_GEQ_{bound}"]
    return content["any"]


def test_aiter_finds_entry_at_every_m():
    sizes = {1: 16, 5: 32, 7: 64, 64: 128, 8192: 16, 16384: 32, 65536: 64}
    rows = [row(GEMM, "mi355x", m=m, n=2048, k=7168, BLOCK_N=n) for m, n in sizes.items()]
    files, left = contents("aiter", read_back(GEMM, "mi355x", *rows))
    ((name, content),) = files.items()
    assert name == "gfx950-GEMM-A8W8_BLOCKSCALE-N=2048-K=7168.json"
    served = {m: as_aiter_looks_up(content, m)["BLOCK_SIZE_N"] for m in SIZES}
    assert {m: served[m] for m in (1, 5, 8, 64, 8192, 8193, 65536)} == {
        1: 16,
        5: 64,
        8: 64,
        64: 128,
        8192: 16,
        8193: 32,
        65536: 32,
    }
    assert len(left) == 2  # m=5 beside m=7, and 65536 beside 16384
    assert all("one entry" in one.reason for one in left)


@pytest.mark.parametrize(("engine", "gpu"), [("aiter", "mi355x"), ("sglang", "b200"), ("vllm", "b200")])
def test_engines_get_the_rows_that_scale_as_they_do(engine, gpu):
    native = row(GEMM, gpu, m=64, n=2048, k=7168, ue8m0=True)
    powers = row(GEMM, gpu, m=64, n=2048, k=7168, ue8m0=True, NATIVE_SCALING=False, BLOCK_M=64, BLOCK_N=32)
    fp32 = row(GEMM, gpu, m=64, n=2048, k=7168, BLOCK_M=64, BLOCK_N=64)
    files, left = contents(engine, read_back(GEMM, gpu, native))
    assert (files, len(left)) == ({}, 1)
    assert "NATIVE_SCALING" in left[0].reason
    for rows, columns in (([powers], 32), ([powers, fp32], 64)):
        files, left = contents(engine, read_back(GEMM, gpu, *rows))
        assert {entry["BLOCK_SIZE_N"] for content in files.values() for entry in content.values()} == {columns}
        assert len(left) == len(rows) - 1


def test_aiter_finds_entry_beyond_last_row():
    files, _ = contents("aiter", read_back(GEMM, "mi355x", row(GEMM, "mi355x", m=16, n=2048, k=7168)))
    (content,) = files.values()
    assert set(content) == {"M_LEQ_16", "any"}
    assert all(as_aiter_looks_up(content, m) for m in SIZES)


def moe(gathers, tokens, experts=256, topk=8, hidden=7168, tier="measured", **config):
    n, k = (512, hidden) if gathers else (hidden, 256)
    fields = {"tokens": tokens, "topk": topk, "experts": experts, "n": n, "k": k, "gathers": gathers}
    return row(MOE, "h200", tier, **fields, **config)


def nearest(content, m):
    """The lookup of both engines."""
    return content[min(content, key=lambda size: abs(int(size) - m))]


SHAPE = "E=256,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128]"
FOLDER = "configs/triton_3_9_0"


@pytest.mark.parametrize(
    ("first", "second", "files"),
    [
        ({"BLOCK_M": 16}, {"BLOCK_M": 16}, [""]),
        ({"BLOCK_M": 16}, {"BLOCK_M": 64}, [""]),
        ({"BLOCK_M": 16, "num_warps": 4}, {"BLOCK_M": 16, "num_warps": 8}, ["", "_down"]),
    ],
)
def test_down_gemm_has_file_where_it_differs(first, second, files):
    made, left = contents("sglang", read_back(MOE, "h200", moe(True, 64, **first), moe(False, 64, **second)))
    assert sorted(made) == [f"{FOLDER}/{SHAPE}{down}.json" for down in files]
    assert bool(left) == (first["BLOCK_M"] != second["BLOCK_M"])


def test_both_expert_gemms_agree_in_rows_at_every_size():
    first = [moe(True, m, BLOCK_M=b) for m, b in ((1, 16), (64, 32), (4096, 128))]
    second = [moe(False, 64, BLOCK_M=32, num_warps=8), moe(False, 512, BLOCK_M=64)]
    made, left = contents("sglang", read_back(MOE, "h200", *first, *second))
    up, down = (made[f"{FOLDER}/{SHAPE}{end}.json"] for end in ("", "_down"))
    for m in SIZES:
        assert nearest(up, m)["BLOCK_SIZE_M"] == nearest(down, m)["BLOCK_SIZE_M"]
    assert nearest(down, 70)["num_warps"] == 8
    assert [one.reason for one in left] == [
        "the first expert GEMM has no row of this size, which the engine would look for"
    ]


def test_two_models_of_one_name_do_not_share_file():
    ours = [moe(True, m) for m in (1, 64)]
    others = [moe(True, m, topk=6, hidden=4096, tier="modeled") for m in (1, 64, 128)]
    files, left = contents("vllm", read_back(MOE, "h200", *ours, *others))
    (content,) = files.values()
    assert set(content) == {"1", "64"}
    assert len(left) == 3
    assert "topk=8, hidden=7168" in left[0].reason


def test_rows_of_several_releases_are_one_file_of_newest():
    rows = [moe(True, m) for m in (1, 64)]
    older = Row(*[getattr(rows[0], f) for f in ("problem", "config", "tier", "evidence")], "triton 3.8.0", "c")
    files, _ = contents("sglang", read_back(MOE, "h200", older, rows[1]))
    assert {name: set(content) for name, content in files.items()} == {f"{FOLDER}/{SHAPE}.json": {"1", "64"}}


def test_fields_of_one_engine_do_not_reach_another(tmp_path):
    given = {"BLOCK_SIZE_M": 64, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 128, "GROUP_SIZE_M": 8, "num_warps": 4}
    given |= {"num_stages": 3, "USE_TMA": True, "SWAP_AB": False}
    path = tmp_path / f"{SHAPE}.json"
    path.write_text(json.dumps({"64": given}))
    rows = importing.read(FORMATS["sglang"], [path], Hints(model="deepseek-v3.2")).rows[MOE, "h200"]
    for engine, fields in (("sglang", set(given)), ("vllm", set(given) - {"USE_TMA", "SWAP_AB"})):
        files, left = contents(engine, read_back(MOE, "h200", *rows))
        assert not left
        assert {name for content in files.values() for name in content["64"]} == fields


def test_kernels_of_one_function_name_have_own_files(tmp_path):
    bf16 = "moe/bf16_grouped_gemm"
    fields = {"tokens": 64, "topk": 8, "experts": 256, "n": 512, "k": 7168, "gathers": True}
    tables = [read_back(MOE, "h200", moe(True, 64)), read_back(bf16, "h200", row(bf16, "h200", **fields))]
    files, _ = FORMATS["fla"].write(tables)
    assert len(files) == 2
    for name, file in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(file.text)
    report = importing.read(FORMATS["fla"], [tmp_path], Hints(device="h200"))
    assert set(report.rows) == {(MOE, "h200"), (bf16, "h200")}
    assert not report.left


def test_existing_file_stays_until_overwrite_is_asked(tmp_path, capsys):
    gpu = device.named("h200")
    path = table.path_of(tmp_path / "t", gpu.arch, gpu.name, GEMM)
    table.save(read_back(GEMM, "h200", row(GEMM, "h200", "modeled", m=16, n=2048, k=7168)), path)
    theirs = tmp_path / "out" / "N=2048,K=7168,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128,128].json"
    theirs.parent.mkdir()
    theirs.write_text(json.dumps({str(m): {} for m in range(17)}))
    command = ["export", "vllm", "--device", "h200", "--tables", str(tmp_path / "t"), "-o", str(theirs.parent)]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "17 entries" in said
    assert "1 modeled" in said
    assert len(json.loads(theirs.read_text())) == 17
    assert main([*command, "--overwrite"]) == 0
    assert "1 modeled" in capsys.readouterr().out
    assert set(json.loads(theirs.read_text())) == {"16"}
    assert main(command) == 0  # as it was written


def test_inductors_own_key_finds_what_we_export(tmp_path):
    torch = pytest.importorskip("torch")
    choices = pytest.importorskip("torch._inductor.lookup_table.choices")
    rows = [row(LINEAR, "h200", m=m, n=2048, k=7168, SPLIT_K=1) for m in (512, 4096)]
    whole = [*rows, row(LINEAR, "h200", m=16, n=2048, k=7168, SPLIT_K=4)]
    files, left = contents("inductor", read_back(LINEAR, "h200", *whole))
    ((name, content),) = files.items()
    assert [one.reason for one in left] == ["SPLIT_K=4: inductor's template has no such parameter"]
    call = SimpleNamespace(
        dtypes=lambda: (torch.bfloat16, torch.bfloat16),
        shapes_hinted=lambda: ((512, 7168), (7168, 2048)),
        strides_hinted=lambda: ((7168, 1), (1, 7168)),
        _scalars={},
    )
    asked = f"{choices.LookupTableChoices._generate_kernel_inputs_key(call)}+mm"
    (config,) = content[asked]
    (ours,) = (one.config for one in rows if dict(one.problem)["m"] == 512)
    assert {field: config[field] for field in ours if field in config} == {
        field: value for field, value in ours.items() if field in config
    }
    assert (config["template_id"], config["EVEN_K"]) == (inductor.TEMPLATE, True)
    (tmp_path / name).write_text(json.dumps(content))
    report = importing.read(FORMATS["inductor"], [tmp_path / name], Hints(device="h200"))
    assert [one.config for one in report.rows[LINEAR, "h200"]] == [one.config for one in rows]


def test_inductors_calls_of_other_operands_are_left_out(tmp_path):
    right = inductor.lookup_key(64, 2048, 7168)
    config = [{"template_id": inductor.TEMPLATE, "BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "GROUP_M": 8}]
    config = [{**config[0], "num_warps": 4, "num_stages": 3, "ALLOW_TF32": False}]
    keys = {
        right: config,
        f"NVIDIA H100 80GB HBM3+{right}": config,
        right.replace("[1, 7168]", "[2048, 1]"): config,
        right.replace("bfloat16", "float16"): config,
        right.replace("+mm", "+addmm"): config,
        inductor.lookup_key(65, 2048, 7168): [{"template_id": "aten::mm"}],
        inductor.lookup_key(66, 2048, 7168): "x",
    }
    path = tmp_path / "x.inductor.json"
    path.write_text(json.dumps(keys))
    report = importing.read(FORMATS["inductor"], [path], Hints(device="h200"))
    assert {home: len(rows) for home, rows in report.rows.items()} == {(LINEAR, "h200"): 1, (LINEAR, "h100"): 1}
    assert len(report.left) == 5


@pytest.mark.slow
def test_shipped_tables_come_back_or_have_a_reason(tmp_path, pytestconfig):
    given = pytestconfig.getoption("shipped")
    if given is None:
        pytest.skip("--shipped names no folder with vllm_sglang_best.csv.xz and aiter_configs.tar.xz")
    path = Path(__file__).parents[2] / "benchmarks" / "serving" / "interchange.py"
    spec = importlib.util.spec_from_file_location("benchmark_interchange", path)
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark
    spec.loader.exec_module(benchmark)
    found = dict(benchmark.surveys(Path(given), tmp_path))
    assert found
    for name, survey in found.items():
        assert not survey.different, name
        assert all(one.place and one.reason for one in survey.report.left)
        files = {str(row.evidence["file"]) for rows in survey.report.rows.values() for row in rows}
        named = {Path(one.place).name for one in survey.report.left}
        assert len(files | named) >= 0.9 * survey.files > 0
