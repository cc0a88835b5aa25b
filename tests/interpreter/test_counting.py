"""Counts of the interpreter: a GEMM's are exactly those of its sizes, and every kernel's are those of its formula."""

import pytest

from autotune import device, registry
from autotune.config import Config
from autotune.tuning import kernel_facts
from autotune.tuning.interpreter.counting import PROGRAMS, count

BOUNDS = {"programs": 0, "flops_per_program": 0.05, "bytes_per_program": 0.16, "unique_bytes": 0.1}
"""How far a formula may lie off the count, relative to it."""
ROUTED = [f"moe/{kind}_grouped_gemm" for kind in ("bf16", "fp8", "mxfp4")]
"""Kernels that are counted whole: twelve programs do not meet the share of the grid that has rows."""
LOOSER = {
    # Of 16 loads of old streams 12 come from L1, which the formula leaves out.
    ("hyperconnection/mhc_post_pre", "bytes_per_program"): 0.4,
    # Half of the tiles lie past their tokens; twelve programs do not meet exactly half.
    ("indexer/ragged_logits", "flops_per_program"): 0.25,
    ("indexer/ragged_logits", "bytes_per_program"): 0.25,
    # As many passes as the values need; the formula has a mean.
    ("sampling/top_k_top_p", "bytes_per_program"): 0.35,
    # The formula is of both launches, which do as much.
    ("moe/align", "bytes_per_program"): 0.6,
    # Rows of the open window of which some are not there yet.
    ("compressor/state_write", "unique_bytes"): 0.2,
    # Tokens draw their positions from few, requests would have their own.
    ("indexer/key_prep", "unique_bytes"): 0.6,
    # Grids have room for the worst routing; programs without rows leave at once.
    **{(name, "programs"): 0.4 for name in ROUTED},
    # The formula stores a tile's padding rows too, and B200's default has many of them here.
    ("moe/mxfp4_grouped_gemm", "bytes_per_program"): 0.4,
}


def counted(gpu, name, sizes=None, parameters=None):
    """The counts of a kernel beside its formula, for a problem whose tiles are full."""
    kernel, gpu = registry.load(name), device.named(gpu)
    drawn = {"dtype": gpu.fp8} if "dtype" in kernel.problem.__dataclass_fields__ else {}
    sizes = sizes or kernel_facts.read(name).count
    assert sizes, f"search_spaces/{name}.yaml: count must name a problem whose tiles are full"
    problem = kernel.problem(**sizes, **drawn)
    config = Config({**kernel.default(problem, gpu), **(parameters or {})})
    said = kernel.work(problem, config, gpu)
    counts = count(kernel, problem, config, gpu, 1000 if name in ROUTED else PROGRAMS)
    return {
        "said": vars(said),
        "counted": vars(counts.work(said.dtype)),
        "programs_run": counts.main.counted,
        "flops": counts.main.flops,
        "atomics": sum(launch.atomics for launch in counts.launches),
        "arguments": {argument: vars(traffic) for argument, traffic in counts.main.arguments.items()},
    }


def off(name, row):
    """Fields in which a formula lies off its count by more than its bound."""
    said, seen = dict(row["said"]), dict(row["counted"])
    for work in (said, seen):
        for field in ("flops_per_program", "bytes_per_program"):
            work[field] *= work["programs"]
    for field, bound in BOUNDS.items():
        if field == "flops_per_program" and not row["flops"]:
            continue  # outside the matrix units, where nothing counts operations
        ratio = said[field] / seen[field]
        if abs(ratio - 1) > LOOSER.get((name, field), bound):
            yield f"{name}: {field} x{ratio:.2f} of the count"
    if said["launches"] != seen["launches"]:
        yield f"{name}: {said['launches']} launches, of which {seen['launches']} were counted"


def test_counts_of_gemm_are_those_of_its_sizes():
    row = counted("h100", "gemm/bf16_linear")
    m, n, k, programs = 512, 512, 1024, row["counted"]["programs"]
    # A split of 4: the last program of a tile has parts of others to add, so that all are run.
    assert row["programs_run"] == programs == 64
    assert row["flops"] == {"bf16": 2 * m * n * k} and row["atomics"] == 64
    x, w, partial, out = (row["arguments"][name] for name in ("x_ptr", "w_ptr", "partial_ptr", "out_ptr"))
    # Every tile of 128 x 128 loads its rows of both once.
    assert x["loaded_bytes"] == w["loaded_bytes"] == 2 * 4 * m * k
    assert (x["unique_bytes"], w["unique_bytes"]) == (2 * m * k, 2 * n * k)
    assert partial["loaded_bytes"] == partial["stored_bytes"] == 4 * m * n * 4
    assert (out["loaded_bytes"], out["stored_bytes"]) == (0, 4 * m * n)
    assert row["counted"]["unique_bytes"] == 2 * (m + n) * k + 4 * m * n
    tickets = 64 * (4 + 4) + 16 * 4  # each is added to 4 times, and put back to zero once
    assert row["counted"]["reduction_bytes"] == 2 * 4 * 4 * m * n + 4 * m * n + tickets


@pytest.mark.parametrize(
    "name", ["attention/sparse_mla", "gemm/fp8_block_scaled", "indexer/paged_logits", "norm/rms_norm_quant"]
)
def test_formula_holds_beside_count(name):
    row = counted("h100", name)
    assert row["programs_run"]
    assert not list(off(name, row))


LAYOUTS = [("bf16", 1), ("fp8", 1), ("fp8_584", 64), ("fp8_pools", 1)]
LISTS = {"heads": 16, "keys": 64, "extra_keys": 128}
SERVED = [
    *(
        ("h100", "attention/sparse_prefill", {"tokens": 128, **LISTS, "layout": layout, "page_size": size}, {})
        for layout, size in LAYOUTS
    ),
    *(
        (
            "h100",
            "attention/sparse_decode",
            {"tokens": 4, **LISTS, "layout": layout, "page_size": size, "extra_page_size": size},
            {"SPLIT_KV": split},
        )
        for layout, size in LAYOUTS
        for split in (1, 2)
    ),
    *(
        (gpu, "gemm/mxfp8_mxfp4", {"m": 128, "n": 128, "k": 512}, {"SPLIT_K": split})
        for gpu in ("h100", "b200")
        for split in (1, 2)
    ),
]
"""GPU, kernel, problem and parameters: the layouts, formats and splits that the workload asks for."""


@pytest.mark.thorough
@pytest.mark.parametrize(("gpu", "name", "sizes", "parameters"), SERVED)
def test_formula_of_served_layout_is_within_5_percent(gpu, name, sizes, parameters):
    row = counted(gpu, name, sizes, parameters)
    said, seen = row["said"], row["counted"]
    assert said["programs"] == seen["programs"]
    for field in ("flops_per_program", "bytes_per_program", "unique_bytes"):
        assert said[field] == pytest.approx(seen[field], rel=0.05), field


def test_wrong_formula_is_seen():
    right = {"programs": 4, "flops_per_program": 1e6, "bytes_per_program": 1e6, "unique_bytes": 4e6, "launches": 3}
    row = {
        "said": {**right, "flops_per_program": 16e6, "launches": 1},
        "counted": right,
        "flops": {"bf16": 4e6},
    }
    assert list(off("gemm/none", row)) == [
        "gemm/none: flops_per_program x16.00 of the count",
        "gemm/none: 1 launches, of which 3 were counted",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["h100", "mi300x", "b200"])
@pytest.mark.parametrize("name", registry.names())
def test_formula_of_every_kernel_holds_beside_count(name, gpu):
    assert not list(off(name, counted(gpu, name)))
