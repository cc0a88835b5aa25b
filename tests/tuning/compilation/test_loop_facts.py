"""Facts of hot loops: how wide loads are, whether they pass the registers by, and what is not matrix work."""

import json

import pytest

from autotune import device, registry
from autotune.cli import main
from autotune.config import key
from autotune.tuning.compilation.instructions import hot_loop
from autotune.tuning.compilation.loop_facts import facts_of
from autotune.tuning.jobs import loop_job
from autotune.tuning.workers.worker import Job


@pytest.mark.parametrize(
    ("vendor", "loop", "kind", "width"),
    [
        ("nvidia", ["LDG.E.128", "LDG.E.U8", "HGMMA.64x64x16.F32.BF16"], "registers", 8.5),
        ("nvidia", ["LDGSTS.E.BYPASS.LTC128B.128", "LDG.E"], "asynchronous", 10.0),
        ("nvidia", ["UTMALDG.2D", "LDG.E"], "bulk", None),
        ("nvidia", ["FADD"], "none", None),
        ("amd", ["global_load_dwordx4", "global_load_ubyte"], "registers", 8.5),
        ("amd", ["buffer_load_dwordx4.lds", "buffer_load_dword"], "asynchronous", 10.0),
        ("amd", ["global_load_b128", "global_load_u16"], "registers", 9.0),
    ],
)
def test_loads_are_told_by_width_and_way(vendor, loop, kind, width):
    facts = facts_of(loop, vendor)
    assert (facts.load_kind, facts.load_bytes) == (kind, width)


def test_counts_are_of_one_turn():
    loop = ["LDGSTS.E.128", "LDS.128", "LDTM.x64", "UTCQMMA", "FFMA2", "FMUL2", "BAR.SYNC.DEFER_BLOCKING", "BRA"]
    facts = facts_of(loop, "nvidia")
    assert (facts.instructions, facts.matrix, facts.lanes, facts.loads) == (8, 1, 2, 1)
    assert (facts.shared, facts.tensor_memory, facts.barriers) == (1, 1, 1)
    assert facts.matrix_share == 1 / 8
    assert facts.others_a_load == 7


def test_amd_loads_into_shared_memory_are_named_apart():
    listing = "\n".join(
        [".LBB0_1:", "\tbuffer_load_dwordx4 v1, s[0:3], 0 offen lds", "\tv_mfma_f32_16x16x32_bf16 a[0:3], v0, v1",
         "\ts_cbranch_scc1 .LBB0_1", "\ts_endpgm"]
    )  # fmt: skip
    assert hot_loop(listing, "amd")[0] == "buffer_load_dwordx4.lds"


@pytest.mark.parametrize(
    ("gpu", "kind", "tensor_memory"), [("h200", "asynchronous", False), ("b200", "asynchronous", True)]
)
def test_promotion_reads_tensor_memory_in_every_turn(gpu, kind, tensor_memory):
    kernel, target = registry.load("gemm/fp8_block_scaled"), device.named(gpu)
    problem = kernel.problem(64, 2048, 7168)
    answer = loop_job(Job(kernel.name, key(problem), kernel.default(problem, target), gpu))["loop"]
    assert (answer["load_kind"], answer["tensor_memory"] > 0) == (kind, tensor_memory)
    assert answer["matrix"] == 4


def test_limits_of_a_call_are_shown(capsys):
    words = ["compile", "gemm/bf16_linear", "m=64,n=384,k=7168", "--target", "h200,gfx950", "--limits", "--json"]
    assert main(words) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["target"] for row in rows] == ["h200", "gfx950"]
    for row in rows:
        assert row["bound us"] == pytest.approx(max(row["bytes us"], row["flops us"]) + row["launch us"], abs=0.02)
        assert row["bound us"] <= row["best us"] <= row["this us"]
        assert row["matrix"] > 0 and row["reason"] is None


def test_limits_of_an_npu_are_refused(capsys):
    assert main(["compile", "gemm/bf16_linear", "--target", "ascend950", "--limits"]) == 2
    assert "--limits reads machine code of GPUs" in capsys.readouterr().err
