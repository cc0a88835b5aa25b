"""Valid texts to damage, and how each is read: a reader gets the text and a folder of its own."""

import json
from functools import cache

import numpy as np
from command_line import LINES, read_line

from autotune import bundle, device, misses, registry, table
from autotune.check import lint
from autotune.config import describe, key, parse
from autotune.interchange import importing
from autotune.interchange.entries import Hints
from autotune.interchange.formats import FORMATS
from autotune.origin import SPACES
from autotune.tuning import space
from autotune.tuning.cost_model import calibration, prior
from autotune.tuning.search import storage, study
from autotune.tuning.session.crash_log import CrashLog

GPU, H100 = device.named("mi355x"), device.named("h100")
NORM = registry.load("norm/rms_norm_quant")
GEMM = registry.load("gemm/fp8_block_scaled")
MOE = registry.load("moe/fp8_grouped_gemm")


def written(path, text):
    """`text` at `path`, and the bytes that must still be there afterwards."""
    raw = text.encode("utf-8", "surrogatepass")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return raw


def one_table(kernel, problems, deterministic=False):
    """A whole table of measured rows, as a session writes it."""
    stamp = {"deterministic": {"order": "any", "over_free": 1.0, "batches": 4}} if deterministic else {}
    rows = []
    for p in problems:
        config, ends = kernel.default(p, H100), ((p.VARYING[0], 1, getattr(p, p.VARYING[0])),)
        known = {"us": 9.5, "trials": 3, "proved_on": [describe(p), "m=1"], "finalists": [dict(config)], **stamp}
        rows.append(table.Row(key(p), config, "measured", known, "triton 3.9.0, ptxas 13.4.59", "abc", ends))
    return table.Table(kernel.name, H100.arch, H100.name, kernel.identity.kernel, tuple(rows), deterministic)


SMALL = GEMM.problem(8, 512, 512)
GEMMS = one_table(GEMM, [GEMM.problem(m, 2048, 7168) for m in (16, 64)])
MOES = one_table(
    MOE, [MOE.problem(m, 8, 256, n, k, g) for m in (1, 64) for n, k, g in ((4096, 7168, True), (7168, 2048, False))]
)


def format_1(made):
    """The text of a table in format 1."""
    rows = [
        {"problem": dict(row.problem), "serves": {name: ends for name, *ends in row.serves}, "config": dict(row.config),
         "tier": row.tier, "evidence": dict(row.evidence), "toolchain": row.toolchain, "code": row.code}
        for row in made.rows
    ]  # fmt: skip
    head = {"format": 1, "kernel": made.kernel, "arch": made.arch, "device": made.device, "source": made.source}
    return json.dumps({**head, "rows": rows})


def read_table(text, folder):
    path = folder / "table.json"
    raw = written(path, text)
    try:
        loaded = table.load(path)
        assert table.dumps(table.loads(table.dumps(loaded), "again")) == table.dumps(loaded)
    finally:
        assert path.read_bytes() == raw


def read_space(text, folder):
    path = folder / f"{NORM.name}.yaml"
    raw = written(path, text)
    loaded = space.load(NORM, GPU, folder)
    assert path.read_bytes() == raw
    assert loaded.check
    assert all(loaded.lists.values())
    assert all(type(value) in (int, str, bool) for values in loaded.lists.values() for value in values)
    assert set(loaded.reduction) <= set(loaded.lists)


def read_problem(text, folder):
    problem = parse(GEMM.problem, text)
    assert parse(GEMM.problem, describe(problem)) == problem


@cache
def journal():
    import tempfile
    from pathlib import Path

    loaded = space.load(NORM, GPU)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.log"
        opened = study.Search(storage.journal(path), "s", loaded.lists, 0)
        configs = space.feasible(loaded, NORM, loaded.check[0], GPU)
        opened.set_feasible(configs)
        opened.enqueue(configs[:4])
        for config in opened.ask(4):
            opened.tell(config, {"us": 1.0, "code": "x"})
        return path.read_bytes(), loaded.lists


def cut_journal(text, folder):
    """A journal that a kill cut at any byte is resumed: `text` is a number, which says where."""
    whole, lists = journal()
    path = folder / "cut.log"
    kept = whole[: sum(map(ord, text)) * 7919 % (len(whole) + 1)]
    path.write_bytes(kept)
    opened = study.Search(storage.journal(path), "s", lists, 0)
    assert all("us" in outcome or "failed" in outcome for outcome in opened.outcomes.values())
    assert len(opened.outcomes) <= 4
    assert path.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1]), "a record that was whole is gone"


def read_journal(text, folder):
    """The lines of a damaged journal before its damage are kept, and the whole file lies beside it."""
    for old in folder.glob("damaged.log*"):
        old.unlink()
    path = folder / "damaged.log"
    raw = written(path, text)
    opened = study.Search(storage.journal(path), "s", journal()[1], 0)
    assert all(isinstance(outcome, dict) for outcome in opened.outcomes.values())
    aside = path.with_name("damaged.log.damaged")
    whole = raw[: raw.rfind(b"\n") + 1]  # a torn line is a kill's
    assert path.read_bytes().startswith(whole) or aside.read_bytes() == whole


def read_crash_log(text, folder):
    """Damaged lines are left out: those configs are tried once more."""
    path = folder / "crash_log/h100.jsonl"
    raw = written(path, text)
    crash_log = CrashLog(folder, "h100")
    assert 0 <= len(crash_log) <= text.count("\n") + 1
    assert path.read_bytes() == raw


def read_misses(text, folder):
    path = folder / "misses.jsonl"
    raw = written(path, text)
    found = misses.read(path)
    assert path.read_bytes() == raw
    lint.missed(found)


def read_bundle(text, folder):
    path = folder / bundle.MANIFEST
    raw = written(path, text)
    bundle.read(folder)
    assert path.read_bytes() == raw


def few_trees():
    packaged = json.loads(prior.PATH.read_text())
    return [json.dumps({**packaged, "trees": packaged["trees"][:2]})]


def read_prior(text, folder):
    """Read a prior and check that it scores every config with a number."""
    path = prior.learned_path(folder)
    raw = written(path, text)
    taught = prior.load.__wrapped__(path)
    assert path.read_bytes() == raw
    rows = np.random.default_rng(0).standard_normal((4, len(prior.FEATURES)))
    assert np.isfinite(taught.score(rows)).all()


def read_calibration(text, folder):
    raw = written(calibration.path(folder), text)
    found = calibration.load(folder)
    assert calibration.path(folder).read_bytes() == raw
    assert calibration.written(found)


EXPERTS = "E=257,N=256,device_name=NVIDIA_H100_80GB_HBM3,dtype=fp8_w8a8,block_shape=[128,128].json"


def foreign_format(name, texts, hints, file=EXPERTS):
    def read(text, folder):
        path = folder / file
        raw = written(path, text)
        report = importing.read(FORMATS[name], [path], hints)
        for (kernel, device_name), rows in report.rows.items():
            good(registry.load(kernel), device.named(device_name), rows)
        # Among other files it is left out, whatever it holds.
        assert importing.read(FORMATS[name], [folder], hints).rows.keys() == report.rows.keys()
        assert path.read_bytes() == raw

    return (lambda: texts), read


def good(kernel, gpu, rows):
    """Each row is one that a table takes, and that the kernel's rules let through."""
    made = table.Table(kernel.name, gpu.arch, gpu.name, "", ()).merged(rows)
    assert table.dumps(table.loads(table.dumps(made), "again")) == table.dumps(made)
    for row in rows:
        problem = kernel.problem(**dict(row.problem))
        assert kernel.forbids(problem, row.config, gpu) is None


def exported(name, *tables):
    return [file.text for file in FORMATS[name].write(list(tables))[0].values()]


BLOCKS = {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 128, "BLOCK_SIZE_K": 128, "GROUP_SIZE_M": 1, "num_warps": 4}
ENGINE = json.dumps({str(m): {**BLOCKS, "num_stages": 3} for m in (1, 64)})
BEST = GEMMS.rows[0].config
KERNEL_TUNER = json.dumps(
    {
        "device_name": "NVIDIA H100 80GB HBM3", "kernel_name": GEMM.name, "problem_size": [64, 2048, 7168],
        "problem": "m=64,n=2048,k=7168,dtype=e4m3fn", "tune_params_keys": list(BEST),
        "tune_params": {name: [value] for name, value in BEST.items()}, "objective": "time",
        "cache": {",".join(map(str, BEST.values())): {**BEST, "time": 0.1, "times": [0.1]}},
    }
)  # fmt: skip
AITER = json.dumps({"M_LEQ_16": {**BLOCKS, "num_stages": 2}, "any": {**BLOCKS, "num_stages": 3, "NUM_KSPLIT": 4}})
CRASH = {"kernel": "norm/x", "source": "0", "toolchain": "t", "problem": "m=1", "config": "B=1", "stage": "measure"}
CRASH |= {"kind": "hang", "reason": "r"}
MISS = {"kernel": GEMM.name, "device": "h100", "how": "default", "problem": dict(GEMMS.rows[0].problem)}
MANIFEST = {
    "format": 1, "arch": "sm_90", "device": "h100", "triton": "3.9.0", "tables": {GEMM.name: "0" * 16},
    "specialisations": [{"kernel": GEMM.name, "problem": {"m": 1}, "config": {"BLOCK_M": 16}, "keys": ["ABC"]}],
}  # fmt: skip
FIT = calibration.Calibration(1.2, 1.4, 50)
HINTS = Hints("h100", "deepseek-v3.2", GEMM.name, tuple(name for name, _ in GEMMS.rows[0].problem))
LINEAR = registry.load("gemm/bf16_linear")
LINEARS = one_table(LINEAR, [LINEAR.problem(m, 2048, 7168) for m in (512, 4096)])
AITER_HINTS = Hints("mi300x")
LOADERS = {
    "table": (lambda: [*map(table.dumps, (GEMMS, one_table(GEMM, [SMALL], True))), format_1(GEMMS)], read_table),
    "space": (lambda: [(SPACES / f"{NORM.name}.yaml").read_text()], read_space),
    "problem": (lambda: ["m=64,n=2048,k=7168,dtype=e4m3fn"], read_problem),
    "arguments": (lambda: LINES, read_line),
    "journal": (lambda: ["x" * 80], cut_journal),
    "damaged journal": (lambda: [journal()[0].decode()], read_journal),
    "crash_log": (lambda: [f"\n{json.dumps(CRASH)}\n\n{json.dumps({'forget': True})}\n"], read_crash_log),
    "misses": (lambda: [json.dumps(MISS) + "\n" + json.dumps({**MISS, "device": "mi355x"}) + "\n"], read_misses),
    "bundle": (lambda: [json.dumps(MANIFEST)], read_bundle),
    "prior": (few_trees, read_prior),
    "calibration": (lambda: [calibration.written({"h100 fp8 gemm": FIT})], read_calibration),
    "vllm": foreign_format("vllm", [ENGINE, *exported("vllm", GEMMS, MOES)], HINTS),
    "sglang": foreign_format("sglang", [ENGINE, *exported("sglang", GEMMS, MOES)], HINTS),
    "aiter": foreign_format("aiter", [AITER], AITER_HINTS, "MI300X-GEMM-A8W8_BLOCKSCALE-N=2048-K=7168.json"),
    "aiter-csv": foreign_format(
        "aiter-csv", ["cu_num,M,N,K,kernelId,splitK,us,kernelName\n256,64,2048,7168,1,0,9.5,a\n"], HINTS, "t.csv"
    ),
    "t4": foreign_format("t4", exported("t4", GEMMS), HINTS),
    "triton": foreign_format("triton", exported("triton", GEMMS), HINTS, "_gemm.autotune.json"),
    "inductor": foreign_format("inductor", exported("inductor", LINEARS), Hints("h100")),
    "fla": foreign_format("fla", exported("fla", GEMMS), HINTS),
    "cachefile": foreign_format("cachefile", [KERNEL_TUNER], HINTS),
}  # fmt: skip
