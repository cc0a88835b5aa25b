"""Strangers' files: what is right is taken, everything else is named with its file, its entry and a reason."""

import bz2
import dataclasses
import gzip
import json
import lzma

import pytest

from autotune import device, foreign_text, registry, runtime, table
from autotune.cli import main
from autotune.errors import UsageError
from autotune.interchange import importing
from autotune.interchange.entries import Hints
from autotune.interchange.formats import FORMATS
from autotune.tuning.measurement.replay import recorded

GEMM, MOE = "gemm/fp8_block_scaled", "moe/fp8_grouped_gemm"
CONFIG = {"BLOCK_SIZE_M": 64, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 128, "GROUP_SIZE_M": 1, "num_warps": 4}
CONFIG |= {"num_stages": 2}
OURS = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 128, "GROUP_M": 1, "SPLIT_K": 1, "num_warps": 4, "num_stages": 2}
MODEL = {"model": "deepseek-v3.2"}
KEYED = {"kernel": GEMM, "device": "h100", "key": ("m", "n", "k")}


def dense(gpu, n=2048):
    return f"N={n},K=7168,device_name={gpu},dtype=fp8_w8a8,block_shape=[128,128].json"


def experts(count, inner, tail=",dtype=fp8_w8a8,block_shape=[128, 128]", gpu="NVIDIA_H200"):
    return f"E={count},N={inner},device_name={gpu}{tail}.json"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def taken(name, *paths, **hints):
    return importing.read(FORMATS[name], paths, Hints(**hints))


def reasons(report):
    return [one.reason for one in report.left]


def test_odd_spellings_of_json_are_all_read(tmp_path):
    text = json.dumps({"16": CONFIG})
    spelled = {
        "NVIDIA_H200": b"\xef\xbb\xbf" + text.encode(),
        "NVIDIA_H20": text.encode("utf-16"),
        "NVIDIA_B200": text.replace(", ", ",\r\n").encode(),
        "NVIDIA_GB200": text.replace("}}", ",},} // last\n").encode(),
        "NVIDIA_B300_SXM6_AC": b"/* of May */ # tuned\n" + text.encode(),
    }
    for gpu, content in spelled.items():
        write(tmp_path / dense(gpu), content)
    write(tmp_path / (dense("NVIDIA_L40S") + ".gz"), gzip.compress(text.encode()))
    write(tmp_path / (dense("NVIDIA_L40") + ".xz"), lzma.compress(text.encode()))
    write(tmp_path / dense("NVIDIA_A100-SXM4-80GB"), bz2.compress(text.encode()))  # renamed, still packed
    write(tmp_path / dense("NVIDIA_H100_80GB_HBM3").replace(".json", ".JSON"), text)
    report = taken("vllm", tmp_path)
    assert {gpu for _, gpu in report.rows} | {"a100"} == {
        *("h200", "h20", "b200", "gb200", "b300", "l40s", "l40", "a100", "h100")
    }
    assert all("a100" in reason for reason in reasons(report))  # which has no FP8


def test_folder_gives_what_is_right_and_names_rest(tmp_path):
    good = {"1": CONFIG, "_note": "x", "2": {**CONFIG, "num_stages": 64.0}, "4": [1], "8": {**CONFIG, "num_warps": 3}}
    good |= {"16": {**CONFIG, "BLOCK_SIZE_N": float("nan")}, "32": CONFIG}
    write(tmp_path / dense("NVIDIA_H200"), good)
    named = {
        write(tmp_path / name, text)
        for name, text in {
            "notes.json": '{"a": 1,}',
            dense("NVIDIA_B200"): '{"1": {"BLOCK_SIZE_M": 6',
            dense("NVIDIA_GB200"): "[1]",
            "." + dense("NVIDIA_H20"): json.dumps({"1": CONFIG}),
            f".git/{dense('NVIDIA_H20')}": json.dumps({"1": CONFIG}),
        }.items()
    }
    (tmp_path / "folder.json").mkdir()
    report = taken("vllm", tmp_path)
    ((home, rows),) = report.rows.items()
    assert (home, [dict(row.problem)["m"] for row in rows]) == ((GEMM, "h200"), [1, 32])
    assert {one.place for one in report.left if not one.entry} == {str(path) for path in named}
    here = [one for one in report.left if one.place.endswith(dense("NVIDIA_H200"))]
    assert {one.entry for one in here} == {"_note", "2", "4", "8", "16"}
    assert all(one.reason and str(tmp_path) not in one.reason for one in report.left)


def test_file_named_alone_that_is_cut_short_is_error(tmp_path):
    path = write(tmp_path / dense("NVIDIA_B200"), '{"1": {"BLOCK_SIZE_M": 6')
    with pytest.raises(UsageError, match=r"not JSON.*line 1"):
        taken("vllm", path)
    good = write(tmp_path / dense("NVIDIA_H200"), {"1": CONFIG})
    report = taken("vllm", path, good)
    assert set(report.rows) == {(GEMM, "h200")}
    assert [one.place for one in report.left] == [str(path)]


def test_names_are_whole_in_text_and_json(tmp_path, capsys):
    for gpu in ("NVIDIA_A40", "NVIDIA_L2"):
        write(tmp_path / dense(gpu), {"1": CONFIG})
    assert main(["import", "vllm", str(tmp_path), "--tables", str(tmp_path / "tables")]) == 1
    shown = capsys.readouterr().out
    assert main(["import", "vllm", str(tmp_path), "--tables", str(tmp_path / "tables"), "--json"]) == 1
    listed = json.loads(capsys.readouterr().out)
    for gpu in ("NVIDIA_A40", "NVIDIA_L2"):
        assert f"left out: {tmp_path / dense(gpu)}: no device record is called {gpu!r}" in shown
        assert str(tmp_path / dense(gpu)) in {row["file"] for row in listed}


def triton_file(times):
    configs = [[{"kwargs": {}, **split(warps)}, [ms] * 3] for warps, ms in times.items()]
    return json.dumps({"key": [64, 2048, 7168, "torch.float8_e4m3fn"], "configs_timings": configs})


def split(warps):
    launch = {"num_warps": warps, "num_stages": 2, "num_ctas": 1, "maxnreg": None}
    return {"kwargs": {name: value for name, value in OURS.items() if name.isupper()}, **launch}


def t4_file(times, unit="ms"):
    return json.dumps({"schema_version": "1.0.0", "results": [t4_result(w, ms, unit) for w, ms in times.items()]})


def t4_result(warps, time, unit):
    config = {"m": 64, "n": 2048, "k": 7168, **OURS, "num_warps": warps}
    measured = [{"name": "time", "value": time, "unit": unit}]
    return {"configuration": config, "invalidity": "correct", "measurements": measured}


def cache_file(times):
    entries = {str(w): {**OURS, "num_warps": w, "time": ms} for w, ms in times.items()}
    header = {"device_name": "NVIDIA H100 80GB HBM3", "kernel_name": GEMM, "problem_size": [64, 2048, 7168]}
    return json.dumps({**header, "tune_params_keys": list(OURS), "tune_params": {}, "cache": entries})


TIMED = {"triton": triton_file, "t4": t4_file, "cachefile": cache_file}


@pytest.mark.parametrize("impossible", [0, -1.0, 1e-9, 1e20, float("nan"), float("inf"), True, 10**400])
@pytest.mark.parametrize("name", sorted(TIMED))
def test_impossible_times_never_win(tmp_path, name, impossible):
    path = write(tmp_path / "x.autotune.json", TIMED[name]({8: impossible, 4: 0.02}))
    ((row,),) = taken(name, path, **KEYED).rows.values()
    assert (row.config["num_warps"], row.evidence["foreign_us"]) == (4, 20.0)
    only = write(tmp_path / "y.autotune.json", TIMED[name]({8: impossible}))
    report = taken(name, only, **KEYED)
    assert not report.rows
    assert any("time" in reason for reason in reasons(report))


def test_only_winners_of_triton_cache_are_read(tmp_path):
    write(tmp_path / "A/_k.autotune.json", triton_file({4: 0.02, 8: float("inf")}))
    write(tmp_path / "B/_k.json", '{"hash": "x", "num_warps": 4}')
    write(tmp_path / "B/__grp___k.json", '{"child_paths": {}}')
    report = taken("triton", tmp_path, **KEYED)
    assert len(report.rows[GEMM, "h100"]) == 1
    assert not report.left


@pytest.mark.parametrize(("unit", "us"), [("us", 20.0), ("µs", 20.0), ("ns", 0.02e3 / 1e3), ("s", 20e6), ("", 20e3)])
def test_times_of_t4_have_unit_that_they_state(tmp_path, unit, us):
    value = 20.0 if unit != "ns" else 20.0e3
    ((row,),) = taken("t4", write(tmp_path / "r.json", t4_file({4: value}, unit)), **KEYED).rows.values()
    assert row.evidence["foreign_us"] == pytest.approx(us if unit != "ns" else 20.0)


def test_unit_that_is_none_of_time_is_left_out(tmp_path):
    report = taken("t4", write(tmp_path / "r.json", t4_file({4: 1.0}, "furlongs")), **KEYED)
    assert not report.rows
    assert "furlongs" in reasons(report)[0]


def test_of_mixed_t4_file_faster_config_wins(tmp_path):
    results = [t4_result(4, 20.0, "us"), t4_result(8, 0.03, "ms")]
    text = json.dumps({"schema_version": "1.0.0", "results": results})
    ((row,),) = taken("t4", write(tmp_path / "r.json", text), **KEYED).rows.values()
    assert (row.config["num_warps"], row.evidence["foreign_us"]) == (4, 20.0)


@pytest.mark.parametrize(
    "cut",
    [lambda t: t.removesuffix("}}") + ",", lambda t: t.removesuffix("}}") + ',"9":{"BLOCK_M":6', lambda t: t[:-1]],
)
def test_cache_of_killed_session_gives_its_whole_entries(tmp_path, cut):
    path = write(tmp_path / "space.json", cut(cache_file({4: 0.02, 8: 0.03})))
    ((row,),) = taken("cachefile", path, key=("m", "n", "k")).rows.values()
    assert row.config["num_warps"] == 4
    assert len(recorded(path)) == 2


def test_damaged_entries_of_cache_are_named_alone(tmp_path):
    content = json.loads(cache_file({4: 0.02, 8: 0.01, 2: "SomeLaterError", 1: 0}))
    content["cache"]["x"] = {"BLOCK_M": 64}
    content["cache"]["8"]["time"] = float("nan")
    report = taken("cachefile", write(tmp_path / "space.json", content), key=("m", "n", "k"))
    ((row,),) = report.rows.values()
    assert row.config["num_warps"] == 4
    assert {one.entry for one in report.left} == {"1", "8", "x"}
    before = write(tmp_path / "empty.json", json.dumps({**content, "cache": {}}).removesuffix("}}"))
    assert not taken("cachefile", before, key=("m", "n", "k")).rows


def test_what_file_says_of_its_gpu_stands_against_option(tmp_path):
    path = write(tmp_path / "space.json", cache_file({4: 0.02}))
    assert set(taken("cachefile", path, key=("m", "n", "k"), device="h200").rows) == {(GEMM, "h100")}


@pytest.mark.parametrize(
    ("count", "inner", "topk"), [(256, 256, 8), (256, 2048, 8), (257, 256, 9), (264, 256, 9), (257, 128, 9)]
)
def test_expert_files_of_model_are_its_problems(tmp_path, count, inner, topk):
    report = taken("sglang", write(tmp_path / experts(count, inner), {"64": CONFIG}), **MODEL)
    problems = [dict(row.problem) for row in report.rows[MOE, "h200"]]
    assert [(p["experts"], p["topk"], p["n"], p["k"]) for p in problems] == [
        (count, topk, 2 * inner, 7168),
        (count, topk, 7168, inner),
    ]


@pytest.mark.parametrize(
    ("count", "inner", "model", "why"),
    [
        (8, 2048, "deepseek-v3.2", "may be a rank's"),
        (16, 1024, "deepseek-v3.2", "may be a rank's"),
        (128, 2048, "deepseek-v3.2", "may be a rank's"),
        (160, 256, "deepseek-v3.2", "are not"),
        (256, 192, "deepseek-v3.2", "no split"),
        (256, 0, "deepseek-v3.2", "no split"),
        (0, 256, "deepseek-v3.2", "are not"),
        (256, 256, "deepseek-v4-flash", "FP4"),
    ],
)
def test_expert_files_of_other_models_are_left_out(tmp_path, count, inner, model, why):
    report = taken("vllm", write(tmp_path / experts(count, inner), {"64": CONFIG}), model=model)
    assert not report.rows
    assert why in reasons(report)[0]


def test_bf16_may_be_written_into_expert_files_name(tmp_path):
    name = experts(256, 256, ",dtype=bf16")
    report = taken("vllm", write(tmp_path / name, {"64": CONFIG}), **MODEL)
    rows = report.rows["moe/bf16_grouped_gemm", "h200"]
    files, _ = FORMATS["vllm"].write([table.Table("moe/bf16_grouped_gemm", "sm_90", "h200", "s", tuple(rows))])
    assert set(files) == {name}


def through_disk(report):
    """The report's tables, as they are read again."""
    homes = {home: device.named(home[1]) for home in report.rows}
    made = [table.Table(k, homes[k, g].arch, g, "s", ()).merged(rows) for (k, g), rows in report.rows.items()]
    return [table.loads(table.dumps(one), "here") for one in made]


def test_block_k_is_what_engine_launches(tmp_path):
    wide = {**CONFIG, "BLOCK_SIZE_K": 256}
    moe = taken("vllm", write(tmp_path / "a" / experts(256, 256), {"64": wide}), **MODEL)
    assert {row.config["BLOCK_K"] for row in moe.rows[MOE, "h200"]} == {128}
    (file,) = FORMATS["vllm"].write(through_disk(moe))[0].values()
    assert json.loads(file.text) == {"64": wide}
    (file,) = FORMATS["sglang"].write(through_disk(moe))[0].values()
    assert json.loads(file.text)["64"]["BLOCK_SIZE_K"] == 128  # SGLang would launch 256, and read wrong scales
    gemm = write(tmp_path / "b" / dense("NVIDIA_H200"), {"64": wide})
    assert "must divide" in reasons(taken("vllm", gemm))[0]  # its dense GEMM launches 256
    narrow = write(tmp_path / "c" / dense("AMD_Instinct_MI355X"), {"64": {**CONFIG, "BLOCK_SIZE_K": 64}})
    for engine, block_k in (("vllm", 64), ("sglang", 128)):
        assert taken(engine, narrow).rows[GEMM, "mi355x"][0].config["BLOCK_K"] == block_k


AITER = {**CONFIG, "waves_per_eu": 2, "matrix_instr_nonkdim": 16, "cache_modifier": ".cg", "NUM_KSPLIT": 1}


def test_aiter_splits_no_further_than_its_blocks_reach(tmp_path):
    given = {"any": {**AITER, "BLOCK_SIZE_K": 128, "NUM_KSPLIT": 16}}
    name = "gfx950-GEMM-A8W8_BLOCKSCALE-N=2048-K=1024.json"
    report = taken("aiter", write(tmp_path / name, given), device="mi355x")
    assert report.rows[GEMM, "mi355x"][0].config["SPLIT_K"] == 8
    assert json.loads(FORMATS["aiter"].write(through_disk(report))[0][name].text) == given


def test_aiters_older_names_are_of_products(tmp_path):
    path = write(tmp_path / "MI350X-GEMM-A8W8_BLOCKSCALE-N=2048-K=7168.json", {"any": AITER})
    report = taken("aiter", path)
    assert {gpu for _, gpu in report.rows} == {"mi350x", "mi355x"}
    older = {"small": AITER, "medium_M32": AITER, "any": AITER, "M_LEQ_320": AITER, "_note": "x", "M_LEQ_64": AITER}
    report = taken("aiter", write(path, older))
    assert {one.entry for one in report.left} == {"small", "medium_M32", "any", "M_LEQ_320", "_note"}
    assert [row.serves for row in report.rows[GEMM, "mi355x"]] == [(("m", 1, 64),)]
    newer = write(tmp_path / "gfx950-GEMM-A8W8_BLOCKSCALE-N=2048-K=7168.json", {"M_LEQ_64": {**AITER, "num_warps": 8}})
    report = taken("aiter", path, newer, device="mi355x")
    assert report.rows[GEMM, "mi355x"][0].config["num_warps"] == 8
    assert any(str(newer) in reason for reason in reasons(report))


@pytest.mark.parametrize(
    ("gpu", "option", "named", "home"),
    [
        ("AMD_Radeon_Graphics", "mi355x", False, "mi355x"),
        ("0x75b0", "mi355x", False, "mi355x"),
        ("", "h200", False, "h200"),
        ("NVIDIA_H20-3e", "h20", False, "h20_3e"),
        ("NVIDIA_A100-SXM-64GB", "a100", False, "a100"),
        ("NVIDIA_A100-SXM-64GB", "h200", False, None),
        ("NVIDIA_L2", "h20", False, None),
        ("NVIDIA_L2", "h20", True, "h20"),
        ("NVIDIA_L2", "mi355x", True, None),
        ("AMD_Radeon_Graphics", "h200", True, None),
        ("NVIDIA_H200", "h20", True, "h200"),
    ],
)
def test_option_speaks_for_gpus_that_name_does_not_tell(tmp_path, gpu, option, named, home):
    path = write(tmp_path / dense(gpu), {"1": CONFIG})
    report = taken("vllm", path if named else tmp_path, device=option)
    assert [gpu for _, gpu in report.rows] == ([home] if home else [])
    assert home or gpu in reasons(report)[0]


def test_two_names_of_one_gpu_are_one_row_and_two_files(tmp_path, capsys):
    other = {**CONFIG, "num_warps": 8}
    write(tmp_path / "f" / dense("AMD_Instinct_MI325X"), {"1": CONFIG, "2": CONFIG, "4": CONFIG})
    write(tmp_path / "f" / dense("AMD_Instinct_MI325_OAM"), {"1": other, "2": CONFIG, "8": CONFIG})
    tables = ["--tables", str(tmp_path / "t")]
    assert main(["import", "vllm", str(tmp_path / "f"), "--json", *tables]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    loaded = table.load(table.path_of(tmp_path / "t", "gfx942", "mi325x", GEMM))
    assert said["rows"] == len(loaded.rows) == 4
    assert main(["export", "vllm", "--device", "mi325x", "-o", str(tmp_path / "out"), "--json", *tables]) == 0
    assert [row["rows"] for row in json.loads(capsys.readouterr().out)] == [3, 3]
    for path in (tmp_path / "f").iterdir():
        assert json.loads((tmp_path / "out" / path.name).read_text()) == json.loads(path.read_text())


def test_rows_that_better_one_keeps_out_are_not_counted(tmp_path, capsys):
    write(tmp_path / "f" / dense("NVIDIA_H200"), {"1": CONFIG, "2": CONFIG})
    command = ["import", "vllm", str(tmp_path / "f"), "--json", "--tables", str(tmp_path / "t")]
    assert main(command) == 0
    path = table.path_of(tmp_path / "t", "sm_90", "h200", GEMM)
    better, *others = table.load(path).rows
    better = dataclasses.replace(better, tier="measured")
    table.update(path, lambda now: dataclasses.replace(now, rows=(better, *others)))
    capsys.readouterr()
    assert main(command) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["rows"] == 1
    assert "better tier" in second["reason"]


def test_of_triton_releases_newest_number_is_taken_whole(tmp_path):
    for version, warps, sizes in (("3_2_0", 4, "1 2"), ("3_10_0", 8, "1"), ("3_9_1", 2, "4")):
        content = {size: {**CONFIG, "num_warps": warps} for size in sizes.split()}
        write(tmp_path / f"triton_{version}" / experts(256, 256), content)
    report = taken("sglang", tmp_path, **MODEL)
    rows = report.rows[MOE, "h200"]
    assert {(row.toolchain, row.config["num_warps"]) for row in rows} == {("triton 3.10.0", 8)}
    assert sum("Triton 3.10.0" in reason for reason in reasons(report)) == 3


def test_second_gemm_tuned_apart_follows_its_file_alone(tmp_path):
    write(tmp_path / experts(256, 256), {"1": CONFIG, "64": CONFIG})
    write(tmp_path / experts(256, 256).replace(".json", "_down.json"), {"1": {**CONFIG, "num_warps": 8}})
    rows = taken("sglang", tmp_path, **MODEL).rows[MOE, "h200"]
    problems = [(dict(row.problem)["gathers"], dict(row.problem)["tokens"]) for row in rows]
    assert sorted(problems) == [(False, 1), (True, 1), (True, 64)]


def test_measured_winner_with_idle_threads_is_taken_and_served(tmp_path, monkeypatch):
    idle = {**AITER, "BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 32, "num_warps": 8}
    path = write(tmp_path / "gfx942-GEMM-A8W8_BLOCKSCALE-N=2048-K=7168.json", {"M_LEQ_64": idle})
    (row,) = taken("aiter", path, device="mi300x").rows[GEMM, "mi300x"]
    kernel, gpu = registry.load(GEMM), device.named("mi300x")
    problem = kernel.problem(**dict(row.problem))
    assert "idle" in kernel.reject(problem, row.config, gpu)
    assert kernel.forbids(problem, row.config, gpu) is None
    table.save(table.Table(GEMM, gpu.arch, gpu.name, "s", (row,)), table.path_of(tmp_path, gpu.arch, gpu.name, GEMM))
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    runtime.forget()
    assert runtime.choose(kernel, problem, gpu).row == row
    assert runtime.choose(kernel, kernel.problem(4096, 2048, 7168, gpu.fp8), gpu).how == "default"
    runtime.forget()
    for wrong in ({"BLOCK_SIZE_K": 256}, {"num_warps": 32}, {"BLOCK_SIZE_N": 48}):
        assert not taken("aiter", write(path, {"any": {**idle, **wrong}}), device="mi300x").rows


def test_flas_files_with_defaults_and_odd_keys_are_read(tmp_path):
    entry = {"autotune_key": [64, 2048, 7168, "e4m3fn"], "config": {**split(4)}}
    odd = {**entry, "autotune_key": [64.5, 2048, 7168, "e4m3fn"]}
    content = {"kernel_name": "_gemm", "triton_version": ["3", "5"], "default_config": split(4)}
    path = write(tmp_path / "_gemm.json", {**content, "autotune_entries": {"a": entry, "b": odd, "c": 3}})
    report = taken("fla", path, kernel=GEMM, device="h100")
    ((row,),) = report.rows.values()
    assert row.toolchain == "unknown"
    assert {one.entry for one in report.left} == {"default_config", "b", "c"}


def test_csv_with_mark_before_its_first_column_is_read(tmp_path):
    path = write(tmp_path / "t.csv", b"\xef\xbb\xbfM,N,K,us,kernelName\r\n1,2,3,4.5,a\r\n1,2\r\n1,2,3,4,5,6\r\n\r\n")
    report = taken("aiter-csv", path)
    assert [one.entry for one in report.left] == ["line 2", "line 3", "line 4"]
    assert "columns" in reasons(report)[2]
    stranger = write(tmp_path / "untuned.csv", "a,b\n1,2\n")
    assert "neither" in reasons(taken("aiter-csv", tmp_path))[-1]
    assert stranger.exists()


@pytest.mark.parametrize("hostile", ["[" * 10**6, '{"' + '\\"' * 10**6, '{"a": 1' + "0" * 10**6, "/*" * 10**6])
def test_long_hostile_texts_are_refused(hostile):
    with pytest.raises(UsageError):
        foreign_text.parse_loose_json(hostile, "x")
    foreign_text.closed(hostile, 2)
