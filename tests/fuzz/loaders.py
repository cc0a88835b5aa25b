"""What is fuzzed: valid texts to damage, and how each is read; a reader gets the text and a folder of its own."""

import contextlib
import io
import json
from functools import cache
from unittest import mock

from autotune import cli, device, registry, table
from autotune.config import Config, parse
from autotune.errors import UsageError
from autotune.interchange.foreign import Hints
from autotune.interchange.formats import FORMATS
from autotune.tuning import space
from autotune.tuning.search import storage, study

GPU = device.named("mi355x")
KERNEL = registry.load("norm/rms_norm_quant")
GEMM = registry.load("gemm/fp8_block_scaled")


def one_table():
    problem = (("m", 64), ("n", 2048), ("k", 7168), ("dtype", "e4m3fn"))
    row = table.Row(problem, Config(BLOCK_M=64), "modeled", {"trials": 3}, "triton 3.9", "abc", (("m", 33, 64),))
    return [table.dumps(table.Table("gemm/fp8_block_scaled", "gfx950", "mi355x", "0" * 16, (row,)))]


def read_table(text, folder):
    path = folder / "table.json"
    raw = text.encode("utf-8", "surrogatepass")
    path.write_bytes(raw)
    try:
        loaded = table.load(path)
        assert table.loads(table.dumps(loaded), "again") == loaded
    finally:
        assert path.read_bytes() == raw


def read_space(text, folder):
    path = folder / f"{KERNEL.name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loaded = space.load(KERNEL, GPU, folder)
    assert loaded.check
    assert all(loaded.lists.values())
    assert all(type(value) in (int, str, bool) for values in loaded.lists.values() for value in values)


def read_problem(text, folder):
    problem = parse(GEMM.problem, text)
    assert parse(GEMM.problem, ",".join(f"{n}={getattr(problem, n)}" for n in ("m", "n", "k", "dtype"))) == problem


def read_arguments(text, folder):
    """Commands that read only: exit code 0 or 2, and nothing raised."""
    words = [word for word in text.split(" ") if word]
    with (
        mock.patch.dict("os.environ", {"AUTOTUNE_TABLES": str(folder / "tables"), "AUTOTUNE_STATE": str(folder)}),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        try:
            code = cli.main(["explain", *words])
        except SystemExit as leaving:  # argparse
            code = leaving.code
    assert code in (0, 2), code
    assert not (folder / "tables").exists()
    if code == 2:
        raise UsageError("refused")


@cache
def journal():
    import tempfile
    from pathlib import Path

    lists = space.load(KERNEL, GPU).lists
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j.log"
        opened = study.Search(storage.journal(path), "s", lists, 0)
        configs = space.feasible(space.load(KERNEL, GPU), KERNEL, space.load(KERNEL, GPU).check[0], GPU)
        opened.allow(configs)
        opened.enqueue(configs[:4])
        for config in opened.ask(4):
            opened.tell(config, {"us": 1.0, "code": "x"})
        return path.read_text()


def cut_journal(text, folder):
    """A journal that a kill cut at any byte is resumed: `text` says where, by its length."""
    whole = journal()
    path = folder / "cut.log"
    path.write_text(whole[: len(text) * 7919 % (len(whole) + 1)])
    opened = study.Search(storage.journal(path), "s", space.load(KERNEL, GPU).lists, 0)
    assert all("us" in outcome or "failed" in outcome for outcome in opened.outcomes.values())
    assert len(opened.outcomes) <= 4


def foreign(name, seed):
    def read(text, folder):
        path = folder / "E=8,N=512,device_name=NVIDIA_H100_80GB_HBM3,dtype=fp8_w8a8,block_shape=[128,128].json"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        FORMATS[name].read(path, Hints("h100", "deepseek-v4-pro", "gemm/fp8_block_scaled", ("m", "n", "k")))

    return (lambda: [seed]), read


MOE = json.dumps(
    {str(m): {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 128, "BLOCK_SIZE_K": 128, "GROUP_SIZE_M": 1, "num_warps": 4,
              "num_stages": 3} for m in (1, 64)}
)  # fmt: skip
T4 = json.dumps(
    {"schema_version": "1.0.0", "metadata": {}, "results": [{"configuration": {"BLOCK_M": 64}, "times": {},
     "invalidity": "correct", "measurements": [{"name": "time", "value": 1.0, "unit": "ms"}], "objectives": ["time"]}]}
)  # fmt: skip
LOADERS = {
    "table": (one_table, read_table),
    "space": (lambda: [(space.SPACES / f"{KERNEL.name}.yaml").read_text()], read_space),
    "problem": (lambda: ["m=64,n=2048,k=7168,dtype=e4m3fn"], read_problem),
    "arguments": (lambda: ["gemm/fp8_block_scaled m=64,n=2048,k=7168 --device mi355x --json"], read_arguments),
    "journal": (lambda: ["x" * 4000], cut_journal),
    "vllm": foreign("vllm", MOE),
    "sglang": foreign("sglang", MOE),
    "aiter": foreign("aiter", json.dumps({"M_LEQ_16": json.loads(MOE)["1"], "any": json.loads(MOE)["64"]})),
    "aiter-csv": foreign("aiter-csv", "cu_num,M,N,K,kernelId,splitK,us,kernelName\n256,64,2048,7168,1,0,9.5,a\n"),
    "t4": foreign("t4", T4),
    "triton": foreign(
        "triton", json.dumps({"key": ["1", "2"], "configs_timings": [[{"kwargs": {"BLOCK_M": 64}}, 1.0]]})
    ),
    "fla": foreign("fla", json.dumps({"kernel": "x", "configs": [{"key": [64], "config": {"BLOCK_M": 64}}]})),
}
