"""The committed tables: whole, in their spaces, allowed, proved, and tuned for the sources that are here."""

import pytest

from autotune import device, registry, runtime, table
from autotune.config import build, key
from autotune.tuning import space

PATHS = sorted((table.Path(runtime.__file__).parent / "tuned_configs").glob("*/*/*/*.json"))


@pytest.mark.parametrize("path", PATHS, ids=lambda p: "/".join(p.parts[-3:]))
def test_committed_table(path):
    loaded = table.load(path)
    kernel, gpu = registry.load(loaded.kernel), device.named(loaded.device)
    assert path.parts[-4:] == (gpu.arch, gpu.name, *f"{kernel.name}.json".split("/"))
    assert loaded.source == kernel.identity.kernel, "the kernel changed after tuning: run `make tune`"
    assert loaded.proof == kernel.identity.proof, "the reference changed after tuning: run `autotune validate`"
    lists = space.load(kernel, gpu).lists
    for row in loaded.rows:
        problem = build(kernel.problem, dict(row.problem), str(path))
        assert key(problem) == row.problem
        assert all(row.config[name] in values for name, values in lists.items())
        assert kernel.reject(problem, row.config, gpu) is None
        assert row.tier == "modeled"
        assert row.evidence["proved_on"]
        assert "us" not in row.evidence  # nothing modeled may look measured


TUNED = {"gemm/fp8_block_scaled", "moe/mxfp4_grouped_gemm", "norm/rms_norm_quant"}


@pytest.mark.parametrize("name", ["mi355x", "b200"])
def test_both_devices_have_what_make_tune_tunes(name):
    assert {f"{p.parts[-2]}/{p.stem}" for p in PATHS if p.parts[-3] == name} >= TUNED
